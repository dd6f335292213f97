"""A result is announced on EventBridge once it is there, once, and never at its cost."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import handlers.processing
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.local.workers import LocalContext

Events = Callable[[], list[dict[str, Any]]]

ANGRY_CALLS: dict[str, Any] = {
    "source": ["audio-emotion"],
    "detail-type": ["Recording Classified"],
    "detail": {
        "emotion": ["anger"],
        "score": [{"numeric": [">", 0.8]}],
        "source": {"key": [{"prefix": "calls/"}]},
    },
}
"""An event pattern that selects recordings of angry calls."""


@pytest.fixture
def stack(aws_server: str, package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    with running_stack(endpoint=aws_server) as running:
        for name, value in {**running.environment(package), "EVENT_BUS": "results"}.items():
            monkeypatch.setenv(name, value)
        handlers.processing.delivery.cache_clear()
        handlers.processing._publisher.cache_clear()
        yield running
        handlers.processing.delivery.cache_clear()
        handlers.processing._publisher.cache_clear()


@pytest.fixture
def arrived(stack: Stack, request: pytest.FixtureRequest) -> Events:
    """A bus, a rule, and what it has brought to a queue since the last look."""
    events = boto3.client("events")
    events.create_event_bus(Name="results")
    pattern = getattr(request, "param", {"source": ["audio-emotion"]})
    events.put_rule(Name="ours", EventBusName="results", EventPattern=json.dumps(pattern))
    queue_url = stack.sqs.create_queue(QueueName="told")["QueueUrl"]
    attributes = stack.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    events.put_targets(Rule="ours", EventBusName="results", Targets=[{"Id": "queue", "Arn": attributes["QueueArn"]}])

    def look() -> list[dict[str, Any]]:
        answer = stack.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            stack.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    return look


def deliver(stack: Stack, key: str, body: bytes | None) -> None:
    from handlers.s3_upload import handler

    if body is not None:
        stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body)
    told = {"bucket": {"name": UPLOADS_BUCKET}, "object": {"key": key}}
    answer = handler({"source": "aws.s3", "detail-type": "Object Created", "detail": told}, LocalContext(60.0))
    assert answer == {"uploads": 1}


def test_a_result_is_announced_once_with_its_place_and_its_summary(
    stack: Stack, arrived: Events, speech: bytes
) -> None:
    deliver(stack, "a b.wav", speech)
    deliver(stack, "a b.wav", None)  # a duplicate is no news
    [told] = arrived()
    assert (told["source"], told["detail-type"]) == ("audio-emotion", "Recording Classified")
    detail = told["detail"]
    assert detail["result"] == {"bucket": RESULTS_BUCKET, "key": "results/a b.wav.json"}
    document = json.loads(stack.result(detail["result"]["key"]))
    assert detail["source"] == document["source"]
    for name in ("status", "emotion", "score", "speech_s"):
        assert detail[name] == document[name]
    assert detail["duration_s"] == document["audio"]["duration_s"]
    assert detail["finished_at"] == document["processing"]["finished_at"]
    assert detail["model"] == {name: document["model"][name] for name in ("id", "fingerprint")}


@pytest.mark.parametrize("arrived", [ANGRY_CALLS], indirect=True, ids=["angry calls"])
def test_a_rule_can_select_angry_calls(stack: Stack, arrived: Events, speech: bytes, other_speech: bytes) -> None:
    deliver(stack, "calls/angry.wav", speech)
    deliver(stack, "calls/happy.mp3", other_speech)
    deliver(stack, "elsewhere/angry.wav", speech)

    [told] = arrived()

    assert told["detail"]["source"]["key"] == "calls/angry.wav"
    assert told["detail"]["emotion"] == "anger"


def test_a_failure_is_announced_under_a_name_of_its_own(stack: Stack, arrived: Events) -> None:
    deliver(stack, "a.txt", b"text")
    [told] = arrived()
    assert told["detail-type"] == "Recording Failed"
    assert told["detail"]["error"]["code"] == "not_audio"
    assert "emotion" not in told["detail"]


@pytest.mark.parametrize("fault", ["no endpoint", "refused"])
def test_a_bus_that_cannot_be_told_is_logged_and_counted_and_costs_nothing(
    stack: Stack,
    speech: bytes,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    if fault == "no endpoint":
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:9")
    else:
        client = boto3.client("events")
        refused = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure", "ErrorMessage": "busy"}]}
        monkeypatch.setattr(client, "put_events", lambda **_: refused)
        monkeypatch.setattr("core.delivery.eventbridge.events_client", lambda: client)
    counted: list[str] = []
    original = handlers.processing.metrics.add_metric

    def count(name: str, *rest: Any) -> None:
        counted.append(name)
        original(name, *rest)

    monkeypatch.setattr(handlers.processing.metrics, "add_metric", count)
    deliver(stack, "a.wav", speech)
    assert json.loads(stack.result("results/a.wav.json"))["status"] == "classified"
    assert "AnnouncementsFailed" in counted
    assert "Announced" not in counted


def test_without_a_bus_nobody_is_told(stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_BUS", "")
    monkeypatch.setattr("core.delivery.eventbridge.events_client", lambda: pytest.fail("a client was made"))
    deliver(stack, "a.wav", speech)
    assert list(stack.results()) == ["results/a.wav.json"]
