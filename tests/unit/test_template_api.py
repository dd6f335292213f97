"""The HTTP API in `template.yaml`: off by default, never public, least privilege."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from core.settings import (
    ApiSettings,
    MediaLimits,
    ModelSettings,
    ScoreSettings,
    SegmentationSettings,
    SpeakerSettings,
    read,
)
from handlers.api.app import ALLOWED_HEADERS, EXPOSED_HEADERS
from tests.support.cloudformation import RESOURCES, TEMPLATE, properties
from tools.invoke import API_FUNCTION, API_HANDLER, FUNCTION

ROOT = Path(__file__).parents[2]
API = {name: resource for name, resource in RESOURCES.items() if name.startswith("Api")}
ROUTES = {name: resource["Properties"] for name, resource in API.items() if resource["Type"].endswith("::Route")}
POWERTOOLS = {"POWERTOOLS_LOG_LEVEL"}


def variables() -> dict[str, Any]:
    found: dict[str, Any] = properties(API_FUNCTION)["Environment"]["Variables"]
    return found


def test_the_api_is_off_by_default() -> None:
    assert TEMPLATE["Parameters"]["ApiAuth"]["Default"] == "off"
    assert TEMPLATE["Conditions"]["HasApi"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ApiAuth"}, "off"]}]}
    assert len(API) > 8
    for name, resource in API.items():
        assert resource["Condition"] == ("HasTokens" if name == "ApiAuthorizer" else "HasApi")


def test_every_route_requires_authorisation() -> None:
    assert TEMPLATE["Parameters"]["ApiAuth"]["AllowedValues"] == ["off", "iam", "jwt"]
    assert sorted(route["RouteKey"] for route in ROUTES.values()) == ["GET /", "GET /{proxy+}", "POST /{proxy+}"]
    for route in ROUTES.values():
        assert route["AuthorizationType"] == {"Fn::If": ["HasTokens", "JWT", "AWS_IAM"]}
        assert route["AuthorizerId"]["Fn::If"][:2] == ["HasTokens", {"Ref": "ApiAuthorizer"}]
    assert len(TEMPLATE["Rules"]["TokensHaveAnIssuerAndAnAudience"]["Assertions"]) == 2


def test_requests_are_throttled_and_logged_without_ids() -> None:
    stage = properties("ApiStage")
    settings = stage["DefaultRouteSettings"]
    assert settings["ThrottlingRateLimit"] == {"Ref": "ApiRatePerS"}
    assert settings["ThrottlingBurstLimit"] == {"Ref": "ApiBurst"}
    line = json.loads(stage["AccessLogSettings"]["Format"])
    assert "path" not in str(line).lower()
    # `iam` identifies the caller by the ARN, `jwt` by the subject of the token.
    assert line["caller"] == "$context.identity.userArn"
    assert line["subject"] == "$context.authorizer.claims.sub"


def test_the_api_runs_the_same_image_with_another_command() -> None:
    function = properties(API_FUNCTION)
    assert function["ImageConfig"]["Command"] == [API_HANDLER]
    assert RESOURCES[API_FUNCTION]["Metadata"] == RESOURCES[FUNCTION]["Metadata"], (
        "different metadata would build the image twice"
    )
    assert function["MemorySize"] == properties(FUNCTION)["MemorySize"]
    assert function["Timeout"] < properties("ApiIntegration")["TimeoutInMillis"] / 1000
    assert properties("ApiIntegration")["PayloadFormatVersion"] == "2.0"


def test_an_alarm_watches_the_errors_of_api_gateway() -> None:
    alarm = properties("ApiErrorsAlarm")
    assert (alarm["Namespace"], alarm["Dimensions"]) == ("AWS/ApiGateway", [{"Name": "ApiId", "Value": {"Ref": "Api"}}])


def test_only_this_api_may_invoke_the_function() -> None:
    permission = properties("ApiPermission")
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert permission["SourceArn"]["Fn::Sub"].endswith(":${Api}/*")


def test_every_environment_variable_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = (ApiSettings, SegmentationSettings, MediaLimits, ModelSettings, ScoreSettings, SpeakerSettings)
    fields = {name.upper() for group in groups for name in group.model_fields}
    assert set(variables()) <= fields | POWERTOOLS
    # Both functions accept the same recordings and give the same results.
    uploads = properties(FUNCTION)["Environment"]["Variables"]
    shared = set(variables()) & set(uploads)
    assert {name: variables()[name] for name in shared} == {name: uploads[name] for name in shared}
    assert {name for name in uploads if name.lower() in MediaLimits.model_fields} <= shared

    defaults = {name: str(parameter.get("Default")) for name, parameter in TEMPLATE["Parameters"].items()}
    for name, value in variables().items():
        monkeypatch.setenv(name, value if isinstance(value, str) else defaults.get(value["Ref"], "a-bucket"))
    assert read(ApiSettings).uploads_bucket == "a-bucket"


def test_api_gateway_and_the_app_have_the_same_cors_headers() -> None:
    condition, cors, _ = properties("Api")["CorsConfiguration"]["Fn::If"]
    assert condition == "HasOtherSites"
    assert cors["AllowHeaders"] == list(ALLOWED_HEADERS)
    assert cors["ExposeHeaders"] == list(EXPOSED_HEADERS)
    assert cors["AllowMethods"] == ["GET", "POST"]


def test_the_template_and_the_setting_accept_the_same_origins() -> None:
    pattern = TEMPLATE["Parameters"]["ApiAllowedOrigins"]["AllowedPattern"]
    setting = next(each.pattern for each in ApiSettings.model_fields["api_allowed_origins"].metadata)
    assert pattern == setting
    for text, good in [
        ("", True),
        ("https://a.example,http://b:1", True),
        ("*", False),
        ("https://a/", False),
        ("https://A.example", False),
    ]:
        assert bool(re.match(pattern, text)) is good


def test_browsers_may_post_to_the_bucket_from_named_origins_only() -> None:
    condition, rules, otherwise = properties("UploadsBucket")["CorsConfiguration"]["Fn::If"]
    (rule,) = rules["CorsRules"]
    assert (condition, otherwise) == ("HasApi", {"Ref": "AWS::NoValue"})
    assert rule["AllowedMethods"] == ["POST"]
    assert "*" not in str(rule["AllowedOrigins"])
