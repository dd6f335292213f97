"""A bucket that is older than the stack: its events reach the queue through EventBridge."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

import handlers.processing
from core.local.stack import RESULTS_BUCKET, Stack, StackOptions, running_stack
from core.local.workers import EventSourceMapping, LocalContext
from tests.support.cloudformation import Deployed

BUCKET = "recordings"
KEY = "calls/a+b%20c ü.wav"


@pytest.fixture
def stack(aws_server: str, package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The embedded stack, and the rule of the template for a bucket without versioning."""
    with running_stack(StackOptions(visibility_timeout_s=0), aws_server) as running:
        for name, value in {**running.environment(package), "DELETE_RESULTS": "true"}.items():
            monkeypatch.setenv(name, value)
        handlers.processing.delivery.cache_clear()
        running.s3.create_bucket(Bucket=BUCKET)
        # The command in docs/how-to/operate.md.
        running.s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
        resources = Deployed(ExistingUploadsBucket=BUCKET, DeleteResults="true").resources()
        events = boto3.client("events")
        events.put_rule(Name="existing", EventPattern=json.dumps(resources["ExistingUploadsRule"]["EventPattern"]))
        names: Any = ["QueueArn"]
        queue = running.sqs.get_queue_attributes(QueueUrl=running.queue_url, AttributeNames=names)["Attributes"]
        events.put_targets(Rule="existing", Targets=[{"Id": "queue", "Arn": queue["QueueArn"]}])
        yield running
        handlers.processing.delivery.cache_clear()


def process(stack: Stack) -> None:
    """Process the messages in the queue."""
    import handlers.s3_upload

    mapping = EventSourceMapping(stack.sqs, stack.queue_url, handlers.s3_upload.handler, stack.options)
    while mapping.poll(wait_s=0):
        pass


def test_an_upload_to_an_existing_bucket_gets_its_result_until_it_is_deleted(stack: Stack, speech: bytes) -> None:
    process(stack)  # S3's test event
    stack.s3.put_object(Bucket=BUCKET, Key=KEY, Body=speech)
    process(stack)
    document = json.loads(stack.result(f"results/{KEY}.json"))
    assert document["status"] == "classified"
    assert document["source"]["bucket"] == BUCKET
    assert document["source"]["key"] == KEY

    stack.s3.delete_object(Bucket=BUCKET, Key=KEY)
    # moto sends no event for this deletion. This is the one that S3 documents.
    stored = {"key": KEY, "sequencer": "617f08299329d190"}
    detail = {"bucket": {"name": BUCKET}, "object": stored, "reason": "DeleteObject"}
    event = {"source": "aws.s3", "detail-type": "Object Deleted", "detail": detail}
    stack.sqs.send_message(QueueUrl=stack.queue_url, MessageBody=json.dumps(event))
    process(stack)
    assert stack.results() == {}


def test_a_recording_that_is_older_than_the_stack_gets_its_result_from_a_backfill(stack: Stack, speech: bytes) -> None:
    from handlers.batch_operations import handler

    stack.s3.put_object(Bucket=BUCKET, Key="old.wav", Body=speech)
    stack.sqs.purge_queue(QueueUrl=stack.queue_url)
    task = {"taskId": "t", "s3Key": "old.wav", "s3VersionId": None, "s3Bucket": BUCKET}
    event = {"invocationSchemaVersion": "2.0", "invocationId": "i", "tasks": [task]}
    [result] = handler(event, LocalContext(60.0))["results"]
    assert result["resultCode"] == "Succeeded"
    listed = stack.s3.list_objects_v2(Bucket=RESULTS_BUCKET, Prefix="results/")["Contents"]
    assert [item["Key"] for item in listed] == ["results/old.wav.json"]
