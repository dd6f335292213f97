"""The means of `template.yaml` to watch a stack: dashboard, budget, traces, tags, and the pause switch."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from core.operations import prices
from tests.support.cloudformation import STACK, TEMPLATE, Deployed

ROOT = Path(__file__).parents[2]
WATCHED = {"Dashboard": "true", "MonthlyBudget": "50", "AlarmEmail": "a@example.com"}

AWS_METRICS = {
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    ("AWS/SQS", "QueueName"): {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
        "NumberOfMessagesSent",
    },
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    ("AWS/Lambda", "FunctionName"): {"Duration", "Errors", "Invocations", "Throttles"},
}
"""Metrics that AWS emits with a single dimension."""
NAMED_BY = {
    "QueueName": ("AWS::SQS::Queue", "QueueName"),
    "FunctionName": ("AWS::Serverless::Function", "FunctionName"),
}

_INVOCATIONS = """
import importlib, json, sys
from core.delivery import Outcome
from core.errors import StorageUnavailable
from core.local.workers import LocalContext
from core.results import Result
from handlers import processing

class Scripted:
    settings = processing.settings.read(processing.FunctionSettings)
    results = [Result.model_validate(document) for document in json.loads(sys.argv[1])]
    errors = [StorageUnavailable("S3 is down."), ZeroDivisionError()]
    def deliver(self, *_):
        if self.results:
            return Outcome("stored", "results/a.wav.json", self.results.pop())
        raise self.errors.pop()

class Queue:
    def __init__(self, url):
        pass
    def hide(self, *_):
        return True

scripted = Scripted()
processing.delivery = lambda: scripted
processing.queue = Queue
module, _, name = sys.argv[2].rpartition(".")
context = LocalContext(60.0, function_name=sys.argv[3])
for _ in range(len(scripted.results) + len(scripted.errors)):
    getattr(importlib.import_module(module), name)(json.loads(sys.argv[4]), context)
"""


def documents() -> list[dict[str, Any]]:
    """Return a result of each status."""
    model = {"id": "m", "revision": "r", "precision": "fp32", "fingerprint": "sha256:x", "labels": ["anger", "sad"]}
    common = {
        "schema_version": "1.1",
        "source": {"bucket": "b", "key": "a.wav", "version_id": "v", "etag": "e", "size_bytes": 1},
        "model": model,
        "processing": {
            "finished_at": "2026-01-01T00:00:00Z",
            "decode_ms": 1,
            "inference_ms": 1,
            "request_id": "r",
            "version": "1",
        },
    }
    return [
        {**common, "status": "classified", "emotion": "anger", "score": 0.9, "scores": {"anger": 0.9, "sad": 0.1}},
        {**common, "status": "no_speech"},
        {**common, "status": "failed", "error": {"code": "damaged", "message": "It is damaged."}},
    ]


@cache
def output(function: str, event: str) -> tuple[dict[str, Any], ...]:
    """Return the lines that a function of the stack prints for results, a transient error and a crash."""
    properties = Deployed().resources()[function]
    (handler,) = properties["ImageConfig"]["Command"]
    payload = (ROOT / "events" / event).read_text(encoding="utf-8")
    arguments = [json.dumps(documents()), handler, properties["FunctionName"], payload]
    done = subprocess.run(
        [sys.executable, "-c", _INVOCATIONS, *arguments],
        env={**os.environ, **properties["Environment"]["Variables"]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(json.loads(line) for line in done.stdout.splitlines())


def printed() -> list[dict[str, Any]]:
    """Return the lines that both functions print."""
    uploads = output("ClassifyFunction", "sqs-s3-put.json")
    return [*uploads, *output("BackfillFunction", "batch-operations-2.0.json")]


def emitted() -> set[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Return namespace, name and sorted dimensions of each metric that the functions emit."""
    return {
        (group["Namespace"], metric["Name"], tuple(sorted((name, line[name]) for name in names)))
        for line in printed()
        for group in line.get("_aws", {}).get("CloudWatchMetrics", [])
        for names in group["Dimensions"]
        for metric in group["Metrics"]
    }


@cache
def widgets(stack: str = STACK, **place: str) -> tuple[dict[str, Any], ...]:
    body = Deployed(stack=stack, **WATCHED, **place).resources()["StackDashboard"]["DashboardBody"]
    return tuple(json.loads(body)["widgets"])


def shown() -> list[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Return namespace, name and sorted dimensions of each metric on the dashboard."""
    rows = [row for widget in widgets() for row in widget["properties"].get("metrics", [])]
    metrics = []
    for row in rows:
        if isinstance(row[0], dict):
            continue  # an expression
        namespace, name, *rest = [item for item in row if isinstance(item, str)]
        metrics.append((namespace, name, tuple(sorted(zip(rest[::2], rest[1::2], strict=True)))))
    return metrics


def queries() -> list[str]:
    return [widget["properties"]["query"] for widget in widgets() if widget["type"] == "log"]


# ------------------------------------------------------------------------------------------------------ dashboard


def test_there_is_no_dashboard_by_default() -> None:
    assert Deployed().resources("AWS::CloudWatch::Dashboard") == {}
    assert "DashboardUrl" not in Deployed().outputs()


def test_the_functions_emit_the_product_s_metrics_of_the_dashboard() -> None:
    own = {metric for metric in shown() if not metric[0].startswith("AWS/")}
    assert own <= emitted()
    assert {name for _, name, _ in own} == {"Classified", "NoSpeech", "Failed", "Retried", "Crashed", "ColdStart"}


def test_aws_emits_the_other_metrics_for_resources_of_the_stack() -> None:
    stack = Deployed(**WATCHED)
    others = [metric for metric in shown() if metric[0].startswith("AWS/")]
    assert others
    for namespace, name, ((dimension, value),) in others:
        assert name in AWS_METRICS[namespace, dimension]
        kind, named = NAMED_BY[dimension]
        assert value in {resource[named] for resource in stack.resources(kind).values()}


def test_the_dashboard_reads_fields_of_the_log_lines() -> None:
    lines = [line for line in printed() if line.get("message") == "recording"]
    selected = {"classified": "emotion", "failed": "error"}
    assert len(queries()) == len(selected)
    for query in queries():
        conditions = dict(re.findall(r"(\w+) = '(\w+)'", query))
        assert conditions.keys() == {"message", "status"}
        [field] = re.findall(r" by (\w+) \|", query)
        assert selected[conditions["status"]] == field
        found = [line for line in lines if all(line.get(name) == value for name, value in conditions.items())]
        assert len(found) == 2, "one of each function"
        assert {line[field] for line in found} == {{"emotion": "anger", "error": "damaged"}[field]}


def test_the_dashboard_reads_the_logs_of_the_stack() -> None:
    groups = {group["LogGroupName"] for group in Deployed().resources("AWS::Logs::LogGroup").values()}
    for query in queries():
        sources = re.findall(r"SOURCE '([^']+)'", query)
        assert set(sources) == groups
        assert query.startswith(" | ".join(f"SOURCE '{source}'" for source in sources) + " | filter ")


def test_the_dashboard_shows_every_alarm_that_a_stack_always_has() -> None:
    (alarms,) = [widget["properties"]["alarms"] for widget in widgets() if widget["type"] == "alarm"]
    always = Deployed().resources("AWS::CloudWatch::Alarm")
    assert {arn.rpartition(":")[2] for arn in alarms} == {f"{STACK}-{name}" for name in always}


def test_the_estimated_cost_uses_the_prices_of_a_backfill_s_estimate() -> None:
    [(row, *metrics)] = [
        widget["properties"]["metrics"]
        for widget in widgets()
        if isinstance(widget["properties"].get("metrics", [[""]])[0][0], dict)
    ]
    expression = row[0]["expression"]
    ids = {metric[-1]["id"]: metric[1] for metric in metrics}
    assert set(re.findall(r"\b[a-z]\d\b", expression)) == set(ids)
    # In an hour: 1,000 recordings of 2 s each, in one invocation each.
    values = {"Duration": 1_000_000, "Invocations": 500, "Classified": 900, "NoSpeech": 60, "Failed": 40}
    arithmetic = re.sub(r"\b([a-z]\d)\b", lambda match: str(values[ids[match[1]]]), expression)
    requests_usd = (
        (prices.RESULT_PUTS + prices.LEASE_PUTS) * prices.S3_WRITE_USD
        + (prices.UPLOAD_READS + prices.RESULT_READS) * prices.S3_READ_USD
        + 3 * 0.40e-6  # SQS: a message is sent, received and deleted (docs/decisions/0034-prices.md)
    )
    expected = 2000 * 3008 / 1024 * prices.GB_S_USD["x86_64"] + 1000 * (prices.INVOCATION_USD + requests_usd)
    assert eval(arithmetic, {"SUM": sum, "__builtins__": {}}) == pytest.approx(expected, rel=1e-5)


def test_the_estimated_cost_uses_the_price_of_the_architecture() -> None:
    for architecture, price in prices.GB_S_USD.items():
        stack = Deployed(Architecture=architecture, **WATCHED).resources()
        assert f"/1024*{price:.10f}+" in stack["StackDashboard"]["DashboardBody"]


def test_the_widgets_fill_the_grid_without_overlap() -> None:
    cells = [
        (x, y)
        for widget in widgets()
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(cells) == len(set(cells)) == 24 * (max(y for _, y in cells) + 1)


def test_two_stacks_have_different_dashboards() -> None:
    def name(stack: str, region: str) -> str:
        return str(Deployed(stack=stack, region=region, **WATCHED).resources()["StackDashboard"]["DashboardName"])

    assert len({name("a", "eu-west-1"), name("b", "eu-west-1"), name("a", "us-east-1")}) == 3
    assert not set(map(str, widgets("a"))) & set(map(str, widgets("b")))


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", "eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("aws-cn", "cn-north-1", "cn-north-1.console.amazonaws.cn"),
    ],
)
def test_the_dashboard_has_a_url(partition: str, region: str, host: str) -> None:
    url = Deployed(partition=partition, region=region, **WATCHED).outputs()["DashboardUrl"]
    name = f"{STACK}-{region}"
    assert url == f"https://{host}/cloudwatch/home?region={region}#dashboards:name={name}"


# ----------------------------------------------------------------------------------------------- budget and tags


def test_a_budget_counts_the_tagged_resources_of_the_stack_and_its_region() -> None:
    assert Deployed(AlarmEmail="a@example.com").resources("AWS::Budgets::Budget") == {}
    properties = Deployed(**WATCHED).resources()["Budget"]
    assert properties["Budget"]["BudgetLimit"] == {"Amount": "50", "Unit": "USD"}
    [(key, value)] = Deployed().resources()["ClassifyFunction"]["Tags"].items()
    assert properties["Budget"]["CostFilters"] == {"TagKeyValue": [f"user:{key}${value}"], "Region": ["us-east-1"]}
    for notified in properties["NotificationsWithSubscribers"]:
        assert notified["Subscribers"] == [{"SubscriptionType": "EMAIL", "Address": "a@example.com"}]
    kinds = [notified["Notification"]["NotificationType"] for notified in properties["NotificationsWithSubscribers"]]
    assert kinds == ["FORECASTED", "ACTUAL"]


def test_a_budget_has_the_currency_of_the_account() -> None:
    china = Deployed(partition="aws-cn", region="cn-north-1", **WATCHED)
    assert china.resources()["Budget"]["Budget"]["BudgetLimit"]["Unit"] == "CNY"


@pytest.mark.parametrize("region", ["us-gov-west-1", "us-gov-east-1"])
def test_a_region_without_budgets_gets_none(region: str) -> None:
    assert "Budget" not in Deployed(partition="aws-us-gov", region=region, **WATCHED).resources()


def test_a_budget_needs_an_address() -> None:
    rule = TEMPLATE["Rules"]["ABudgetHasARecipient"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "MonthlyBudget"}, 0]}]}
    [assertion] = rule["Assertions"]
    assert assertion["Assert"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmEmail"}, ""]}]}


UNTAGGED = {
    "AWS::ApiGatewayV2::Authorizer",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::Budgets::Budget",
    "AWS::CloudWatch::Dashboard",
    "AWS::Events::Rule",
    "AWS::Glue::Database",
    "AWS::Glue::Table",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::Lambda::Permission",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
}
"""Kinds of resources that cannot have tags, or cost nothing."""


def test_every_resource_that_costs_money_has_the_tag_of_the_stack() -> None:
    stack = Deployed(stack="staging", ApiAuth="jwt", Analytics="athena", EventBus="default", **WATCHED)
    for name, resource in stack.resources().items():
        if TEMPLATE["Resources"][name]["Type"] in UNTAGGED:
            continue
        tags = resource["Tags"]
        found = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        assert found == {"audio-emotion-stack": "staging"}, name


# ---------------------------------------------------------------------------------------------- pause and traces


@pytest.mark.parametrize(("paused", "is_enabled"), [("false", True), ("true", False)])
def test_a_paused_stack_takes_no_messages_from_the_queue(paused: str, is_enabled: bool) -> None:
    [mapping] = Deployed(Paused=paused).transformed().resources("AWS::Lambda::EventSourceMapping").values()
    assert mapping["Enabled"] is is_enabled


def test_a_pause_changes_nothing_else() -> None:
    running, paused = (Deployed(Paused=value).transformed().resources() for value in ("false", "true"))
    assert [name for name in running if running[name] != paused[name]] == ["ClassifyFunctionUpload"]


@pytest.mark.parametrize(("tracing", "mode"), [("none", "PassThrough"), ("xray", "Active")])
def test_every_function_sends_traces_if_requested(tracing: str, mode: str) -> None:
    functions = Deployed(Tracing=tracing, ApiAuth="iam").transformed().resources("AWS::Lambda::Function")
    assert [function["TracingConfig"] for function in functions.values()] == [{"Mode": mode}] * 3
