"""Published versions in `template.yaml`: a new one for each change of the function, and none without a change.

CloudFormation publishes a version for a new logical id, and for a new description, because a change of the description
replaces the version. Lambda refuses to publish a function that has not changed since its last version. Sources: `Update
requires` in https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-lambda-version.html, and
https://github.com/serverless/serverless/issues/8251.
"""

from functools import cache
from typing import Any

import pytest

from tests.support.cloudformation import TEMPLATE, Deployed

PARAMETERS: dict[str, dict[str, Any]] = TEMPLATE["Parameters"]
OTHER_TEXTS = {
    "UnsureBelow": "0.655",
    "ExistingUploadsBucket": "recordings",
    "ExistingUploadsKeys": "calls/*.wav",
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/1",
    "UploadsKmsKeyArns": "arn:aws:kms:us-east-1:123456789012:key/2",
    "ResultsPrefix": "others/",
    "EventBus": "calls",
    "AlarmEmail": "a@example.com",
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    "JwtIssuer": "https://issuer.example",
    "JwtAudience": "callers",
    "ApiAllowedOrigins": "https://site.example",
}
NOT_VERSIONED = {"ReservedConcurrentExecutions", "Tags"}
"""Properties of the function that a version does not record."""


def other_value(name: str) -> str:
    """Return an accepted value of a parameter that is not its default."""
    described = PARAMETERS[name]
    if "AllowedValues" in described:
        return str(next(value for value in described["AllowedValues"] if value != described["Default"]))
    return str(described["Default"] + 1) if described["Type"] == "Number" else OTHER_TEXTS[name]


def longest_value(name: str) -> str:
    """Return an accepted value of a parameter with the most characters."""
    described = PARAMETERS[name]
    if "AllowedValues" in described:
        return str(max(map(str, described["AllowedValues"]), key=len))
    if described["Type"] == "Number":
        return str(described.get("MaxValue", described["Default"]))
    return "x" * (described.get("MaxLength", 2) - 1) + "/" if name == "ResultsPrefix" else OTHER_TEXTS[name]


@cache
def deployed(image: str = "1", **parameters: str) -> Deployed:
    return Deployed(**parameters).transformed(image)


def versions(stack: Deployed) -> dict[str, dict[str, Any]]:
    """Return each published version by its logical id."""
    found = stack.resources("AWS::Lambda::Version")
    assert found
    return found


def recorded(stack: Deployed) -> dict[str, Any]:
    """Return what a new version would record of each function that publishes versions."""
    described = stack.described("AWS::Lambda::Version").values()
    functions = {resource["Properties"]["FunctionName"]["Ref"] for resource in described}
    properties = stack.resources("AWS::Lambda::Function")
    return {
        function: {name: value for name, value in properties[function].items() if name not in NOT_VERSIONED}
        for function in functions
    }


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_a_parameter_publishes_a_version_if_and_only_if_it_changes_the_function(parameter: str) -> None:
    before, after = deployed(), deployed(**{parameter: other_value(parameter)})
    is_changed = recorded(before) != recorded(after)
    assert (versions(before) != versions(after)) is is_changed


def test_the_settings_of_a_backfill_change_the_function() -> None:
    # The test above would also pass for a function without parameters.
    changing = {name for name in PARAMETERS if recorded(deployed(**{name: other_value(name)})) != recorded(deployed())}
    assert changing == {
        "MaxDurationS",
        "MaxSizeBytes",
        "Channels",
        "Speakers",
        "UnsureBelow",
        "ResultsPrefix",
        "Reports",
        "DeleteResults",
        "Architecture",
        "MemorySizeMb",
        "TimeoutS",
        "EphemeralStorageMb",
        "LogLevel",
        "Tracing",
    }


def test_a_new_image_publishes_a_version() -> None:
    assert versions(deployed()).keys().isdisjoint(versions(deployed(image="2")))


def test_two_changed_parameters_do_not_cancel_out() -> None:
    # For example, 60 s of audio and 300 s of time against 300 s of audio and 60 s of time.
    first = deployed(MaxDurationS="60", TimeoutS="300", MemorySizeMb="4000", EphemeralStorageMb="5000")
    second = deployed(MaxDurationS="300", TimeoutS="60", MemorySizeMb="5000", EphemeralStorageMb="4000")
    assert versions(first) != versions(second)


def test_the_longest_description_of_a_version_is_accepted() -> None:
    parameters = {name: longest_value(name) for name in PARAMETERS if PARAMETERS[name]["Default"] != ""}
    assert len(parameters["ResultsPrefix"]) == PARAMETERS["ResultsPrefix"]["MaxLength"]
    for version in versions(Deployed(**parameters).transformed()).values():
        assert 0 < len(version["Description"]) <= 256


def test_a_version_outlives_its_successor_but_its_function_does_not_outlive_the_stack() -> None:
    for version in deployed().described("AWS::Lambda::Version").values():
        # Retained when another logical id or another description takes its place.
        assert (version["DeletionPolicy"], version["UpdateReplacePolicy"]) == ("Retain", "Retain")
    for function in deployed().described("AWS::Lambda::Function").values():
        assert function.get("DeletionPolicy", "Delete") == "Delete"


def test_every_other_resource_has_both_policies_or_none() -> None:
    # The template suppresses cfn-lint's rule W3011, which checks the pairs.
    single = {
        name
        for name, resource in TEMPLATE["Resources"].items()
        if len({"DeletionPolicy", "UpdateReplacePolicy"} & set(resource)) == 1
    }
    assert single == {"BackfillFunction"}


def test_the_next_backfill_uses_the_newest_version() -> None:
    (logical_id,) = versions(deployed())
    assert TEMPLATE["Outputs"]["BackfillVersionArn"]["Value"] == {"Ref": "BackfillFunction.Version"}
    alias = deployed().described("AWS::Lambda::Alias")["BackfillFunctionAliaslive"]
    assert alias["Properties"]["FunctionVersion"] == {"Fn::GetAtt": [logical_id, "Version"]}
