"""The local server: uvicorn on the loopback address, with limits on connections and headers."""

import uvicorn
from starlette.types import ASGIApp

HOST = "127.0.0.1"
HOST_NAMES = (HOST, "localhost", "[::1]")
"""Accepted host names; clients of a forwarded port may use the last one. `HOST` is not configurable, because the local
API has no authentication. In a container, Docker publishes the port on a loopback address."""

MAX_CONNECTIONS = 256
_KEEP_ALIVE_TIMEOUT_S = 5
_SHUTDOWN_TIMEOUT_S = 10
_MAX_HEADERS_BYTES = 16 * 1024


def server_for(app: ASGIApp) -> uvicorn.Server:
    """Return a server that has not been started yet. Without a socket, it chooses a port."""
    config = uvicorn.Config(
        app,
        host=HOST,
        port=0,
        log_level="warning",
        access_log=False,  # the middleware logs each request
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_TIMEOUT_S,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
        h11_max_incomplete_event_size=_MAX_HEADERS_BYTES,
        http="h11",
        ws="none",
    )
    return uvicorn.Server(config)
