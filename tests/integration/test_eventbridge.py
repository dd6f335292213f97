"""A stored result is published on EventBridge at most once, and a failure to publish never affects it."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

import handlers.processing
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack
from core.local.workers import LocalContext
from tests.support.faults.fault_proxy import Fault, faulty

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
def stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("EVENT_BUS", "results")
    return stack


@pytest.fixture
def arrived(stack: Stack, request: pytest.FixtureRequest) -> Events:
    """A bus with a rule; call the fixture to receive the new events."""
    events = boto3.client("events")
    events.create_event_bus(Name="results")
    pattern = getattr(request, "param", {"source": ["audio-emotion"]})
    events.put_rule(Name="ours", EventBusName="results", EventPattern=json.dumps(pattern))
    queue_url = stack.sqs.create_queue(QueueName="events")["QueueUrl"]
    attributes = stack.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    events.put_targets(Rule="ours", EventBusName="results", Targets=[{"Id": "queue", "Arn": attributes["QueueArn"]}])

    def receive() -> list[dict[str, Any]]:
        answer = stack.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            stack.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    return receive


def deliver(stack: Stack, key: str, body: bytes | None) -> None:
    from handlers.s3_upload import handler

    if body is not None:
        stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body)
    detail = {"bucket": {"name": UPLOADS_BUCKET}, "object": {"key": key}}
    answer = handler({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}, LocalContext(60.0))
    assert answer == {"uploads": 1}


def test_a_result_is_published_once_with_its_key_and_summary(stack: Stack, arrived: Events, speech: bytes) -> None:
    deliver(stack, "a b.wav", speech)
    deliver(stack, "a b.wav", None)  # a duplicate publishes nothing
    [event] = arrived()
    assert (event["source"], event["detail-type"]) == ("audio-emotion", "Recording Classified")
    detail = event["detail"]
    assert detail["result"] == {"bucket": RESULTS_BUCKET, "key": "results/a b.wav.json"}
    document = json.loads(stack.result(detail["result"]["key"]))
    assert detail["source"] == document["source"]
    for name in ("status", "emotion", "score", "margin", "shares", "speech_s"):
        assert detail[name] == document[name]
    assert detail["duration_s"] == document["audio"]["duration_s"]
    assert detail["finished_at"] == document["processing"]["finished_at"]
    assert detail["model"] == {name: document["model"][name] for name in ("id", "fingerprint")}


@pytest.mark.parametrize("arrived", [ANGRY_CALLS], indirect=True, ids=["angry calls"])
def test_a_rule_can_select_angry_calls(stack: Stack, arrived: Events, speech: bytes, other_speech: bytes) -> None:
    deliver(stack, "calls/angry.wav", speech)
    deliver(stack, "calls/happy.mp3", other_speech)
    deliver(stack, "elsewhere/angry.wav", speech)

    [event] = arrived()

    assert event["detail"]["source"]["key"] == "calls/angry.wav"
    assert event["detail"]["emotion"] == "anger"


def test_a_failure_is_published_with_its_own_detail_type(stack: Stack, arrived: Events) -> None:
    deliver(stack, "a.txt", b"text")
    [event] = arrived()
    assert event["detail-type"] == "Recording Failed"
    assert event["detail"]["error"]["code"] == "not_audio"
    assert "emotion" not in event["detail"]


def test_an_event_whose_answer_is_lost_is_not_published_again(
    stack: Stack, arrived: Events, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(stack.endpoint, plan=lambda _: Fault.LOST_RESET) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", proxy.endpoint)
        deliver(stack, "a.wav", speech)

    assert proxy.injected == {Fault.LOST_RESET: 1}
    [event] = arrived()
    assert event["detail"]["source"]["key"] == "a.wav"


@pytest.mark.parametrize("fault", ["no endpoint", "refused"])
def test_a_failure_to_publish_is_counted_and_keeps_the_result(
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


def test_without_a_bus_nothing_is_published(stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_BUS", "")
    monkeypatch.setattr("core.delivery.eventbridge.events_client", lambda: pytest.fail("a client was created"))
    deliver(stack, "a.wav", speech)
    assert list(stack.results()) == ["results/a.wav.json"]
