"""Events about uploads, and the function that handles them."""

import json
from typing import Any

from core.local.stack import UPLOADS_BUCKET, Stack
from core.local.workers import LocalContext
from tests.conftest import ROOT

EVENTS = ROOT / "events"


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
