"""The objects that routes share: settings, recogniser, result store, and the pool of workers."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Depends, Request

from core.checkpoints.loading import load_classifier
from core.delivery.storage import Storage, s3_client
from core.model.classifier import default_threads
from core.online.folder_store import FolderResultStore
from core.online.recogniser import Recogniser
from core.online.result_store import ResultStore, S3ResultStore, presigning_s3_client
from core.pipeline import Pipeline
from core.scratch import warn_if_too_small
from core.settings import (
    ApiSettings,
    MediaLimits,
    ModelSettings,
    ScoreSettings,
    SegmentationSettings,
    SpeakerSettings,
    StorageSettings,
)
from core.speakers.separation import SpeakerSeparator
from handlers.api.problems import RETRY_AFTER_S, ProblemError

T = TypeVar("T")


class Workers:
    """Threads that classify recordings, with a bounded queue. The event loop stays free for other requests."""

    def __init__(self, concurrency: int, max_waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(concurrency)
        self._max_waiting = max_waiting

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function in a worker thread as soon as one is free, and return its result.

        Raises
        ------
        ProblemError
            If the queue is full.
        """
        if self._limiter.available_tokens == 0 and self.waiting >= self._max_waiting:
            raise ProblemError(
                "busy",
                "Too many recordings are waiting. Try again in a few seconds.",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        return await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs), limiter=self._limiter)

    @property
    def waiting(self) -> int:
        """Number of recordings that wait for a thread."""
        return self._limiter.statistics().tasks_waiting

    @property
    def working(self) -> int:
        """Number of recordings that are being classified."""
        return self._limiter.statistics().borrowed_tokens


@dataclass(frozen=True)
class Service:
    """The objects that requests use."""

    settings: ApiSettings
    limits: MediaLimits
    store: ResultStore
    recogniser: Recogniser
    workers: Workers

    @classmethod
    def load(
        cls,
        model: ModelSettings,
        settings: ApiSettings,
        limits: MediaLimits,
        segmentation: SegmentationSettings,
        speakers: SpeakerSettings,
        scores: ScoreSettings,
        storage: StorageSettings,
    ) -> "Service":
        """Load the model, and store results in the buckets if the settings name them, or in a folder.

        Raises
        ------
        ModelError
            If the model or the speaker network cannot be loaded.
        """
        threads = default_threads(model)
        classifier = load_classifier(model.model_dir, threads, verify=not model.is_lambda)
        separator = SpeakerSeparator(speakers, threads)
        store: ResultStore
        if settings.results_bucket:
            s3 = Storage(s3_client(storage))
            store = S3ResultStore(s3, presigning_s3_client(), settings, limits.max_size_bytes)
        else:
            warn_if_too_small(limits.max_size_bytes)
            store = FolderResultStore(settings, limits.max_size_bytes)
        recogniser = Recogniser(Pipeline(classifier, limits, segmentation, separator, scores), store)
        return cls(settings, limits, store, recogniser, Workers(settings.api_concurrency, settings.api_waiting))


def service_of(request: Request) -> Service:
    """Return the service of the app."""
    service: Service = request.app.state.service
    return service


CurrentService = Annotated[Service, Depends(service_of)]
