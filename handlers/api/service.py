"""What the routes share: the recogniser, the store, the settings, and the bound on how much is worked on at once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

from core import settings
from core.checkpoints.loading import load_classifier
from core.delivery.storage import Storage, s3_client
from core.model.classifier import default_threads
from core.online.folder_store import FolderResultStore
from core.online.recogniser import Recogniser
from core.online.result_store import ResultStore, S3ResultStore, presigning_s3_client
from core.pipeline import Pipeline
from core.settings import ApiSettings, MediaLimits, ModelSettings, SegmentationSettings, StorageSettings
from handlers.api.problems import RETRY_AFTER_S, ProblemError

Answer = TypeVar("Answer")


class Workers:
    """Threads that classify: so many at once, so many more waiting, and the event loop free for everything else."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._waiting = waiting

    async def run(self, function: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
        """Call a function in a thread, when one is free.

        Raises
        ------
        ProblemError
            If too many are waiting for that already.
        """
        if self._limiter.available_tokens == 0 and self.waiting >= self._waiting:
            raise ProblemError("busy", "Try again in a few seconds.", headers={"Retry-After": str(RETRY_AFTER_S)})
        return await anyio.to_thread.run_sync(functools.partial(function, *args, **kwargs), limiter=self._limiter)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._limiter.statistics().tasks_waiting

    @property
    def working(self) -> int:
        """How many are worked on."""
        return self._limiter.statistics().borrowed_tokens


@dataclass(frozen=True)
class Service:
    """Everything that a request may need."""

    settings: ApiSettings
    limits: MediaLimits
    store: ResultStore
    recogniser: Recogniser
    workers: Workers

    @classmethod
    def load(cls, model_dir: Path) -> "Service":
        """Read the settings and load the model.

        Raises
        ------
        SettingsInvalid
            If a variable cannot be used.
        ModelError
            If the model cannot be loaded.
        """
        api, limits = settings.read(ApiSettings), settings.read(MediaLimits)
        store: ResultStore
        if api.results_bucket:
            store = S3ResultStore(
                Storage(s3_client(settings.read(StorageSettings))), presigning_s3_client(), api, limits.max_size_bytes
            )
        else:
            store = FolderResultStore(api, limits.max_size_bytes)
        model = settings.read(ModelSettings)
        classifier = load_classifier(model_dir, default_threads(model), verify=not model.is_lambda)
        pipeline = Pipeline(classifier, limits, settings.read(SegmentationSettings))
        return cls(api, limits, store, Recogniser(pipeline, store), Workers(api.api_concurrency, api.api_waiting))


def service_of(request: Request) -> Service:
    """The service that the app was made with."""
    service: Service = request.app.state.service
    return service
