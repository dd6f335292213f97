"""Parses the events that the function accepts into the uploads and the removals that they name."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from core.delivery import Removal, Upload
from core.delivery.versions import known_version_id
from core.errors import EventNotUnderstood
from handlers.log import logger

Event = Mapping[str, Any]

_CONFIRMATIONS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")
_HOW_TO_SUBSCRIBE = "Subscribe the queue to the topic from the queue's account, which needs no confirmation."

_FIELD_TYPES = {
    "bucket": str,
    "key": str,
    "version_id": str | None,
    "etag": str,
    "sequencer": str | None,
    "size_bytes": int | None,
}
"""Field of an upload or a removal -> its type. An event may come from any sender that the queue permits."""

_RECORD_CLASSES: dict[str, type[Upload | Removal]] = {
    "ObjectCreated": Upload,
    "ObjectRemoved": Removal,
    "LifecycleExpiration": Removal,
}
_EVENTBRIDGE_CLASSES: dict[str, type[Upload | Removal]] = {"Object Created": Upload, "Object Deleted": Removal}


def is_queue_batch(event: Event) -> bool:
    """Return whether the event is a batch of SQS messages."""
    records = event.get("Records")
    return isinstance(records, list) and records != [] and _source(records[0]) == "aws:sqs"


def _source(record: object) -> object:
    return record.get("eventSource") if isinstance(record, dict) else None


def event_from_json(text: object) -> Event:
    """Parse a message that contains an event.

    Raises
    ------
    EventNotUnderstood
        If the message is not a JSON object.
    """
    try:
        event = json.loads(text)  # type: ignore[arg-type]  # a wrong type is a TypeError
    except (TypeError, ValueError, RecursionError) as error:
        raise EventNotUnderstood(f"The message is not JSON: {error}.") from error
    if not isinstance(event, dict):
        raise EventNotUnderstood("The message is not a JSON object.")
    return event


def uploads_in(event: Event) -> list[Upload | Removal]:
    """Return the uploads and removals that an S3 event or an EventBridge event of S3 names, also inside an SNS message.

    The list is empty for S3's test event, for events of other kinds, and for SNS's own messages.

    Raises
    ------
    EventNotUnderstood
        If the event does not come from S3 or is malformed.
    """
    kind = event.get("Type")
    if kind == "Notification":
        event = event_from_json(event.get("Message"))
    elif kind in _CONFIRMATIONS:
        # A retry could not confirm the subscription. The log omits the URL that could: the sender is not verified.
        logger.warning("subscription not confirmed", topic=event.get("TopicArn"), type=kind, reason=_HOW_TO_SUBSCRIBE)
        return []
    if event.get("Event") == "s3:TestEvent":
        return []
    try:
        if event.get("source") == "aws.s3":
            detail_type = str(event.get("detail-type"))
            found = [_from_eventbridge(detail_type, event["detail"])] if detail_type in _EVENTBRIDGE_CLASSES else []
        else:
            found = [upload for record in event["Records"] if (upload := _from_record(record))]
        for upload in found:
            _check(upload)
        return found
    except UnicodeEncodeError as error:
        raise EventNotUnderstood("The event names an object by text that is not valid Unicode.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise EventNotUnderstood(
            f"The event is neither an S3 event nor an EventBridge event of S3: {error} is missing or malformed."
        ) from error


def _check(upload: Upload | Removal) -> None:
    """Raise TypeError or UnicodeEncodeError for fields that would crash a call to S3."""
    for name, kind in _FIELD_TYPES.items():
        value = getattr(upload, name, None)
        if not isinstance(value, kind) or (name in ("bucket", "key") and not value):
            raise TypeError(name)
        if isinstance(value, str):
            value.encode()


def _from_record(record: Event) -> Upload | Removal | None:
    """Return the upload or the removal of a record, or None if it reports neither."""
    if record["eventSource"] != "aws:s3":
        raise EventNotUnderstood(f"The record comes from {record['eventSource']!r}; only S3's are accepted.")
    # S3 documents that later versions 2.x only add fields.
    if record["eventVersion"].split(".")[0] != "2":
        raise EventNotUnderstood(f"The S3 event has version {record['eventVersion']!r}; only 2.x is supported.")
    kind = str(record["eventName"]).removeprefix("s3:").partition(":")[0]
    if kind not in _RECORD_CLASSES:
        return None
    stored = record["s3"]["object"]
    fields = {
        "bucket": record["s3"]["bucket"]["name"],
        # Keys in S3 records are form-encoded: "+" is a space, "%2B" a plus sign.
        "key": unquote_plus(stored["key"]),
        "version_id": known_version_id(stored.get("versionId")),
        "etag": stored.get("eTag") or "",
    }
    return _described(_RECORD_CLASSES[kind], fields, stored)


def _from_eventbridge(detail_type: str, detail: Event) -> Upload | Removal:
    stored = detail["object"]
    fields = {
        "bucket": detail["bucket"]["name"],
        # Keys in EventBridge events are not encoded: "+" is a plus sign.
        "key": stored["key"],
        "version_id": known_version_id(stored.get("version-id")),
        "etag": stored.get("etag") or "",
    }
    return _described(_EVENTBRIDGE_CLASSES[detail_type], fields, stored)


def _described(kind: type[Upload | Removal], fields: dict[str, Any], stored: Event) -> Upload | Removal:
    if kind is Removal:
        return Removal(**fields)
    return Upload(**fields, sequencer=stored.get("sequencer"), size_bytes=stored.get("size"))
