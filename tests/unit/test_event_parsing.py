"""Parsing of events into uploads."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.delivery import Upload
from core.errors import EventNotUnderstood
from handlers.events import is_queue_batch, uploads_in

EVENTS = Path(__file__).parents[2] / "events"


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / name).read_text(encoding="utf-8"))
    return loaded


def test_an_s3_record_describes_the_upload() -> None:
    [upload] = uploads_in(event("s3-put.json"))
    stored = event("s3-put.json")["Records"][0]["s3"]["object"]
    assert upload == Upload(
        bucket="audio-emotion-uploads",
        key=stored["key"],
        version_id=stored["versionId"],
        etag=stored["eTag"],
        sequencer=stored["sequencer"],
        size_bytes=stored["size"],
    )


def test_a_completed_multipart_upload_is_an_upload() -> None:
    assert len(uploads_in(event("s3-multipart.json"))) == 1


def test_keys_in_s3_records_are_form_encoded() -> None:
    [upload] = uploads_in(event("s3-put-unicode-key.json"))
    assert "%" not in upload.key
    assert " " in upload.key
    assert "+" in upload.key
    assert any(ord(character) > 0x4E00 for character in upload.key)


def test_keys_in_eventbridge_events_are_not_decoded() -> None:
    payload = event("eventbridge.json")
    payload["detail"]["object"]["key"] = "a+b%20c.wav"
    [upload] = uploads_in(payload)
    assert upload.key == "a+b%20c.wav"
    assert upload.version_id == payload["detail"]["object"].get("version-id")


def test_the_test_event_names_no_upload() -> None:
    assert uploads_in(event("s3-test-event.json")) == []


def test_a_deletion_names_no_upload() -> None:
    payload = event("s3-put.json")
    payload["Records"][0]["eventName"] = "ObjectRemoved:Delete"
    assert uploads_in(payload) == []


def test_unknown_fields_are_ignored_and_a_missing_version_is_none() -> None:
    payload = event("s3-put.json")
    payload["Records"][0]["s3"]["object"].pop("versionId")
    payload["Records"][0]["new"] = {"field": 1}
    [upload] = uploads_in(payload)
    assert upload.version_id is None


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"Records": None},
        {"Records": [{}]},
        {"Records": [{"eventSource": "aws:sns", "eventVersion": "1.0"}]},
        {"Records": [{"eventSource": "aws:s3", "eventVersion": "3.0", "eventName": "ObjectCreated:Put"}]},
        {"Records": [{"eventSource": "aws:s3", "eventVersion": "2.1", "eventName": "ObjectCreated:Put", "s3": {}}]},
        {"source": "aws.s3", "detail-type": "Object Created"},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": "text"},
    ],
)
def test_an_event_that_does_not_come_from_s3_is_rejected(payload: dict[str, Any]) -> None:
    with pytest.raises(EventNotUnderstood):
        uploads_in(payload)


def test_a_batch_of_messages_differs_from_a_bare_event() -> None:
    assert is_queue_batch(event("sqs-batch-one-bad.json"))
    assert not is_queue_batch(event("s3-put.json"))
    assert not is_queue_batch({})
