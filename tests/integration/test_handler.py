"""The Lambda entry point for uploads, with every kind of event, on moto's S3."""

import json
from typing import Any

import boto3
import pytest

from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion
from core.errors import EventNotUnderstood, StorageUnavailable
from core.local.stack import REGION, RESULTS_BUCKET, UPLOADS_BUCKET, Stack
from core.local.workers import LocalContext
from tests.integration.conftest import LogLines
from tests.support.cloudformation import Deployed
from tests.support.faults.fault_proxy import KMS_KEY, Fault, faulty
from tests.support.upload_events import event, invoke, message, s3_record, status


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
