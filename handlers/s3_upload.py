"""Lambda entry point for uploads, in SQS messages, S3 events or EventBridge events, and for the benchmark."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit

from core.delivery import Removal, Upload
from core.delivery.queue import CONTINUES
from core.errors import EventNotUnderstood
from handlers import processing
from handlers.benchmark import answer, is_benchmark
from handlers.events import event_from_json, is_queue_batch, uploads_in
from handlers.log import logger
from handlers.processing import metrics

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


@metrics.log_metrics(capture_cold_start_metric=True)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Process every upload that the event names.

    Returns
    -------
    For a batch of SQS messages, the messages to retry; for a benchmark, its outcome; otherwise the number of uploads.

    Raises
    ------
    TransientError
        If an upload of an asynchronous event must be retried. Lambda retries the event.
    EventNotUnderstood
        If an event that did not come from the queue is of an unknown kind.
    """
    metrics.add_metric("Invocations", MetricUnit.Count, 1)
    if is_benchmark(event):
        return answer(event, context)
    invocation = processing.Invocation(processing.delivery(), context)
    if not is_queue_batch(event):
        uploads = uploads_in(event)
        invocation.process_all(uploads, invocation.attempt)
        return {"uploads": len(uploads)}

    failed = [message["messageId"] for message in event["Records"] if not _process(message, invocation)]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _process(message: Mapping[str, Any], invocation: processing.Invocation) -> bool:
    """Process a message and return whether the queue may delete it.

    Powertools' batch processor would add to the function's imports (docs/decisions/0009-fewer-imports.md).
    """
    receive_count = 1
    try:
        uploads, receive_count = _parse(message)
        origin = message.get("messageAttributes", {}).get(CONTINUES, {}).get("stringValue")
        attempt = replace(
            invocation.attempt,
            is_last=invocation.is_last(receive_count),
            is_first=receive_count == 1 and origin is None,
            retry_recoverable=origin == "backfill",
            origin=origin or "upload",
        )
        invocation.process_all(uploads, attempt)
    except Exception as error:  # noqa: BLE001 (logged already)
        if handle := message.get("receiptHandle"):
            invocation.retry_later(handle, receive_count, error)
        return False
    return True


def _parse(message: Mapping[str, Any]) -> tuple[list[Upload | Removal], int]:
    """Return the uploads that a message names, and the number of its deliveries."""
    try:
        receive_count = int(message["attributes"]["ApproximateReceiveCount"])
        return uploads_in(event_from_json(message["body"])), receive_count
    except (KeyError, TypeError, ValueError, EventNotUnderstood) as error:
        metrics.add_metric("EventsNotUnderstood", MetricUnit.Count, 1)
        logger.error("message not understood", message_id=message["messageId"], reason=str(error))
        raise EventNotUnderstood(str(error)) from error


processing.warm_up()
