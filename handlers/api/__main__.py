"""Serve the HTTP API and its page on this machine: `make api`."""

import argparse
import contextlib
import socket
import sys

from core.errors import AudioEmotionError
from core.formatting import DEMO_NOTICE
from core.paths import default_model
from core.settings import (
    ApiSettings,
    MediaLimits,
    ModelSettings,
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
    options = parser.parse_args()
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
            read(StorageSettings),
        )
    except AudioEmotionError as error:
        _print(str(error))
        return 1
    if service.recogniser.model.demo:
        _print(f"{DEMO_NOTICE} Run `make model` to get a real model.")
    try:
        listener = socket.create_server((HOST, options.port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "It is not between 0 and 65535"
        _print(f"Port {options.port} cannot be used: {reason}. Choose another with --port.")
        return 1
    # uvicorn raises KeyboardInterrupt again after an orderly shutdown.
    with listener, contextlib.suppress(KeyboardInterrupt):
        port = listener.getsockname()[1]
        _print(f"Open http://{HOST}:{port}/ for the page, or /docs for the API reference. Press Ctrl-C to stop.")
        server_for(create_app(service, hosts=HOST_NAMES)).run(sockets=[listener])
    return 0


def _print(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
