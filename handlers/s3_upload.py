"""Lambda entry point for uploads: as SQS messages, bare S3 events or EventBridge events."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from core.delivery import Upload
from core.errors import EventNotUnderstood
from handlers import processing
from handlers.events import is_queue_batch, uploads_in
from handlers.log import logger
from handlers.processing import metrics

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@metrics.log_metrics(capture_cold_start_metric=True)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Work on every upload that the event is about.

    Returns
    -------
    For a batch of SQS messages, those that must come again; otherwise how many uploads there were.

    Raises
    ------
    TransientError
        If an upload that came without a queue must come again: Lambda repeats asynchronous events itself.
    EventNotUnderstood
        If an event that came without a queue is of no known kind.
    """
    metrics.add_metric("Invocations", MetricUnit.Count, 1)
    invocation = processing.Invocation(processing.delivery(), context)
    if not is_queue_batch(event):
        uploads = uploads_in(event)
        invocation.process_all(uploads, last=False)
        return {"uploads": len(uploads)}

    failed = [message["messageId"] for message in event["Records"] if not _is_done(message, invocation)]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _is_done(message: Mapping[str, Any], invocation: processing.Invocation) -> bool:
    """Whether the queue may forget a message. One that fails does not keep the others waiting.

    Not Powertools' batch processor: it imports asyncio (docs/performance.md).
    """
    try:
        uploads, receive_count = _read(message)
        invocation.process_all(uploads, last=receive_count >= invocation.max_receive_count)
    except Exception:  # noqa: BLE001 (whoever raised it has told the log)
        return False
    return True


def _read(message: Mapping[str, Any]) -> tuple[list[Upload], int]:
    """The uploads that a message is about, and how often it has been handed out."""
    try:
        receive_count = int(message["attributes"]["ApproximateReceiveCount"])
        body = json.loads(message["body"])
        if not isinstance(body, dict):
            raise EventNotUnderstood("The message's body is no JSON object.")
        return uploads_in(body), receive_count
    except (KeyError, TypeError, ValueError, EventNotUnderstood) as error:
        metrics.add_metric("EventsNotUnderstood", MetricUnit.Count, 1)
        logger.error("message not understood", message_id=message["messageId"], reason=str(error))
        raise EventNotUnderstood(str(error)) from error


processing.warm_up()
