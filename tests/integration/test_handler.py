"""The Lambda entry point for uploads, with every kind of event, on moto's S3."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from core.audio.probe import MediaInfo, probe
from core.deadline import Deadline
from core.delivery import Upload
from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion
from core.errors import EventNotUnderstood, StorageUnavailable
from core.local.stack import REGION, RESULTS_BUCKET, UPLOADS_BUCKET, Stack, StackOptions, running_stack
from core.local.workers import LocalContext, _sqs_record
from core.settings import FunctionSettings, MediaLimits
from tests.integration.conftest import Clock, LogLines
from tests.support.cloudformation import Deployed
from tests.support.faults.fault_proxy import KMS_KEY, Fault, faulty

EVENTS = Path(__file__).parents[2] / "events"


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / name).read_text(encoding="utf-8"))
    return loaded


def invoke(payload: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
    from handlers.s3_upload import handler

    answer: dict[str, Any] = handler(payload, LocalContext(timeout_s))
    return answer


def s3_record(stack: Stack, key: str, body: bytes, **changes: Any) -> dict[str, Any]:
    """Upload an object, and return the record that S3 sends."""
    stored = stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body)
    record: dict[str, Any] = event("s3-put.json")["Records"][0]
    record["s3"]["bucket"]["name"] = UPLOADS_BUCKET
    record["s3"]["object"] |= {
        "key": key.replace(" ", "+"),
        "versionId": stored["VersionId"],
        "eTag": stored["ETag"].strip('"'),
    } | changes
    return record


def message(body: object, receive_count: int = 1, number: int = 1) -> dict[str, Any]:
    message: dict[str, Any] = event("sqs-s3-put.json")["Records"][0]
    message["messageId"] = f"message-{number}"
    message["body"] = body if isinstance(body, str) else json.dumps(body)
    message["attributes"]["ApproximateReceiveCount"] = str(receive_count)
    return message


def status(stack: Stack, key: str) -> str:
    return str(json.loads(stack.result(f"results/{key}.json"))["status"])


def test_a_bare_s3_event_is_processed(stack: Stack, speech: bytes) -> None:
    assert invoke({"Records": [s3_record(stack, "calls/a b.wav", speech)]}) == {"uploads": 1}
    assert status(stack, "calls/a b.wav") == "classified"


def test_an_eventbridge_event_is_processed(stack: Stack, speech: bytes) -> None:
    stored = stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a+b.wav", Body=speech)
    payload = event("eventbridge.json")
    payload["detail"]["bucket"]["name"] = UPLOADS_BUCKET
    payload["detail"]["object"] |= {
        "key": "a+b.wav",
        "version-id": stored["VersionId"],
        "etag": stored["ETag"].strip('"'),
    }
    assert invoke(payload) == {"uploads": 1}
    assert status(stack, "a+b.wav") == "classified"


def test_only_the_bad_message_of_a_batch_is_retried(stack: Stack, speech: bytes) -> None:
    batch = [
        message({"Records": [s3_record(stack, "a.wav", speech)]}, number=1),
        message("no JSON", number=2),
        message({"Records": [s3_record(stack, "b.wav", b"text")]}, number=3),
    ]
    assert invoke({"Records": batch}) == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    assert (status(stack, "a.wav"), status(stack, "b.wav")) == ("classified", "failed")


def test_one_upload_that_fails_does_not_block_the_others_of_its_message(
    stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Storage.download

    def partly_down(self: Storage, version: ObjectVersion, *arguments: Any) -> None:
        if version.key == "1.wav":
            raise StorageUnavailable("S3 is down.")
        original(self, version, *arguments)

    monkeypatch.setattr(Storage, "download", partly_down)
    records = [s3_record(stack, f"{n}.wav", speech) for n in (1, 2)]
    assert invoke({"Records": [message({"Records": records})]})["batchItemFailures"]
    assert list(stack.results()) == ["results/2.wav.json"]


def test_the_golden_batch_has_one_bad_message(stack: Stack) -> None:
    answer = invoke(event("sqs-batch-one-bad.json"))
    assert len(answer["batchItemFailures"]) == 1


@pytest.mark.parametrize("body", ["[]", "null", '"text"', '{"Records": [{"eventSource": "aws:sns"}]}'])
def test_a_message_of_another_kind_is_retried_until_it_is_a_dead_letter(stack: Stack, body: str) -> None:
    assert invoke({"Records": [message(body)]}) == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}


@pytest.mark.parametrize("name", ["s3-test-event.json", "sqs-s3-test-event.json"])
def test_the_test_event_is_acknowledged(stack: Stack, name: str) -> None:
    assert not invoke(event(name)).get("batchItemFailures")
    assert stack.results() == {}


@pytest.fixture
def sns(stack: Stack) -> Any:
    session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)
    return session.client("sns", endpoint_url=stack.endpoint)


@pytest.mark.parametrize("raw", ["false", "true"])
def test_an_upload_arrives_through_sns(stack: Stack, speech: bytes, sns: Any, raw: str) -> None:
    stack.sqs.purge_queue(QueueUrl=stack.queue_url)  # the test event of the direct notification
    topic = sns.create_topic(Name="uploads")["TopicArn"]
    queue = stack.sqs.get_queue_attributes(QueueUrl=stack.queue_url, AttributeNames=["QueueArn"])["Attributes"]
    attributes = {"RawMessageDelivery": raw}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue["QueueArn"], Attributes=attributes)
    configuration: Any = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}
    stack.s3.put_bucket_notification_configuration(  # S3 sends its test event
        Bucket=UPLOADS_BUCKET, NotificationConfiguration={"TopicConfigurations": [configuration]}
    )
    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="calls/a b+c.wav", Body=speech)

    bodies: list[str] = []
    while messages := stack.sqs.receive_message(QueueUrl=stack.queue_url, MaxNumberOfMessages=10).get("Messages"):
        bodies += [message["Body"] for message in messages]
    assert [sum(name in body for body in bodies) for name in ("s3:TestEvent", "ObjectCreated")] == [1, 1]
    assert all(("TopicArn" in body) is (raw == "false") for body in bodies)

    batch = [message(body, number=number) for number, body in enumerate(bodies)]
    assert invoke({"Records": batch}) == {"batchItemFailures": []}
    assert status(stack, "calls/a b+c.wav") == "classified"


def test_a_request_to_confirm_a_subscription_is_logged_and_not_retried(stack: Stack, log_lines: LogLines) -> None:
    assert invoke(event("sqs-sns-confirmation.json")) == {"batchItemFailures": []}
    [line] = [line for line in log_lines() if line.get("message") == "subscription not confirmed"]
    assert line["topic"] == "arn:aws:sns:eu-central-1:123456789012:uploads"
    assert line["reason"].startswith("Subscribe the queue to the topic")
    assert "Token" not in json.dumps(line)


def test_a_message_that_is_nested_too_deep_is_logged_and_retried(stack: Stack, log_lines: LogLines) -> None:
    assert invoke({"Records": [message("[" * 100_000)]}) == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    [line] = [line for line in log_lines() if line.get("message") == "message not understood"]
    assert line["message_id"] == "message-1"


def test_an_unknown_event_without_a_queue_is_rejected(stack: Stack) -> None:
    with pytest.raises(EventNotUnderstood):
        invoke({"anything": "else"})


def test_when_s3_is_down_every_message_is_retried_and_nothing_is_raised(
    stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> None:
        raise StorageUnavailable("S3 is down.")

    batch = [message({"Records": [s3_record(stack, f"{n}.wav", speech)]}, number=n) for n in (1, 2)]
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "download", down)
        assert len(invoke({"Records": batch})["batchItemFailures"]) == 2
        with pytest.raises(StorageUnavailable):
            invoke({"Records": [s3_record(stack, "c.wav", speech)]})
    assert stack.results() == {}
    assert invoke({"Records": batch}) == {"batchItemFailures": []}
    assert len(stack.results()) == 2


def test_the_last_delivery_leaves_a_failed_result(stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: Any) -> None:
        raise StorageUnavailable("S3 is down.")

    record = s3_record(stack, "a.wav", speech)
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "download", down)
        for count in (1, stack.options.max_receive_count - 1, stack.options.max_receive_count):
            answer = invoke({"Records": [message({"Records": [record]}, receive_count=count)]})
            assert answer["batchItemFailures"]
            assert bool(stack.results()) == (count == stack.options.max_receive_count)
    assert status(stack, "a.wav") == "failed"
    assert invoke({"Records": [message({"Records": [record]})]}) == {"batchItemFailures": []}
    assert status(stack, "a.wav") == "classified"


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (Fault.REFUSED, f"not authorized to perform kms:Decrypt on resource: {KMS_KEY}"),
        (Fault.KEY_DISABLED, f"{KMS_KEY} is disabled"),
    ],
)
def test_the_log_and_the_report_of_a_backfill_name_the_missing_permission(
    stack: Stack, speech: bytes, log_lines: LogLines, monkeypatch: pytest.MonkeyPatch, fault: Fault, named: str
) -> None:
    from handlers import batch_operations, processing

    record = s3_record(stack, "a.wav", speech)
    task = {"taskId": "1", "s3Key": "a.wav", "s3VersionId": None, "s3Bucket": UPLOADS_BUCKET}
    job = {"invocationSchemaVersion": "2.0", "invocationId": "1", "job": {"id": "1"}, "tasks": [task]}
    with faulty(stack.endpoint, plan=lambda call: fault if call.method == "GET" else None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        processing.delivery.cache_clear()
        assert invoke({"Records": [message({"Records": [record]})]})["batchItemFailures"]
        [reported] = batch_operations.handler(job, LocalContext(60.0))["results"]
    retries = [line for line in log_lines() if line.get("status") == "retry"]
    assert [(line["error"], line["last_delivery"]) for line in retries] == 2 * [("StorageRefused", False)]
    assert all(named in line["reason"] for line in retries)
    assert reported["resultCode"] == "TemporaryFailure"
    assert named in reported["resultString"]


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


def test_each_recording_has_one_line_in_the_log(stack: Stack, speech: bytes, log_lines: LogLines) -> None:
    record = s3_record(stack, "a.wav", speech)
    invoke({"Records": [record]})
    invoke({"Records": [record]})
    lines = [line for line in log_lines() if line.get("message") == "recording"]
    assert [line["status"] for line in lines] == ["classified", "duplicate"]
    assert lines[0]["key"] == "a.wav"
    assert lines[0]["duration_s"] == 2.0
    assert lines[0]["inference_ms"] >= 0
    assert lines[0]["total_ms"] >= lines[0]["inference_ms"]


def test_metrics_count_the_outcomes(stack: Stack, speech: bytes, log_lines: LogLines) -> None:
    record = s3_record(stack, "a.wav", speech)
    invoke({"Records": [record]})
    invoke({"Records": [record]})
    invoke({"Records": [s3_record(stack, "b.wav", b"text")]})
    metrics: dict[str, float] = {}
    for line in log_lines():
        if "_aws" in line:
            for described in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]:
                metrics[described["Name"]] = metrics.get(described["Name"], 0) + sum(line[described["Name"]])
    assert metrics["Classified"] == metrics["Duplicates"] == metrics["Failed"] == metrics["Failed_not_audio"] == 1
    assert metrics["AudioSeconds"] == 2.0
    assert "InferenceTime" in metrics


def test_a_crash_is_logged_and_retried(
    stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    from core.pipeline import Pipeline

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Pipeline, "run", broken)
    answer = invoke({"Records": [message({"Records": [s3_record(stack, "a.wav", speech)]})]})
    assert answer["batchItemFailures"]
    lines = log_lines()
    [line] = [line for line in lines if line.get("status") == "crashed"]
    assert line["exception_name"] == "ZeroDivisionError"
    # CrashesAlarm watches this metric.
    alarm = Deployed(stack="local").resources()["CrashesAlarm"]
    [counted] = [line for line in lines if alarm["MetricName"] in line]
    described = counted["_aws"]["CloudWatchMetrics"][0]
    assert counted[alarm["MetricName"]] == [1.0]
    assert described["Namespace"] == alarm["Namespace"]
    [names] = described["Dimensions"]
    assert sorted(names) == sorted(dimension["Name"] for dimension in alarm["Dimensions"])
    assert all(counted[dimension["Name"]] == dimension["Value"] for dimension in alarm["Dimensions"])


@pytest.mark.parametrize("missing", ["body", "attributes"])
def test_an_incomplete_message_is_logged_and_does_not_block_the_others(
    missing: str, stack: Stack, speech: bytes, log_lines: LogLines
) -> None:
    good, bad = (message({"Records": [s3_record(stack, name, speech)]}) for name in ("a.wav", "b.wav"))
    bad["messageId"] = "bad"
    del bad[missing]
    answer = invoke({"Records": [bad, good]})
    assert answer["batchItemFailures"] == [{"itemIdentifier": "bad"}]
    assert [line["message_id"] for line in log_lines() if line.get("message") == "message not understood"] == ["bad"]


def test_results_are_stored_in_the_results_bucket_only(stack: Stack, speech: bytes) -> None:
    invoke({"Records": [s3_record(stack, "a.wav", speech)]})
    listed = stack.s3.list_objects_v2(Bucket=UPLOADS_BUCKET)["Contents"]
    assert [item["Key"] for item in listed] == ["a.wav"]
    head = stack.s3.head_object(Bucket=RESULTS_BUCKET, Key="results/a.wav.json")
    assert head["ContentType"] == "application/json"
    assert head["Metadata"]["state"] == "done"
