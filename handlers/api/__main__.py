"""Serve the HTTP API and its page on this machine: `make api`."""

import argparse
import contextlib
import errno
import socket
import sys

from core.errors import AudioEmotionError
from core.formatting import DEMO_NOTICE
from core.paths import default_model
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
from handlers.api.server import HOST, HOST_NAMES, server_for
from handlers.api.service import Service


def main() -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m handlers.api", description=__doc__)
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument(
        "--in-container",
        action="store_true",
        help="listen on every address of the container; publish the port with `docker run -p 127.0.0.1:8010:8010`",
    )
    options = parser.parse_args()
    try:
        # Before the model is loaded, which takes longer.
        listener = socket.create_server(("" if options.in_container else HOST, options.port))
    except (OSError, OverflowError) as error:
        _print(f"Port {options.port} cannot be used: {_reason(error)}. Choose another: `make api PORT=8011` or --port.")
        return 1
    with listener:
        return _serve(listener)


def _serve(listener: socket.socket) -> int:
    try:
        model = read(ModelSettings)
        if "model_dir" not in model.model_fields_set:
            model = model.model_copy(update={"model_dir": default_model()})
        service = Service.load(
            model,
            read(ApiSettings),
            read(MediaLimits),
            read(SegmentationSettings),
            read(SpeakerSettings),
            read(ScoreSettings),
            read(StorageSettings),
        )
    except AudioEmotionError as error:
        _print(str(error))
        return 1
    if service.recogniser.model.demo:
        _print(f"{DEMO_NOTICE} Run `make model` to get a real model.")
    # uvicorn raises KeyboardInterrupt again after an orderly shutdown.
    with contextlib.suppress(KeyboardInterrupt):
        port = listener.getsockname()[1]
        _print(f"Open http://{HOST}:{port}/ for the page, or /docs for the API reference. Press Ctrl-C to stop.")
        server_for(create_app(service, hosts=HOST_NAMES)).run(sockets=[listener])
    return 0


def _reason(error: OSError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return "it is not between 0 and 65535"
    return "another program uses it" if error.errno == errno.EADDRINUSE else str(error.strerror)


def _print(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
