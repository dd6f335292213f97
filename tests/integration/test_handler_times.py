"""The delays of messages that failed, and the deadline of an invocation."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.audio.probe import MediaInfo, probe
from core.deadline import Deadline
from core.delivery import Upload
from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion
from core.errors import StorageUnavailable
from core.local.stack import UPLOADS_BUCKET, Stack, StackOptions, running_stack
from core.local.workers import LocalContext, _sqs_record
from core.settings import FunctionSettings, MediaLimits
from tests.integration.conftest import Clock, LogLines
from tests.support.cloudformation import Deployed
from tests.support.upload_events import invoke, message, s3_record, status


def receive(stack: Stack) -> list[dict[str, Any]]:
    """Receive the visible messages of the queue, as Lambda does."""
    found = stack.sqs.receive_message(QueueUrl=stack.queue_url, MaxNumberOfMessages=10, AttributeNames=["All"])
    return [_sqs_record(message) for message in found.get("Messages", [])]


@pytest.fixture
def quick_stack(aws_server: str, package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack with the queue and the delays of template.yaml."""
    from handlers.processing import delivery

    queue = Deployed().resources()["Queue"]
    options = StackOptions(
        visibility_timeout_s=queue["VisibilityTimeout"],
        max_receive_count=queue["RedrivePolicy"]["maxReceiveCount"],
        retry_delay_s=FunctionSettings.model_fields["retry_delay_s"].default,
    )
    with running_stack(options, aws_server) as running:
        running.sqs.purge_queue(QueueUrl=running.queue_url)  # S3's test event
        for name, value in running.environment(package).items():
            monkeypatch.setenv(name, value)
        delivery.cache_clear()
        yield running
        delivery.cache_clear()


def hidden_s(stack: Stack, advance: Callable[[float], None], step_s: float) -> float:
    """Advance the queue's clock in steps until a message is visible, and return the time that it took."""
    waited_s = 0.0
    while stack.sqs.get_queue_attributes(QueueUrl=stack.queue_url, AttributeNames=["ApproximateNumberOfMessages"])[
        "Attributes"
    ] == {"ApproximateNumberOfMessages": "0"}:
        advance(step_s)
        waited_s += step_s
        assert waited_s <= 20_000
    return waited_s


def test_a_message_that_fails_returns_with_a_delay_that_doubles(
    quick_stack: Stack,
    speech: bytes,
    monkeypatch: pytest.MonkeyPatch,
    advance_queue_time: Callable[[float], None],
) -> None:
    def down(*_: Any) -> None:
        raise StorageUnavailable("S3 is down.")

    monkeypatch.setattr(Storage, "download", down)
    quick_stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)
    delays_s: list[float] = []
    while messages := receive(quick_stack):
        assert invoke({"Records": messages})["batchItemFailures"]
        if len(delays_s) + 1 == quick_stack.options.max_receive_count:
            break
        step_s = min(2.0 ** len(delays_s), 64)
        delays_s.append(hidden_s(quick_stack, advance_queue_time, step_s))
    assert len(delays_s) == 11
    for number, delay_s in enumerate(delays_s):
        least_s = min(30 * 2**number, 7200)
        assert least_s <= delay_s <= 1.25 * least_s + 64
    # An outage of eight hours leaves receives, as docs/decisions/0030-quick-retries.md says.
    assert sum(delays_s) > 8 * 3600
    # After the last delivery, the message becomes a dead letter at once.
    advance_queue_time(0.01)
    assert receive(quick_stack) == []
    advance_queue_time(0.01)
    assert quick_stack.dead_letters() == 1
    assert status(quick_stack, "a.wav") == "failed"


def test_a_message_waits_for_the_lease_that_another_delivery_holds(
    quick_stack: Stack, speech: bytes, clock: Clock, advance_queue_time: Callable[[float], None]
) -> None:
    from handlers.processing import delivery

    stored = quick_stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)
    upload = Upload(UPLOADS_BUCKET, "a.wav", stored["VersionId"], stored["ETag"].strip('"'))
    # The lease's holder was killed with 685 s left.
    held = delivery()._lease(upload, Deadline.after(685.0))
    held.__enter__()
    messages = receive(quick_stack)
    assert invoke({"Records": messages})["batchItemFailures"]
    assert 690 <= hidden_s(quick_stack, advance_queue_time, 10.0) <= 710
    clock.advance(710.0)
    assert invoke({"Records": receive(quick_stack)}) == {"batchItemFailures": []}
    assert status(quick_stack, "a.wav") == "classified"
    held.__exit__(None, None, None)  # otherwise garbage collection would, when the stack has ended


def test_each_failed_message_of_a_batch_gets_its_own_delay(
    quick_stack: Stack, speech: bytes, advance_queue_time: Callable[[float], None]
) -> None:
    """Also a message that is no event; the others of the batch are not touched."""
    quick_stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)
    for body in ("no JSON", "{}"):
        quick_stack.sqs.send_message(QueueUrl=quick_stack.queue_url, MessageBody=body)
    messages = receive(quick_stack)
    assert len(messages) == 3
    answer = invoke({"Records": messages})
    assert {item["itemIdentifier"] for item in answer["batchItemFailures"]} == {
        message["messageId"] for message in messages if "a.wav" not in message["body"]
    }
    advance_queue_time(40.0)
    assert {message["body"] for message in receive(quick_stack)} == {"no JSON", "{}"}


def test_a_message_whose_delay_is_refused_keeps_the_visibility_timeout(
    stack: Stack, speech: bytes, log_lines: LogLines, caplog: pytest.LogCaptureFixture
) -> None:
    answer = invoke({"Records": [message("no JSON")]})  # its receipt handle is unknown to SQS
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert any("RetryDelaysFailed" in line for line in log_lines())
    assert "keeps the queue's visibility timeout" in caplog.text


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:1/000000000000/nowhere"])
def test_a_message_without_a_queue_or_a_handle_is_only_reported(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines, url: str
) -> None:
    from handlers.processing import delivery

    monkeypatch.setenv("QUEUE_URL", url)
    delivery.cache_clear()
    bad = message("no JSON")
    if url:
        del bad["receiptHandle"]
    assert invoke({"Records": [bad]}) == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert not any("RetryDelaysFailed" in line for line in log_lines())


def test_a_recording_that_takes_too_long_gets_its_failed_result_in_time(
    stack: Stack, speech: bytes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(path: Path, limits: MediaLimits, deadline: Deadline) -> MediaInfo:
        clock.advance(deadline.remaining_s)
        return probe(path, limits, deadline)

    monkeypatch.setattr("core.pipeline.probe", slow)
    # 15 seconds are reserved for the result. Decoding uses the other 100.
    context = LocalContext(115.0)
    from handlers.s3_upload import handler

    handler({"Records": [message({"Records": [s3_record(stack, "a.wav", speech)]})]}, context)
    assert context.get_remaining_time_in_millis() > 10_000
    document = json.loads(stack.result("results/a.wav.json"))
    assert document["error"]["code"] == "deadline_exceeded"


def test_a_recording_that_s3_sends_too_slowly_is_retried(
    stack: Stack, speech: bytes, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Storage.download

    def slow(self: Storage, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
        original(self, version, destination, deadline)
        clock.advance(60.0)

    payload = {"Records": [message({"Records": [s3_record(stack, "a.wav", speech)]})]}
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "download", slow)
        assert invoke(payload, timeout_s=115.0)["batchItemFailures"]
    assert stack.results() == {}
    assert invoke(payload) == {"batchItemFailures": []}
    assert status(stack, "a.wav") == "classified"


@pytest.fixture
def late_batch(stack: Stack, speech: bytes, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Two messages: the first upload takes more than half of the time, and the second would take the rest."""
    shares = iter((0.6, 1.0))

    def slow(path: Path, limits: MediaLimits, deadline: Deadline) -> MediaInfo:
        clock.advance(deadline.remaining_s * next(shares, 0.0))
        return probe(path, limits, deadline)

    monkeypatch.setattr("core.pipeline.probe", slow)
    return [message({"Records": [s3_record(stack, f"{n}.wav", speech)]}, number=n) for n in (1, 2)]


def test_a_later_recording_of_a_batch_is_retried_if_too_little_time_is_left(
    stack: Stack, late_batch: list[dict[str, Any]]
) -> None:
    answer = invoke({"Records": late_batch}, timeout_s=115.0)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    assert list(stack.results()) == ["results/1.wav.json"]


def test_a_later_recording_on_its_last_delivery_is_given_up(
    stack: Stack, late_batch: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    late_batch[1]["attributes"]["ApproximateReceiveCount"] = "5"
    answer = invoke({"Records": late_batch}, timeout_s=115.0)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    document = json.loads(stack.result("results/2.wav.json"))
    assert document["error"]["code"] == "given_up"
    monkeypatch.setattr("core.pipeline.probe", probe)
    assert invoke({"Records": [message(late_batch[1]["body"])]}) == {"batchItemFailures": []}
    assert status(stack, "2.wav") == "classified"


@pytest.mark.parametrize("receive_count", ["1", "5"])
def test_a_later_message_about_a_stored_result_is_acknowledged(
    stack: Stack, late_batch: list[dict[str, Any]], receive_count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as unhurried:
        unhurried.setattr("core.pipeline.probe", probe)
        assert invoke({"Records": late_batch[1:]}) == {"batchItemFailures": []}
    late_batch[1]["attributes"]["ApproximateReceiveCount"] = receive_count
    assert invoke({"Records": late_batch}, timeout_s=115.0) == {"batchItemFailures": []}
    assert status(stack, "2.wav") == "classified"
