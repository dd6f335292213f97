"""What every request passes before the app and after it: limits, headers, and one line in the log.

Plain ASGI, not the framework's middleware: it has to count the bytes of a body while they come.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handlers.api.problems import INTERNAL, ProblemError
from handlers.log import logger

LOCKED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For answers that are no pages."""

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": LOCKED,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}

_MIN_BYTES_PER_S = 1000
"""On average, once a request has lasted longer than a silence may."""
_DRAINED_S = 5.0
_DRAINED_TIMES = 8
"""A client that sends too much hears of it only when it has sent all: so much more is taken, and thrown away."""


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Attributes
    ----------
    max_bytes
        A function from the path to how many bytes a body may have.
    silence_s
        How long a client may send nothing in the middle of a body.
    hosts
        Names that the server is known by; None for any. On a laptop this keeps pages from reaching the server under a
        name that is made to point to it.
    origins
        Other sites whose pages may send requests.
    too_large
        What to tell a client whose request is too large.
    """

    max_bytes: Callable[[str], int]
    silence_s: float
    hosts: frozenset[str] | None
    origins: tuple[str, ...]
    too_large: Callable[[int], ProblemError]


class Guard:
    """Wraps the app."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, unless something is wrong with it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # The same without the body, which the server leaves out.
            scope = {**scope, "method": "GET"}
        exchange = _Exchange(scope, receive, send, self._limits)
        try:
            refusal = exchange.refusal()
            if refusal:
                await exchange.drain_first()
                await exchange.answer(refusal)
            else:
                await self._app(exchange.scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.log("gone", level="info")
        except Exception:  # noqa: BLE001 (its trace goes to the log)
            # The app has answered with a problem document already, and hands the error on for this.
            logger.exception("request crashed", **exchange.facts())
            if not exchange.status:
                await exchange.answer(ProblemError("internal", INTERNAL))
        else:
            exchange.log("request", level="error" if exchange.status >= 500 else "info")  # noqa: PLR2004 (HTTP's)


@dataclass
class _Exchange:
    """One request and its answer."""

    scope: Scope
    receive_more: Receive
    send_on: Send
    limits: Limits
    started_s: float = field(default_factory=time.monotonic)
    received_bytes: int = 0
    complete: bool = False
    status: int = 0

    def __post_init__(self) -> None:
        self.headers = Headers(scope=self.scope)
        self.max_bytes = self.limits.max_bytes(self.scope["path"])
        context = self.scope.get("aws.context")
        self.request_id: str = context.aws_request_id if context else str(uuid.uuid4())
        self.scope["state"] = {**self.scope.get("state", {}), "request_id": self.request_id}

    def refusal(self) -> ProblemError | None:
        """Why the app need not see this request at all."""
        hosts = self.limits.hosts
        if hosts is not None and _name_of(self.headers.get("host", "")) not in hosts:
            return ProblemError("wrong_host", "This server is not known by that name.")
        if self.scope["method"] == "POST" and self._comes_from_another_site():
            return ProblemError("cross_site", "Pages of other sites may not send recordings here.")
        announced = self.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > self.max_bytes:
            return self.limits.too_large(self.max_bytes)
        return None

    def _comes_from_another_site(self) -> bool:
        site, origin = self.headers.get("sec-fetch-site"), self.headers.get("origin")
        if origin in self.limits.origins:
            return False
        if site is not None:
            return site in {"cross-site", "same-site"}
        # A browser that does not say, but names the page's origin; programs name none.
        return origin is not None and origin.partition("://")[2].lower() != self.headers.get("host", "").lower()

    async def receive(self) -> Message:
        """The next piece of the body, unless there was too much, or it takes too long."""
        if self.complete:
            return await self.receive_more()
        try:
            message = await asyncio.wait_for(self.receive_more(), self.limits.silence_s)
        except TimeoutError:
            raise _too_slow() from None
        if message["type"] == "http.request":
            self.received_bytes += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            lasted_s = time.monotonic() - self.started_s
            if self.received_bytes > self.max_bytes:
                await self.drain_first()
                raise self.limits.too_large(self.max_bytes)
            if (
                not self.complete
                and lasted_s > self.limits.silence_s
                and self.received_bytes < lasted_s * _MIN_BYTES_PER_S
            ):
                raise _too_slow()
        return message

    async def drain_first(self) -> None:
        """Take some more of a body that is refused, so that the client gets to reading why."""
        if self.headers.get("expect"):
            return  # it asked beforehand, and has sent nothing
        drained = 0
        try:
            async with asyncio.timeout(_DRAINED_S):
                while not self.complete and drained < _DRAINED_TIMES * self.max_bytes:
                    message = await self.receive_more()
                    drained += len(message.get("body", b""))
                    self.complete = not message.get("more_body", False)
        except TimeoutError:
            return

    async def send(self, message: Message) -> None:
        """Pass on the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self.request_id
            if not self.complete and self.headers.get("content-length", "0") != "0":
                headers["Connection"] = "close"  # what is left of the body must not be taken for the next request
        await self.send_on(message)

    async def answer(self, error: ProblemError) -> None:
        """Answer in place of the app."""
        response: Response = error.response()
        await response(self.scope, self.receive_more, self.send)

    def facts(self) -> dict[str, Any]:
        """What the log says; never a client's file name, and no id, which is the way to a result."""
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
        """One line."""
        getattr(logger, level)(what, **self.facts())


def _too_slow() -> ProblemError:
    return ProblemError("too_slow", "The body of the request stopped coming.", headers={"Connection": "close"})


def _name_of(host: str) -> str:
    """Without the port: `[::1]:8010`, `localhost:8010`."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
