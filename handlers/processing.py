"""What the entry points for recordings share: the delivery, the log, the metrics, and the time of one invocation."""

import time
from functools import cache
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from core import settings
from core.checkpoints.loading import load_classifier
from core.deadline import Deadline
from core.delivery import Delivery, Outcome, Upload
from core.delivery.eventbridge import ResultPublisher
from core.delivery.storage import Storage, s3_client
from core.errors import TransientError
from core.model.classifier import default_threads
from core.pipeline import Pipeline
from core.scratch import remove_leftovers
from handlers.log import SERVICE, logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

metrics = Metrics(namespace="AudioEmotion", service=SERVICE)

_MIN_SHARE_OF_TIME = 0.5
"""A recording later in a batch is put back rather than begun with less of the invocation's time than this."""


@cache
def delivery() -> Delivery:
    """The delivery of this process, made from the environment."""
    function = settings.read(settings.FunctionSettings)
    model = settings.read(settings.ModelSettings)
    classifier = load_classifier(model.model_dir, default_threads(model), verify=not model.is_lambda)
    limits, segmentation = settings.read(settings.MediaLimits), settings.read(settings.SegmentationSettings)
    pipeline = Pipeline(classifier, limits, segmentation)
    return Delivery(Storage(s3_client()), pipeline, function)


@cache
def _publisher(event_bus: str) -> ResultPublisher:
    return ResultPublisher(event_bus)


def warm_up() -> None:
    """In Lambda, do beforehand what is slow: the time before the first event has the whole processor to itself."""
    if not settings.read(settings.ModelSettings).is_lambda:
        return
    remove_leftovers()
    delivery()


class Invocation:
    """What the uploads of one invocation share: the time, and the request that they are logged under."""

    def __init__(self, delivery: Delivery, context: "LambdaContext") -> None:
        function = settings.read(settings.FunctionSettings)
        self._delivery = delivery
        self._function = function
        self._request_id = context.aws_request_id
        self._time_s = max(0.0, context.get_remaining_time_in_millis() / 1000 - function.deadline_margin_s)
        self._deadline = Deadline.after(self._time_s)

    def process_all(self, uploads: list[Upload], *, last: bool) -> None:
        """Work on several uploads; one that fails does not keep the others waiting, and is raised at the end."""
        failure: Exception | None = None
        for upload in uploads:
            try:
                self.process(upload, last=last)
            except Exception as error:  # noqa: BLE001 (told already, and raised below)
                failure = failure or error
        if failure:
            raise failure

    @property
    def max_receive_count(self) -> int:
        """How often the queue hands out a message."""
        return self._function.max_receive_count

    def process(self, upload: Upload, *, last: bool, anew: bool = False) -> Outcome:
        """Work on one upload, and say in one line what became of it; `last` and `anew` are those of the delivery."""
        started = time.monotonic()
        about: dict[str, Any] = {"bucket": upload.bucket, "key": upload.key, "version_id": upload.version_id}
        try:
            outcome = self._delivery.deliver(
                upload,
                last=last,
                deadline=self._deadline,
                least_s=self._time_s * _MIN_SHARE_OF_TIME,
                anew=anew,
                request_id=self._request_id,
            )
        except TransientError as error:
            metrics.add_metric("Retried", MetricUnit.Count, 1)
            logger.warning(
                "recording", **about, status="retry", error=type(error).__name__, reason=str(error), last_delivery=last
            )
            raise
        except Exception:
            # A fault of ours. Whoever works on a batch goes on with the next message, so it must be told here.
            metrics.add_metric("Crashed", MetricUnit.Count, 1)
            logger.exception("recording", **about, status="crashed", last_delivery=last)
            raise
        _report(outcome, about, (time.monotonic() - started) * 1000)
        self._publish(outcome)
        return outcome

    def _publish(self, outcome: Outcome) -> None:
        """Tell others, if the operator has named a bus; only what this delivery stored is news."""
        if outcome.result is None or not self._function.event_bus:
            return
        publisher = _publisher(self._function.event_bus)
        announced = publisher.publish(outcome.result, self._function.results_bucket, outcome.result_key)
        metrics.add_metric("Announced" if announced else "AnnouncementsFailed", MetricUnit.Count, 1)


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
