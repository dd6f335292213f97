"""Parses the events that the function accepts into the uploads that they name."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from core.delivery import Upload
from core.delivery.versions import known_version_id
from core.errors import EventNotUnderstood

Event = Mapping[str, Any]


def is_queue_batch(event: Event) -> bool:
    """Return whether the event is a batch of SQS messages."""
    records = event.get("Records")
    return isinstance(records, list) and bool(records) and records[0].get("eventSource") == "aws:sqs"


def uploads_in(event: Event) -> list[Upload]:
    """Return the uploads that an S3 event or an EventBridge event of S3 names.

    The list is empty for S3's test event, and for events that do not report a new object.

    Raises
    ------
    EventNotUnderstood
        If the event is of another kind or malformed.
    """
    if event.get("Event") == "s3:TestEvent":
        return []
    try:
        if event.get("source") == "aws.s3":
            uploads = [_from_eventbridge(event["detail"])] if event.get("detail-type") == "Object Created" else []
        else:
            uploads = [_from_record(record["s3"]) for record in event["Records"] if _is_new_object(record)]
        for upload in uploads:
            upload.key.encode()
        return uploads
    except UnicodeEncodeError as error:
        raise EventNotUnderstood("The event names a key that is not valid Unicode text.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise EventNotUnderstood(
            f"The event is neither an S3 event nor an EventBridge event of S3: {error} is missing or malformed."
        ) from error


def _is_new_object(record: Event) -> bool:
    if record["eventSource"] != "aws:s3":
        raise EventNotUnderstood(f"The record comes from {record['eventSource']!r}; only S3's are accepted.")
    # S3 documents that later versions 2.x only add fields.
    if record["eventVersion"].split(".")[0] != "2":
        raise EventNotUnderstood(f"The S3 event has version {record['eventVersion']!r}; only 2.x is supported.")
    return str(record["eventName"]).removeprefix("s3:").startswith("ObjectCreated:")


def _from_record(s3: Event) -> Upload:
    stored = s3["object"]
    return Upload(
        bucket=s3["bucket"]["name"],
        # Keys in S3 records are form-encoded: "+" is a space, "%2B" a plus sign.
        key=unquote_plus(stored["key"]),
        version_id=known_version_id(stored.get("versionId")),
        etag=stored.get("eTag") or "",
        sequencer=stored.get("sequencer"),
        size_bytes=stored.get("size"),
    )


def _from_eventbridge(detail: Event) -> Upload:
    stored = detail["object"]
    return Upload(
        bucket=detail["bucket"]["name"],
        # Keys in EventBridge events are not encoded: "+" is a plus sign.
        key=stored["key"],
        version_id=known_version_id(stored.get("version-id")),
        etag=stored.get("etag") or "",
        sequencer=stored.get("sequencer"),
        size_bytes=stored.get("size"),
    )
