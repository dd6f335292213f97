"""Metrics and alarms in `template.yaml`: each stack has its own, although stacks of one region share a namespace."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloudformation import Deployed

ROOT = Path(__file__).parents[2]

_CRASHING_INVOCATION = """
import importlib, json, sys
from core.local.workers import LocalContext
from handlers import processing

class Broken:
    settings = processing.settings.read(processing.FunctionSettings)
    def deliver(self, *_):
        raise ZeroDivisionError

class Queue:
    def __init__(self, url):
        pass
    def hide(self, *_):
        return True

processing.delivery = Broken
processing.queue = Queue
module, _, name = sys.argv[1].rpartition(".")
context = LocalContext(60.0, function_name=sys.argv[2])
getattr(importlib.import_module(module), name)(json.load(sys.stdin), context)
"""


Metric = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, name and dimensions. CloudWatch keeps a metric for each combination."""


def alarms(stack: Deployed) -> Iterable[Any]:
    return stack.resources("AWS::CloudWatch::Alarm").values()


def watched_metric(alarm: Any) -> Metric:
    dimensions = frozenset((dimension["Name"], dimension["Value"]) for dimension in alarm["Dimensions"])
    return alarm["Namespace"], alarm["MetricName"], dimensions


def emitted_metrics(stack: Deployed, function: str, event: str) -> set[Metric]:
    """Return the metrics of an invocation that crashes, with the variables of the stack's function."""
    properties = stack.resources()[function]
    (handler,) = properties["ImageConfig"]["Command"]
    # The variables that Powertools would read, as another layer or an operator may set them.
    others = {"POWERTOOLS_SERVICE_NAME": "another", "POWERTOOLS_METRICS_NAMESPACE": "Another"}
    environment = {**os.environ, **others, **properties["Environment"]["Variables"]}
    done = subprocess.run(
        [sys.executable, "-c", _CRASHING_INVOCATION, handler, properties["FunctionName"]],
        input=(ROOT / "events" / event).read_text(encoding="utf-8"),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if '"_aws"' in line]
    return {
        (group["Namespace"], metric["Name"], frozenset((name, line[name]) for name in names))
        for line in lines
        for group in line["_aws"]["CloudWatchMetrics"]
        for names in group["Dimensions"]
        for metric in group["Metrics"]
    }


@pytest.mark.parametrize(
    ("function", "event"), [("ClassifyFunction", "sqs-s3-put.json"), ("BackfillFunction", "batch-operations-2.0.json")]
)
def test_the_alarms_watch_exactly_the_metrics_of_their_stack(function: str, event: str) -> None:
    stack = Deployed(stack="staging")
    emitted = emitted_metrics(stack, function, event)
    watched = {
        (
            alarm["Namespace"],
            alarm["MetricName"],
            frozenset((each["Name"], each["Value"]) for each in alarm["Dimensions"]),
        )
        for alarm in alarms(stack)
        if not alarm["Namespace"].startswith("AWS/")
    }
    assert watched <= emitted
    assert {name for _, name, _ in watched} == {"Crashed"}
    assert {name for _, name, _ in emitted} == {"ColdStart", "Invocations", "Crashed"}
    for _, _, dimensions in emitted:
        assert any(value.startswith("staging") for name, value in dimensions if name in {"stack", "function_name"})


def test_two_stacks_of_one_region_share_no_metric() -> None:
    production, staging = (
        set(map(watched_metric, alarms(Deployed(stack=name, ApiAuth="iam")))) for name in ("production", "staging")
    )
    assert production
    assert production.isdisjoint(staging)
