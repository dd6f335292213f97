"""The server that `make api` runs, for this machine alone: what a client may cost it before the app sees a request."""

import uvicorn
from starlette.types import ASGIApp

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""What it is known by: there is no way to have it listen elsewhere, since it asks nobody who they are."""

MAX_CONNECTIONS = 256
_KEEP_ALIVE_S = 5
_GRACE_S = 10
_MAX_HEADERS_BYTES = 16 * 1024


def server_for(app: ASGIApp, port: int = 0) -> uvicorn.Server:
    """A server that is not running yet."""
    config = uvicorn.Config(
        app,
        host=HOST,
        port=port,
        log_level="warning",
        access_log=False,  # the app's own line for each request says more
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=_MAX_HEADERS_BYTES,
        http="h11",
        ws="none",
    )
    return uvicorn.Server(config)
