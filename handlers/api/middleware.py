"""ASGI middleware around the app: body limit, cross-site check, security headers and the request log.

The middleware is plain ASGI instead of Starlette's `BaseHTTPMiddleware`, because it counts the body while it arrives.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handlers.api.problems import INTERNAL, ProblemError
from handlers.log import logger

_SECURITY_HEADERS: Mapping[str, str] = {
    # For answers that are not pages. Each page sets its own policy.
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}

_MAX_DRAIN_BYTES = 64 * 1024 * 1024
_DRAIN_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Limits:
    """The requests that the middleware accepts.

    Attributes
    ----------
    max_bytes
        Returns the maximum size of a body in bytes for a path.
    hosts
        Accepted host names in lower case; None accepts any. On a local server, the check prevents DNS rebinding: a
        page whose own host name resolves to this server.
    origins
        Other origins whose pages may post.
    too_large
        Returns the error for a body that exceeds a maximum size in bytes.
    """

    max_bytes: Callable[[str], int]
    hosts: frozenset[str] | None
    origins: tuple[str, ...]
    too_large: Callable[[int], ProblemError]


class ApiMiddleware:
    """Wrap the app."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request, pass it to the app, and log the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # uvicorn omits the body of the answer.
            scope = {**scope, "method": "GET"}
        exchange = _Exchange(scope, receive, send, self._limits)
        try:
            refusal = exchange.refusal()
            if refusal:
                await exchange.answer(refusal)
            else:
                await self._app(exchange.scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.log("gone", level="info")
        except Exception:  # noqa: BLE001 (the log has the traceback)
            # In most cases Starlette has already answered, and re-raises the error for the server to log.
            logger.exception("request crashed", **exchange.log_fields())
            if not exchange.status:
                await exchange.answer(ProblemError("internal", INTERNAL))
        else:
            exchange.log("request", level="error" if exchange.status >= 500 else "info")  # noqa: PLR2004 (HTTP's)


@dataclass
class _Exchange:
    """One request and its answer."""

    scope: Scope
    server_receive: Receive
    server_send: Send
    limits: Limits
    started_s: float = field(default_factory=time.monotonic)
    received_bytes: int = 0
    is_complete: bool = False
    status: int = 0

    def __post_init__(self) -> None:
        self.headers = Headers(scope=self.scope)
        self.max_bytes = self.limits.max_bytes(self.scope["path"])
        context = self.scope.get("aws.context")
        self.request_id: str = context.aws_request_id if context else str(uuid.uuid4())
        self.scope["state"] = {**self.scope.get("state", {}), "request_id": self.request_id}

    def refusal(self) -> ProblemError | None:
        """Return the error of a request that must not reach the app."""
        hosts = self.limits.hosts
        if hosts is not None and _host_name(self.headers.get("host", "")) not in hosts:
            return ProblemError("wrong_host", "This server does not accept requests for that host name.")
        if self.scope["method"] == "POST" and self._is_cross_site():
            return ProblemError("cross_site", "Pages of other sites may not send recordings to this server.")
        announced = self.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > self.max_bytes:
            return self.limits.too_large(self.max_bytes)
        return None

    def _is_cross_site(self) -> bool:
        site, origin = self.headers.get("sec-fetch-site"), self.headers.get("origin")
        if origin in self.limits.origins:
            return False
        if site is not None:
            return site in {"cross-site", "same-site"}
        # Browsers without Fetch Metadata still send the page's origin. Other clients send neither header.
        return origin is not None and origin.partition("://")[2].lower() != self.headers.get("host", "").lower()

    async def receive(self) -> Message:
        """Return the next chunk of the body, and refuse a body that exceeds the limit."""
        message = await self._receive()
        if self.received_bytes > self.max_bytes:
            raise self.limits.too_large(self.max_bytes)
        return message

    async def _receive(self) -> Message:
        message = await self.server_receive()
        if message["type"] == "http.request":
            self.received_bytes += len(message.get("body", b""))
        self.is_complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a message of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            await self._drain()
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self.request_id
            if self._has_unread_body:
                headers["Connection"] = "close"  # otherwise the server would parse the rest as the next request
        await self.server_send(message)

    @property
    def _has_unread_body(self) -> bool:
        has_body = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        return has_body and not self.is_complete

    async def _drain(self) -> None:
        """Discard the rest of the body before an early answer.

        Closing a connection with unread data resets it, and a client that is still sending loses the answer.
        """
        if "expect" in self.headers and not self.received_bytes:
            return  # the client waits for `100 Continue` before it sends the body
        max_received_bytes = self.received_bytes + _MAX_DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_TIMEOUT_S):
                while self._has_unread_body and self.received_bytes < max_received_bytes:
                    await self._receive()
        except TimeoutError:
            return

    async def answer(self, error: ProblemError) -> None:
        """Answer in place of the app."""
        await error.response()(self.scope, self.server_receive, self.send)

    def log_fields(self) -> dict[str, Any]:
        """Return the fields of the log line, without file names and ids, because an id gives access to a result."""
        route = self.scope.get("route")
        state: MutableMapping[str, Any] = self.scope["state"]
        return {
            "request_id": self.request_id,
            "method": self.scope["method"],
            "route": getattr(route, "path", None),
            "status": self.status,
            "request_bytes": self.received_bytes,
            "total_ms": round((time.monotonic() - self.started_s) * 1000),
            **state.get("log", {}),
        }

    def log(self, what: str, *, level: str) -> None:
        """Write the log line."""
        getattr(logger, level)(what, **self.log_fields())


def _host_name(host: str) -> str:
    """Return the host name of a Host header, such as `localhost` for `LOCALHOST.:8010`.

    Names are case-insensitive (RFC 9110, section 4.2.3), the port may be empty (RFC 3986, section 3.2.3), and a final
    dot marks a name as complete.
    """
    return re.sub(r":[0-9]*$", "", host).lower().removesuffix(".")
