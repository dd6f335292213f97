"""Lambda entry point for uploads: as SQS messages, bare S3 events or EventBridge events."""

import json
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from core import settings
from core.deadline import Deadline
from core.delivery import SCRATCH_PREFIX, Delivery, Outcome, Upload
from core.errors import EventNotUnderstood, OutOfTime, TransientError
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.storage import Storage, s3_client
from handlers.events import is_queue_batch, uploads_in

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_NAME = "audio-emotion"


def _one_line(entry: dict[str, Any]) -> str:
    """JSON whose text is readable, and in which nothing that moves a cursor or turns the text around is left as it is.

    Keys are the uploader's, and logs are read in terminals, which obey the control characters beyond ASCII as well.
    """
    text = json.dumps(entry, ensure_ascii=False, default=str, separators=(",", ":"))
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in text)


logger = Logger(service=_NAME, json_serializer=_one_line)
metrics = Metrics(namespace="AudioEmotion", service=_NAME)

_LEAST_SHARE_OF_TIME = 0.5
"""A recording later in a batch is put back rather than begun with less of the invocation's time than this: running
out of time would be held against the recording."""


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
    invocation = _Invocation(_delivery(), context)
    if not is_queue_batch(event):
        uploads = uploads_in(event)
        invocation.work_on_all(uploads, last=False)
        return {"uploads": len(uploads)}
    answer = process_partial_response(
        event=event,
        record_handler=invocation.work_on_message,
        # One message that fails is no reason to raise, and neither are all of them.
        processor=BatchProcessor(EventType.SQS, raise_on_entire_batch_failure=False),
        context=context,
    )
    return dict(answer)


@cache
def _delivery() -> Delivery:
    function = settings.read(settings.FunctionSettings)
    model = settings.read(settings.ModelSettings)
    classifier = EmotionClassifier.load(model.model_dir)
    pipeline = Pipeline(classifier, settings.read(settings.MediaLimits))
    return Delivery(Storage(s3_client()), pipeline, function)


class _Invocation:
    """What the uploads of one invocation share: the time, and the request that they are logged under."""

    def __init__(self, delivery: Delivery, context: "LambdaContext") -> None:
        function = settings.read(settings.FunctionSettings)
        self._delivery = delivery
        self._max_receive_count = function.max_receive_count
        self._request_id = context.aws_request_id
        self._time_s = max(0.0, context.get_remaining_time_in_millis() / 1000 - function.deadline_margin_s)
        self._deadline = Deadline.after(self._time_s)

    def work_on_message(self, record: SQSRecord) -> None:
        """Work on the uploads in one SQS record."""
        try:
            body = json.loads(record.body)
            if not isinstance(body, dict):
                raise EventNotUnderstood("The message's body is no JSON object.")
            uploads = uploads_in(body)
        except (ValueError, EventNotUnderstood) as error:
            metrics.add_metric("EventsNotUnderstood", MetricUnit.Count, 1)
            logger.error("message not understood", message_id=record.message_id, reason=str(error))
            raise EventNotUnderstood(str(error)) from error
        last = int(record.attributes.approximate_receive_count) >= self._max_receive_count
        self.work_on_all(uploads, last=last)

    def work_on_all(self, uploads: list[Upload], *, last: bool) -> None:
        """Work on several uploads; one that fails does not keep the others waiting, and is raised at the end."""
        failure: Exception | None = None
        for upload in uploads:
            try:
                self.work(upload, last=last)
            except Exception as error:  # noqa: BLE001 (told already, and raised below)
                failure = failure or error
        if failure:
            raise failure

    def work(self, upload: Upload, *, last: bool) -> None:
        """Work on one upload, and say in one line what became of it."""
        started = time.monotonic()
        about: dict[str, Any] = {"bucket": upload.bucket, "key": upload.key, "version_id": upload.version_id}
        try:
            if not last and self._deadline.remaining_s < self._time_s * _LEAST_SHARE_OF_TIME:
                raise OutOfTime("Too little of the invocation's time is left to begin on this recording.")
            outcome = self._delivery.deliver(upload, last=last, deadline=self._deadline, request_id=self._request_id)
        except TransientError as error:
            metrics.add_metric("Retried", MetricUnit.Count, 1)
            logger.warning(
                "recording", **about, status="retry", error=type(error).__name__, reason=str(error), last_delivery=last
            )
            raise
        except Exception:
            # A fault of ours. The batch processor keeps it to itself, so it must be told here.
            metrics.add_metric("Crashed", MetricUnit.Count, 1)
            logger.exception("recording", **about, status="crashed", last_delivery=last)
            raise
        _report(outcome, about, (time.monotonic() - started) * 1000)


def _report(outcome: Outcome, about: dict[str, Any], total_ms: float) -> None:
    result = outcome.result
    if result is None:
        metrics.add_metric("Duplicates" if outcome.kind == "duplicate" else "Skipped", MetricUnit.Count, 1)
        logger.info("recording", **about, status=outcome.kind, total_ms=round(total_ms))
        return
    metrics.add_metric({"classified": "Classified", "no_speech": "NoSpeech"}.get(result.status, "Failed"), "Count", 1)
    if result.error:
        metrics.add_metric(f"Failed_{result.error.code}", MetricUnit.Count, 1)
    if result.audio:
        metrics.add_metric("AudioSeconds", MetricUnit.Seconds, result.audio.duration_s)
    metrics.add_metric("InferenceTime", MetricUnit.Milliseconds, result.processing.inference_ms)
    logger.info(
        "recording",
        **about,
        status=result.status,
        emotion=result.emotion,
        error=result.error.code if result.error else None,
        duration_s=result.audio.duration_s if result.audio else None,
        decode_ms=result.processing.decode_ms,
        inference_ms=result.processing.inference_ms,
        total_ms=round(total_ms),
        result_key=outcome.result_key,
    )


if settings.read(settings.ModelSettings).aws_lambda_function_memory_size is not None:
    # An invocation that was killed leaves its recording behind, and /tmp outlives it.
    for left_behind in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    # In Lambda, load now: the time before the first event has the whole processor to itself.
    _delivery()
