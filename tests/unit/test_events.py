"""The sample events have the shapes that AWS documents. `make invoke` and other tests use them."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from aws_lambda_powertools.utilities.parser.models import (
    APIGatewayProxyEventV2Model,
    S3BatchOperationModel,
    S3EventNotificationEventBridgeModel,
    S3Model,
    SnsNotificationModel,
    SqsModel,
)

from core.benchmark import Request
from handlers.benchmark import request_in

ROOT = Path(__file__).parents[2]
EVENTS = sorted((ROOT / "events").glob("*.json"))
UPLOADS_BUCKET = "audio-emotion-uploads"

S3_EVENTS = ["s3-put", "s3-multipart", "s3-put-unicode-key"]
SNS_EVENTS = ["sqs-sns-s3-put", "sqs-sns-confirmation"]
SQS_EVENTS = ["sqs-s3-put", "sqs-s3-test-event", "sqs-batch-one-bad", *SNS_EVENTS]
BATCH_EVENTS = ["batch-operations-1.0", "batch-operations-2.0"]
S3_EVENT_FIELDS = {
    "eventVersion",
    "eventSource",
    "awsRegion",
    "eventTime",
    "eventName",
    "userIdentity",
    "requestParameters",
    "responseElements",
    "s3",
}
"""See docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html (version 2.1)."""


def event(name: str) -> Any:
    return json.loads((ROOT / "events" / f"{name}.json").read_text(encoding="utf-8"))


def s3_records(name: str) -> list[dict[str, Any]]:
    """Return all S3 records in an event, including those in SQS messages."""
    records: list[dict[str, Any]] = []
    for record in event(name).get("Records", []):
        if "body" not in record:
            records.append(record)
            continue
        try:
            body = json.loads(record["body"])
            inner = json.loads(body["Message"]) if body.get("Type") == "Notification" else body
            records += inner.get("Records", [])
        except json.JSONDecodeError:
            continue
    return records


def test_every_sample_event_is_tested() -> None:
    assert {path.stem for path in EVENTS} == {
        *S3_EVENTS,
        *SQS_EVENTS,
        *BATCH_EVENTS,
        "s3-test-event",
        "eventbridge",
        "api-recognize",
        "benchmark",
    }


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_an_event_fits_into_256_kb_and_has_example_accounts_and_addresses_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 256 * 1024
    assert set(re.findall(r"\b\d{12}\b", text)) <= {"123456789012"}
    assert set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text)) <= {"203.0.113.7"}


def test_the_benchmark_event_is_valid() -> None:
    assert request_in(event("benchmark")) == Request(rounds=3)


@pytest.mark.parametrize("name", S3_EVENTS)
def test_an_s3_event_has_the_documented_shape(name: str) -> None:
    S3Model.model_validate(event(name))


@pytest.mark.parametrize("name", S3_EVENTS + SQS_EVENTS)
def test_an_s3_record_has_every_documented_field(name: str) -> None:
    for record in s3_records(name):
        assert set(record) == S3_EVENT_FIELDS
        assert record["eventName"] in {"ObjectCreated:Put", "ObjectCreated:CompleteMultipartUpload"}
        assert record["s3"]["bucket"]["name"] == UPLOADS_BUCKET
        assert set(record["s3"]["object"]) == {"key", "size", "eTag", "versionId", "sequencer"}
        assert re.fullmatch(r"[0-9A-F]{18}", record["s3"]["object"]["sequencer"])


@pytest.mark.parametrize("name", SQS_EVENTS)
def test_an_sqs_event_has_the_documented_shape(name: str) -> None:
    SqsModel.model_validate(event(name))
    for message in event(name)["Records"]:
        assert message["md5OfBody"] == hashlib.md5(message["body"].encode()).hexdigest()


def test_an_sns_message_has_the_documented_shape() -> None:
    notification, confirmation = (json.loads(event(name)["Records"][0]["body"]) for name in SNS_EVENTS)
    SnsNotificationModel.model_validate(notification)
    # See docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html.
    assert {"Type", "TopicArn", "Token", "Message", "SubscribeURL"} <= set(confirmation)
    assert confirmation["Type"] == "SubscriptionConfirmation"


def test_the_eventbridge_event_has_the_documented_shape() -> None:
    parsed = S3EventNotificationEventBridgeModel.model_validate(event("eventbridge"))
    assert parsed.detail.bucket.name == UPLOADS_BUCKET
    assert parsed.detail_type == "Object Created"


def test_a_multipart_upload_has_an_etag_that_is_not_a_checksum() -> None:
    (record,) = s3_records("s3-multipart")
    assert record["eventName"] == "ObjectCreated:CompleteMultipartUpload"
    assert re.fullmatch(r"[0-9a-f]{32}-[1-9]\d*", record["s3"]["object"]["eTag"])


def test_the_test_event_has_no_records() -> None:
    bare = event("s3-test-event")
    assert set(bare) == {"Service", "Event", "Time", "Bucket", "RequestId", "HostId"}
    assert bare["Event"] == "s3:TestEvent"
    assert json.loads(event("sqs-s3-test-event")["Records"][0]["body"]) == bare


def test_one_message_of_three_is_bad() -> None:
    messages = event("sqs-batch-one-bad")["Records"]
    assert len(messages) == 3
    assert len({message["messageId"] for message in messages}) == 3
    with pytest.raises(json.JSONDecodeError):
        json.loads(messages[1]["body"])
    assert len(s3_records("sqs-batch-one-bad")) == 2


def test_the_unicode_key_is_form_encoded() -> None:
    (record,) = s3_records("s3-put-unicode-key")
    encoded = record["s3"]["object"]["key"]
    assert encoded.isascii()
    assert unquote_plus(encoded) == "calls/王 小明/2026-01-12 +86 10 1234 (愤怒).wav"


@pytest.mark.parametrize("name", ["s3-put", "s3-multipart", "sqs-s3-put", "sqs-sns-s3-put", "sqs-batch-one-bad"])
def test_an_event_refers_to_one_of_the_samples(name: str) -> None:
    for record in s3_records(name):
        assert (ROOT / "samples" / unquote_plus(record["s3"]["object"]["key"])).is_file()


@pytest.mark.parametrize("name", BATCH_EVENTS)
def test_a_batch_operations_event_has_its_documented_shape(name: str) -> None:
    S3BatchOperationModel.model_validate(event(name))
    [task] = event(name)["tasks"]
    assert ("s3Bucket" in task) == (event(name)["invocationSchemaVersion"] == "2.0")


def test_a_request_has_the_documented_shape_and_contains_a_sample() -> None:
    request = APIGatewayProxyEventV2Model.model_validate(event("api-recognize"))
    assert request.requestContext.http.method == "POST"
    assert request.isBase64Encoded
    posted = base64.b64decode(str(request.body))
    assert (ROOT / "samples" / "fear.webm").read_bytes() in posted
    assert int(request.headers["content-length"]) == len(posted)
