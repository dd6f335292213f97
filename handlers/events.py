"""From an event of any kind that the function takes to the uploads that it is about."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from core.delivery import Upload
from core.errors import EventNotUnderstood

Event = Mapping[str, Any]


def is_queue_batch(event: Event) -> bool:
    """Whether the event is a batch of SQS messages."""
    records = event.get("Records")
    return isinstance(records, list) and bool(records) and records[0].get("eventSource") == "aws:sqs"


def uploads_in(event: Event) -> list[Upload]:
    """The uploads that a bare S3 event or an EventBridge S3 event is about.

    Returns
    -------
    Nothing for S3's test event and for events about anything but a new object.

    Raises
    ------
    EventNotUnderstood
        If it is neither.
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
        raise EventNotUnderstood("The event names a key that is no text, which S3 does not have.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise EventNotUnderstood(
            f"The event is neither an S3 event nor an EventBridge event of S3's: {error} is absent or malformed."
        ) from error


def _is_new_object(record: Event) -> bool:
    if record["eventSource"] != "aws:s3":
        raise EventNotUnderstood(f"Records of {record['eventSource']!r} are not taken, only S3's.")
    # 2.x promises that fields are only ever added.
    if record["eventVersion"].split(".")[0] != "2":
        raise EventNotUnderstood(f"S3 events of version {record['eventVersion']!r} are not known, only 2.x.")
    return str(record["eventName"]).removeprefix("s3:").startswith("ObjectCreated:")


def _from_record(s3: Event) -> Upload:
    stored = s3["object"]
    return Upload(
        bucket=s3["bucket"]["name"],
        # Keys in S3 records are form-encoded: a space comes as "+", a plus sign as "%2B".
        key=unquote_plus(stored["key"]),
        version_id=known_version(stored.get("versionId")),
        etag=stored.get("eTag"),
        sequencer=stored.get("sequencer"),
        size_bytes=stored.get("size"),
    )


def _from_eventbridge(detail: Event) -> Upload:
    stored = detail["object"]
    return Upload(
        bucket=detail["bucket"]["name"],
        # Not form-encoded here: a plus sign is a plus sign.
        key=stored["key"],
        version_id=known_version(stored.get("version-id")),
        etag=stored.get("etag"),
        sequencer=stored.get("sequencer"),
        size_bytes=stored.get("size"),
    )


def known_version(version_id: str | None) -> str | None:
    """The version that an event names, if it names one: "null" is what an object has from before versioning."""
    return None if version_id in (None, "", "null") else version_id
