"""`make api`: the HTTP API and its page on this machine, for this machine alone."""

import argparse
import sys

import uvicorn

from core import settings
from core.cli.paths import default_model
from core.errors import AudioEmotionError
from core.settings import ModelSettings
from handlers.api.app import create_app
from handlers.api.service import Service

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_MOST_CONNECTIONS = 256
_KEEP_ALIVE_S = 5
_GRACE_S = 10
_LONGEST_HEADERS_BYTES = 16 * 1024


def main() -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m handlers.api", description=(__doc__ or "").strip())
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=8010)
    options = parser.parse_args()
    try:
        model = settings.read(ModelSettings)
        service = Service.load(model.model_dir if "model_dir" in model.model_fields_set else default_model())
    except AudioEmotionError as error:
        _say(str(error))
        return 1
    if service.recogniser.model.demo:
        _say("This is the demo model, which knows nothing of real people. `make model` fetches the real one.")
    _say(f"The page is at http://{options.host}:{options.port}/, the description at /docs. Ctrl-C ends it.")
    uvicorn.run(
        create_app(service, hosts={*_LOOPBACK, options.host}),
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,  # the app's own line for each request says more
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=_LONGEST_HEADERS_BYTES,
        http="h11",
        ws="none",
    )
    return 0


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
