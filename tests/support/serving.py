"""Serve the HTTP API on a free port of the loopback address, as `make api` does."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.types import ASGIApp

from core.settings import (
    ApiSettings,
    MediaLimits,
    ModelSettings,
    ScoreSettings,
    SegmentationSettings,
    SpeakerSettings,
    StorageSettings,
    read,
)
from handlers.api.app import create_app
from handlers.api.server import server_for
from handlers.api.service import Service


def folder_service(
    package: Path, folder: Path, *, speakers: SpeakerSettings | None = None, **settings: object
) -> Service:
    """Return a service whose results are in a folder."""
    api = ApiSettings.model_validate({"results_folder": folder, **settings})
    model = ModelSettings(model_dir=package)
    return Service.load(
        model,
        api,
        MediaLimits(),
        SegmentationSettings(),
        speakers or SpeakerSettings(),
        ScoreSettings(),
        StorageSettings(),
    )


def service_from_environment(package: Path) -> Service:
    """Return a service with the settings of the environment, as the entry points do."""
    model = read(ModelSettings).model_copy(update={"model_dir": package})
    return Service.load(
        model,
        read(ApiSettings),
        read(MediaLimits),
        read(SegmentationSettings),
        read(SpeakerSettings),
        read(ScoreSettings),
        read(StorageSettings),
    )


@contextmanager
def serving(
    service: Service,
    *,
    hosts: Iterable[str] | None = ("127.0.0.1",),
    behind: Callable[[ASGIApp], ASGIApp] | None = None,
) -> Iterator[str]:
    """Serve on a free port; yield the address, `http://127.0.0.1:…`.

    Parameters
    ----------
    behind
        Wraps the app, as API Gateway does on AWS.
    """
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
