"""Lambda entry point for uploads: as SQS messages, bare S3 events or EventBridge events."""

import json
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from core.delivery import Upload
from core.errors import EventNotUnderstood
from handlers import work
from handlers.events import is_queue_batch, uploads_in
from handlers.log import logger
from handlers.work import metrics

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
    invocation = work.Invocation(work.delivery(), context)
    if not is_queue_batch(event):
        uploads = uploads_in(event)
        invocation.work_on_all(uploads, last=False)
        return {"uploads": len(uploads)}

    def work_on_message(record: SQSRecord) -> None:
        last = int(record.attributes.approximate_receive_count) >= invocation.max_receive_count
        invocation.work_on_all(_uploads_in_message(record), last=last)

    answer = process_partial_response(
        event=event,
        record_handler=work_on_message,
        # One message that fails is no reason to raise, and neither are all of them.
        processor=BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False),
        context=context,
    )
    return dict(answer)


def _uploads_in_message(record: SQSRecord) -> list[Upload]:
    try:
        body = json.loads(record.body)
        if not isinstance(body, dict):
            raise EventNotUnderstood("The message's body is no JSON object.")
        return uploads_in(body)
    except (ValueError, EventNotUnderstood) as error:
        metrics.add_metric("EventsNotUnderstood", MetricUnit.Count, 1)
        logger.error("message not understood", message_id=record.message_id, reason=str(error))
        raise EventNotUnderstood(str(error)) from error


work.prepare()
