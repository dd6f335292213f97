"""Code shared by the entry points for recordings: the delivery, logs, metrics and the deadline of an invocation."""

import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from core import settings
from core.checkpoints.loading import load_classifier
from core.deadline import Deadline
from core.delivery import Attempt, Delivery, Outcome, Removal, Upload
from core.delivery.eventbridge import ResultPublisher
from core.delivery.queue import UploadQueue, retry_delay_s
from core.delivery.storage import Storage, s3_client
from core.errors import TransientError
from core.machine import start_ms
from core.model.classifier import default_threads
from core.pipeline import Pipeline
from core.scratch import remove_leftovers, warn_if_too_small
from core.settings import (
    FunctionSettings,
    MediaLimits,
    MetricSettings,
    ModelSettings,
    ScoreSettings,
    SegmentationSettings,
    SpeakerSettings,
    StorageSettings,
)
from core.speakers.separation import SpeakerSeparator
from handlers.log import SERVICE, logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# The arguments win over POWERTOOLS_METRICS_NAMESPACE and POWERTOOLS_SERVICE_NAME. CrashesAlarm has the same dimensions.
metrics = Metrics(namespace="AudioEmotion", service=SERVICE)
metrics.set_default_dimensions(stack=settings.read(MetricSettings).stack_name)


@cache
def delivery() -> Delivery:
    """Return the process's only `Delivery`, configured by the environment."""
    model = settings.read(ModelSettings)
    threads = default_threads(model)
    classifier = load_classifier(model.model_dir, threads, verify=not model.is_lambda)
    limits = settings.read(MediaLimits)
    warn_if_too_small(limits.max_size_bytes)
    speakers = SpeakerSeparator(settings.read(SpeakerSettings), threads)
    segmentation, scores = settings.read(SegmentationSettings), settings.read(ScoreSettings)
    pipeline = Pipeline(classifier, limits, segmentation, speakers, scores)
    storage = Storage(s3_client(settings.read(StorageSettings)))
    function = settings.read(FunctionSettings)
    start_ms()  # the model is loaded
    return Delivery(storage, pipeline, function, queue(function.queue_url) if function.queue_url else None)


@cache
def _publisher(event_bus: str) -> ResultPublisher:
    return ResultPublisher(event_bus)


@cache
def queue(url: str) -> UploadQueue:
    """Return the process's only `UploadQueue`. It connects when it is first used."""
    return UploadQueue(url)


def warm_up() -> None:
    """Load the model when Lambda starts the process, because Lambda gives the init phase the full CPU."""
    if not settings.read(ModelSettings).is_lambda:
        return
    remove_leftovers()
    delivery()


class Invocation:
    """One invocation of a function, whose uploads share a deadline and a request id.

    Attributes
    ----------
    attempt
        The attempt of each upload. Entry points replace the fields that depend on the event.
    """

    def __init__(self, delivery: Delivery, context: "LambdaContext") -> None:
        self._delivery = delivery
        self._settings = delivery.settings
        remaining_s = context.get_remaining_time_in_millis() / 1000
        deadline = Deadline.after(max(0.0, remaining_s - self._settings.deadline_margin_s))
        self.attempt = Attempt(deadline=deadline, request_id=context.aws_request_id)

    def is_last(self, receive_count: int) -> bool:
        """Return whether the queue delivers a message no more after this many deliveries."""
        return receive_count >= self._settings.max_receive_count

    def retry_later(self, receipt_handle: str, receive_count: int, error: Exception) -> None:
        """Set when the queue delivers a failed message again.

        Parameters
        ----------
        error
            The error of the delivery.
        """
        if not self._settings.queue_url:
            return
        # After the last delivery, the message moves to the dead-letter queue as soon as it is visible.
        delay_s = 0.0
        if not self.is_last(receive_count):
            delay_s = retry_delay_s(error, receive_count, self._settings.retry_delay_s)
        if not queue(self._settings.queue_url).hide(receipt_handle, delay_s):
            metrics.add_metric("RetryDelaysFailed", MetricUnit.Count, 1)

    def process_all(self, uploads: Sequence[Upload | Removal], attempt: Attempt) -> None:
        """Process every upload, then raise the first error."""
        failure: Exception | None = None
        for upload in uploads:
            try:
                self.process(upload, attempt)
            except Exception as error:  # noqa: BLE001 (logged already, and raised below)
                failure = failure or error
        if failure:
            raise failure

    def process(self, upload: Upload | Removal, attempt: Attempt) -> Outcome:
        """Process one upload or removal and log its outcome in one line."""
        started = time.monotonic()
        fields: dict[str, Any] = {"bucket": upload.bucket, "key": upload.key, "version_id": upload.version_id}
        is_last = attempt.is_last
        try:
            if isinstance(upload, Upload):
                outcome = self._delivery.deliver(upload, attempt)
            else:
                outcome = self._delivery.remove(upload, attempt)
        except TransientError as error:
            metrics.add_metric("Retried", MetricUnit.Count, 1)
            kind = type(error).__name__
            logger.warning("recording", **fields, status="retry", error=kind, reason=str(error), last_delivery=is_last)
            raise
        except Exception:
            # Logged here, because the caller catches the error and continues with the next message.
            metrics.add_metric("Crashed", MetricUnit.Count, 1)
            logger.exception("recording", **fields, status="crashed", last_delivery=is_last)
            raise
        _log(outcome, fields, total_ms=round((time.monotonic() - started) * 1000))
        if attempt.origin == "upload":  # a backfill may replace millions of results
            self._publish(outcome)
        return outcome

    def _publish(self, outcome: Outcome) -> None:
        """Publish the result that this delivery stored, if a bus is configured."""
        if outcome.result is None or not self._settings.event_bus:
            return
        publisher = _publisher(self._settings.event_bus)
        is_published = publisher.publish(outcome.result, self._settings.results_bucket, outcome.result_key)
        metrics.add_metric("Announced" if is_published else "AnnouncementsFailed", MetricUnit.Count, 1)


def _log(outcome: Outcome, fields: dict[str, Any], *, total_ms: int) -> None:
    result = outcome.result
    if result is None:
        names = {"duplicate": "Duplicates", "removed": "Removed", "continued": "Continued"}
        name = names.get(outcome.kind, "Skipped")
        metrics.add_metric(name, MetricUnit.Count, 1)
        logger.info("recording", **fields, status=outcome.kind, total_ms=total_ms)
        return
    metrics.add_metric({"classified": "Classified", "no_speech": "NoSpeech"}.get(result.status, "Failed"), "Count", 1)
    if result.error:
        metrics.add_metric(f"Failed_{result.error.code}", MetricUnit.Count, 1)
    if result.audio:
        metrics.add_metric("AudioSeconds", MetricUnit.Seconds, result.audio.duration_s)
    metrics.add_metric("InferenceTime", MetricUnit.Milliseconds, result.processing.inference_ms)
    logger.info(
        "recording",
        **fields,
        **result.summary(),
        error=result.error.code if result.error else None,
        decode_ms=result.processing.decode_ms,
        inference_ms=result.processing.inference_ms,
        total_ms=total_ms,
        result_key=outcome.result_key,
    )
