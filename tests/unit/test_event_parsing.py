"""Parsing of events into uploads."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.delivery import Removal, Upload
from core.errors import EventNotUnderstood
from handlers.events import event_from_json, is_queue_batch, uploads_in

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


@pytest.mark.parametrize(
    "name", ["ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete"]
)
def test_a_deletion_names_a_removal(name: str) -> None:
    payload = event("s3-put-unicode-key.json")
    [upload] = uploads_in(payload)
    payload["Records"][0]["eventName"] = name
    # S3 documents neither a size nor an ETag for deletions.
    del payload["Records"][0]["s3"]["object"]["size"], payload["Records"][0]["s3"]["object"]["eTag"]
    assert uploads_in(payload) == [Removal(upload.bucket, upload.key, upload.version_id)]


@pytest.mark.parametrize("reason", ["DeleteObject", "Lifecycle Expiration"])
def test_a_deletion_in_an_eventbridge_event_names_a_removal(reason: str) -> None:
    payload = event("eventbridge.json") | {"detail-type": "Object Deleted"}
    payload["detail"] |= {"reason": reason, "deletion-type": "Delete Marker Created"}
    payload["detail"]["object"] = {"key": "a+b%20c.wav", "etag": "d41d8", "version-id": "v", "sequencer": "617f"}
    assert uploads_in(payload) == [Removal("audio-emotion-uploads", "a+b%20c.wav", "v", "d41d8")]


@pytest.mark.parametrize(
    "name", ["ObjectTagging:Put", "ObjectRestore:Completed", "LifecycleTransition", "Replication:X"]
)
def test_an_event_of_another_kind_names_nothing(name: str) -> None:
    payload = event("s3-put.json")
    payload["Records"][0]["eventName"] = name
    assert uploads_in(payload) == []
    assert uploads_in(event("eventbridge.json") | {"detail-type": "Object Tags Added"}) == []


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


def notification(message: object) -> dict[str, Any]:
    """Return the body of a message from SNS without raw delivery."""
    envelope: dict[str, Any] = json.loads(event("sqs-sns-s3-put.json")["Records"][0]["body"])
    return envelope | {"Message": message}


@pytest.mark.parametrize("name", ["s3-put.json", "s3-multipart.json", "s3-put-unicode-key.json", "eventbridge.json"])
def test_an_sns_notification_names_the_uploads_of_its_event(name: str) -> None:
    assert uploads_in(notification(json.dumps(event(name)))) == uploads_in(event(name)) != []


def test_the_test_event_in_an_sns_notification_names_no_upload() -> None:
    assert uploads_in(notification(json.dumps(event("s3-test-event.json")))) == []


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_a_confirmation_of_sns_names_no_upload(kind: str) -> None:
    assert uploads_in(json.loads(event("sqs-sns-confirmation.json")["Records"][0]["body"]) | {"Type": kind}) == []


def nested(depth: int) -> str:
    text = json.dumps(event("s3-put.json"))
    for _ in range(depth):
        text = json.dumps(notification(text))
    return text


@pytest.mark.parametrize(
    "message",
    [
        None,
        7,
        {},
        [],
        event("s3-put.json"),
        "",
        "no JSON",
        "7",
        "[]",
        "null",
        '"text"',
        "{}",
        "[" * 100_000,
        '{"Records":' * 100_000,
        "9" * 10_000,
        nested(1),
        nested(3),
        json.dumps({"Type": "Notification"}),
        json.dumps({"Type": ["Notification"]}),
    ],
)
def test_an_sns_notification_of_anything_else_is_rejected(message: object) -> None:
    with pytest.raises(EventNotUnderstood):
        uploads_in(notification(message))


def test_an_sns_notification_without_a_message_is_rejected() -> None:
    with pytest.raises(EventNotUnderstood):
        uploads_in({"Type": "Notification"})


@pytest.mark.parametrize("body", [None, 7, b"\xff", "", "no JSON", "[]", "[" * 100_000, "9" * 10_000])
def test_a_body_that_is_no_json_object_is_rejected(body: object) -> None:
    with pytest.raises(EventNotUnderstood):
        event_from_json(body)


SCALARS = (st.none(), st.booleans(), st.integers(), st.floats(), st.text())
WRONG = st.one_of(*SCALARS, st.lists(st.text()), st.dictionaries(st.text(), st.text()))
"""Values in the place of another type."""


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Return the path of every value in a JSON document."""
    children: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [each for key, child in children for each in places(child, (*path, key))]


@given(st.data(), st.sampled_from(["s3-put.json", "eventbridge.json"]), st.booleans())
def test_a_value_of_another_type_is_rejected_or_harmless(data: st.DataObject, name: str, through_sns: bool) -> None:
    payload: Any = event(name)
    *parents, last = data.draw(st.sampled_from(places(payload)))
    holder = payload
    for key in parents:
        holder = holder[key]
    holder[last] = data.draw(WRONG)
    try:
        uploads = uploads_in(notification(json.dumps(payload)) if through_sns else payload)
    except EventNotUnderstood:
        return
    for upload in uploads:
        assert upload.bucket
        assert upload.key
        sequencer = upload.sequencer if isinstance(upload, Upload) else None
        for text in (upload.bucket, upload.key, upload.etag, upload.version_id or "", sequencer or ""):
            text.encode()
        assert upload.size_bytes is None or isinstance(upload.size_bytes, int)


def test_a_batch_of_messages_differs_from_a_bare_event() -> None:
    assert is_queue_batch(event("sqs-batch-one-bad.json"))
    assert not is_queue_batch(event("s3-put.json"))
    others: list[object] = [None, [], [7], {}, "text"]
    assert not any(is_queue_batch({"Records": records}) for records in others)
    assert not is_queue_batch({})
