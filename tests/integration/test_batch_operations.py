"""The entry point for S3 Batch Operations, on moto's S3."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest

import handlers.processing
from core.delivery.storage import Storage
from core.errors import DeadlineExceeded, EventNotUnderstood, StorageUnavailable
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack
from core.local.workers import LocalContext
from core.pipeline import Pipeline
from handlers.batch_operations import upload_of
from tests.conftest import ROOT


def event(schema: str, **task: Any) -> dict[str, Any]:
    """Return the sample event of a schema, with changes to its task."""
    file = ROOT / "events" / f"batch-operations-{schema}.json"
    payload: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    payload["tasks"][0] |= task
    return payload


def invoke(payload: dict[str, Any]) -> dict[str, Any]:
    from handlers.batch_operations import handler

    answer: dict[str, Any] = handler(payload, LocalContext(60.0))
    assert answer["invocationSchemaVersion"] == payload["invocationSchemaVersion"]
    assert answer["invocationId"] == payload["invocationId"]
    assert answer["treatMissingKeysAs"] == "TemporaryFailure"
    assert [result["taskId"] for result in answer["results"]] == [task["taskId"] for task in payload["tasks"]]
    json.dumps(answer)  # as Lambda does
    [result] = answer["results"]
    return dict(result)


def document(stack: Stack, key: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(stack.result(f"results/{key}.json"))
    return read


@pytest.mark.parametrize(
    ("schema", "bucket"),
    [
        ("1.0", {"s3BucketArn": f"arn:aws:s3:::{UPLOADS_BUCKET}"}),
        ("1.0", {"s3BucketArn": f"arn:aws:s3:us-east-1:123456789012:{UPLOADS_BUCKET}"}),
        ("2.0", {"s3Bucket": UPLOADS_BUCKET}),
    ],
)
def test_a_task_of_either_schema_leaves_a_result(
    stack: Stack, speech: bytes, schema: str, bucket: dict[str, str]
) -> None:
    key = "calls/a b+c 中.wav"
    version_id = stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=speech)["VersionId"]
    answer = invoke(event(schema, **bucket, s3Key=quote_plus(key), s3VersionId=version_id))
    assert answer["resultCode"] == "Succeeded"
    assert document(stack, key)["status"] == "classified"
    assert document(stack, key)["source"]["version_id"] == version_id
    assert answer["resultString"].startswith(f"classified: {document(stack, key)['emotion']} ")


@pytest.mark.parametrize("version_id", [None, "", "null"])
def test_a_task_without_a_version_is_about_the_newest(stack: Stack, speech: bytes, version_id: str | None) -> None:
    newest = stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)["VersionId"]
    answer = invoke(event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.wav", s3VersionId=version_id))
    assert answer["resultCode"] == "Succeeded"
    assert document(stack, "a.wav")["source"]["version_id"] == newest


@pytest.mark.parametrize("reports", ["none", "html"])
def test_a_task_that_needs_no_inference_succeeds(
    stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch, reports: str
) -> None:
    monkeypatch.setenv("REPORTS", reports)
    older = stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=b"older")["VersionId"]
    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)
    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="folder/", Body=b"")
    payload = event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.wav", s3VersionId=None)
    invoke(payload)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Pipeline, "run", never)
    overwritten = event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.wav", s3VersionId=older)
    deleted = event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="gone.wav", s3VersionId=None)
    folder = event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="folder/", s3VersionId=None)
    answers = [invoke(one) for one in (payload, overwritten, deleted, folder)]
    assert {answer["resultCode"] for answer in answers} == {"Succeeded"}
    assert [answer["resultString"] for answer in answers] == ["duplicate", "superseded", "superseded", "folder"]


def test_a_result_of_another_model_is_replaced(stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)
    payload = event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.wav", s3VersionId=None)
    invoke(payload)
    old = stack.s3.head_object(Bucket=RESULTS_BUCKET, Key="results/a.wav.json")
    stale = {**old["Metadata"], "fingerprint": "sha256:another"}
    stack.s3.put_object(Bucket=RESULTS_BUCKET, Key="results/a.wav.json", Body=b"{}", Metadata=stale)
    assert invoke(payload)["resultString"].startswith("classified")
    assert document(stack, "a.wav")["status"] == "classified"


@pytest.mark.parametrize(
    ("limit", "code"), [({"MAX_SIZE_BYTES": "1000"}, "too_large"), ({"MAX_DURATION_S": "1"}, "too_long")]
)
def test_a_recording_beyond_a_limit_is_retried_after_the_limit_has_changed(
    stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch, limit: dict[str, str], code: str
) -> None:
    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)
    payload = event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.wav", s3VersionId=None)
    with monkeypatch.context() as limited:
        for name, value in limit.items():
            limited.setenv(name, value)
        assert invoke(payload)["resultString"] == f"failed: {code}"
    handlers.processing.delivery.cache_clear()
    # Only a backfill retries a recoverable failure; a late duplicate of the event does not.
    assert handlers.processing.delivery().deliver(upload_of(payload["tasks"][0])).kind == "duplicate"
    assert invoke(payload)["resultString"].startswith("classified")
    assert invoke(payload)["resultString"] == "duplicate"


def test_an_archived_recording_is_retried_after_it_was_restored(stack: Stack, speech: bytes) -> None:
    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech, StorageClass="GLACIER")
    payload = event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.wav", s3VersionId=None)
    assert invoke(payload)["resultString"] == "failed: archived"
    stack.s3.restore_object(Bucket=UPLOADS_BUCKET, Key="a.wav", RestoreRequest={"Days": 1})
    assert invoke(payload)["resultString"].startswith("classified")


def test_a_recording_that_exceeded_the_deadline_is_retried(
    stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_slow(*_: Any) -> None:
        raise DeadlineExceeded("There was no time.")

    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)
    payload = event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.wav", s3VersionId=None)
    with monkeypatch.context() as slow:
        slow.setattr("core.pipeline.probe", too_slow)
        assert invoke(payload)["resultString"] == "failed: deadline_exceeded"
    assert invoke(payload)["resultString"].startswith("classified")


def test_a_task_succeeds_although_its_recording_cannot_be_classified(stack: Stack) -> None:
    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.txt", Body=b"text")
    answer = invoke(event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.txt", s3VersionId=None))
    assert (answer["resultCode"], answer["resultString"]) == ("Succeeded", "failed: not_audio")
    assert document(stack, "a.txt")["status"] == "failed"
    assert invoke(event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.txt", s3VersionId=None))["resultString"] == "duplicate"


@pytest.mark.parametrize("fault", [StorageUnavailable("S3 is down."), ZeroDivisionError("a bug")])
def test_a_temporary_failure_stores_no_result(
    stack: Stack, speech: bytes, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def down(*_: Any) -> None:
        raise fault

    stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech)
    monkeypatch.setattr(Storage, "download", down)
    answer = invoke(event("2.0", s3Bucket=UPLOADS_BUCKET, s3Key="a.wav", s3VersionId=None))
    assert answer["resultCode"] == "TemporaryFailure"
    assert str(fault) in answer["resultString"]
    assert stack.results() == {}


@pytest.mark.parametrize("task", [{"s3Key": ""}, {"s3Key": None}, {"s3Bucket": ""}])
def test_a_task_without_an_object_fails_permanently(stack: Stack, task: dict[str, Any]) -> None:
    assert invoke(event("2.0", **task))["resultCode"] == "PermanentFailure"


@pytest.mark.parametrize("payload", [{}, {"invocationSchemaVersion": "3.0", "tasks": []}, {"Records": []}])
def test_another_event_is_rejected(payload: dict[str, Any]) -> None:
    from handlers.batch_operations import handler

    with pytest.raises(EventNotUnderstood):
        handler(payload, LocalContext(60.0))
