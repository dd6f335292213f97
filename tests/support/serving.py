"""The HTTP API on a free port of the loopback address, served as `make api` serves it."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.types import ASGIApp

from core.model.classifier import EmotionClassifier
from core.online.folder_store import FolderResultStore
from core.online.recogniser import Recogniser
from core.pipeline import Pipeline
from core.settings import ApiSettings, MediaLimits, SegmentationSettings
from handlers.api.app import create_app
from handlers.api.server import server_for
from handlers.api.service import Service, Workers


def folder_service(package: Path, folder: Path, **settings: object) -> Service:
    """A service that keeps its results in a folder."""
    api = ApiSettings.model_validate({"results_folder": folder, **settings})
    limits = MediaLimits()
    store = FolderResultStore(api, limits.max_size_bytes)
    recogniser = Recogniser(Pipeline(EmotionClassifier.load(package), limits, SegmentationSettings()), store)
    return Service(api, limits, store, recogniser, Workers(api.api_concurrency, api.api_waiting))


@contextmanager
def serving(
    service: Service,
    *,
    hosts: Iterable[str] | None = ("127.0.0.1",),
    behind: Callable[[ASGIApp], ASGIApp] | None = None,
) -> Iterator[str]:
    """Serve, on AWS behind something that may refuse by itself; yields the address: `http://127.0.0.1:…`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = create_app(service, hosts=hosts)
        if behind:
            app = behind(app)
        server = server_for(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
