"""A proxy in front of S3 and SQS on the loopback address that injects faults of networks and services.

Unlike hooks in the client, the proxy truncates bodies, resets connections, and loses answers to requests that were
carried out.

    with faulty(stack.endpoint, seed=7, rate=0.02) as proxy:
        s3 = proxy.client("s3")
    print(proxy.injected)

Instead of a seed and a rate, a plan may name the fault of each call.
"""

import http.client
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config

_LOOPBACK = "127.0.0.1"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "server", "date"}
_SLOW_PIECES = 20


class Fault(StrEnum):
    """A fault of one call."""

    TIMEOUT = "no answer, and nothing done"
    RESET = "connection reset, and nothing done"
    LOST_TIMEOUT = "done, but no answer"
    LOST_RESET = "done, but the connection reset"
    INTERNAL_ERROR = "500 InternalError"
    SLOW_DOWN = "503 SlowDown"
    EXPIRED = "400 ExpiredToken"
    REFUSED = "403 AccessDenied"
    KEY_DISABLED = "400 KMS.DisabledException"
    CONFLICT = "409 ConditionalRequestConflict"
    PRECONDITION = "412 PreconditionFailed"
    NOT_FOUND = "404 NoSuchKey"
    TRUNCATED = "body cut short"
    SLOW = "body sent slowly"


_ANSWERS = {
    Fault.INTERNAL_ERROR: (500, "InternalError"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.EXPIRED: (400, "ExpiredToken"),
    Fault.REFUSED: (403, "AccessDenied"),
    Fault.KEY_DISABLED: (400, "KMS.DisabledException"),
    Fault.CONFLICT: (409, "ConditionalRequestConflict"),
    Fault.PRECONDITION: (412, "PreconditionFailed"),
    Fault.NOT_FOUND: (404, "NoSuchKey"),
}

KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
_KMS_ACTIONS = {"GET": "kms:Decrypt", "PUT": "kms:GenerateDataKey"}
"""The action of S3 with the key of an encrypted object. It uses no key for HEAD and DELETE."""

LIES = frozenset({Fault.NOT_FOUND, Fault.PRECONDITION})
"""Untrue answers. S3 is consistent, so it gives these answers only where they are true."""

HONEST = frozenset(Fault) - LIES
"""Faults that occur with S3 and networks; the default of `faulty`."""


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes
    ----------
    number
        Counted from 1, in the order of arrival.
    path
        Decoded, without the query: `/bucket/key` for S3.
    """

    number: int
    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def operation(self) -> str:
        """`PUT`, `HEAD` … for S3; the name of the action for SQS."""
        return self.headers.get("x-amz-target", self.method).rpartition(".")[2]

    @property
    def is_conditional(self) -> bool:
        """Whether the call depends on the stored object."""
        return "if-match" in self.headers or "if-none-match" in self.headers

    def can_suffer(self, fault: Fault) -> bool:
        """Return whether the fault makes sense for this call."""
        for_queue = "x-amz-target" in self.headers
        if fault is Fault.KEY_DISABLED:
            return self.method in _KMS_ACTIONS
        if fault is Fault.CONFLICT:
            return self.is_conditional and self.method == "PUT"
        if fault is Fault.PRECONDITION:
            return self.is_conditional
        if fault in (Fault.TRUNCATED, Fault.SLOW):
            return self.method == "GET"
        return not (for_queue and fault is Fault.NOT_FOUND)


Plan = Callable[[Call], Fault | None]
"""Returns the fault of a call, if any. It may also change the stored objects before the call is carried out."""


@dataclass
class FaultyEndpoint:
    """A running proxy.

    Attributes
    ----------
    endpoint
        Its address, which replaces the real one.
    calls
        All requests.
    injected
        How often each fault was injected.
    plan
        May be replaced while the proxy runs.
    """

    endpoint: str
    plan: Plan
    slow_s: float
    calls: list[Call] = field(default_factory=list)
    injected: Counter[Fault] = field(default_factory=Counter)
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, service: str, read_timeout_s: float = 30.0) -> Any:
        """Return a client of a service that reaches it through the proxy, and repeats no call."""
        session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
        config = Config(read_timeout=read_timeout_s, retries={"mode": "standard", "total_max_attempts": 1})
        return session.client(service, endpoint_url=self.endpoint, config=config)  # type: ignore[call-overload]

    def next_fault(self, method: str, path: str, headers: Mapping[str, str]) -> Fault | None:
        """Record a call, and return its fault."""
        with self.lock:
            call = Call(len(self.calls) + 1, method, unquote(urlsplit(path).path), headers)
            self.calls.append(call)
            fault = self.plan(call)
            if fault is not None:
                self.injected[fault] += 1
            return fault


def random_plan(seed: int, rate: float, kinds: Collection[Fault] = HONEST) -> Plan:
    """Return a plan by which a share of all calls fail, each with a random fault that makes sense for it.

    The same seed gives the same faults for the same calls in the same order. Concurrent calls have no fixed order.
    """
    generator = random.Random(seed)
    ordered = sorted(kinds)

    def plan(call: Call) -> Fault | None:
        drawn, choice = generator.random(), generator.random()
        possible = [kind for kind in ordered if call.can_suffer(kind)]
        return possible[int(choice * len(possible))] if drawn < rate and possible else None

    return plan


@contextmanager
def faulty(
    endpoint: str,
    *,
    seed: int = 0,
    rate: float = 0.0,
    kinds: Collection[Fault] = HONEST,
    plan: Plan | None = None,
    slow_s: float = 5.0,
) -> Iterator[FaultyEndpoint]:
    """Run a proxy in front of an endpoint, in threads of this process.

    Parameters
    ----------
    endpoint
        The real address, as `http://host:port`.
    seed, rate, kinds
        See `random_plan`.
    plan
        Replaces the random plan.
    slow_s
        Duration of a body that is sent slowly.
    """
    upstream = urlsplit(endpoint).netloc
    server = _Server((_LOOPBACK, 0), _Handler)
    proxy = FaultyEndpoint(f"http://{_LOOPBACK}:{server.server_port}", plan or random_plan(seed, rate, kinds), slow_s)
    server.proxy, server.upstream = proxy, upstream
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultyEndpoint
    upstream: str

    def handle_error(self, *_: object) -> None:
        """Log nothing, because reset connections are expected."""


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        """Serve a request of any method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._serve()
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Log nothing, because `calls` has every request."""

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._body()
        fault = self.server.proxy.next_fault(self.command, self.path, headers)
        if fault is Fault.TIMEOUT:
            self._keep_waiting()
        elif fault is Fault.RESET:
            self._reset()
        elif fault in _ANSWERS:
            self._refuse(*_ANSWERS[fault], _message_of(fault, self.command), as_json="x-amz-target" in headers)
        else:
            self._forward(body, fault)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _forward(self, body: bytes, fault: Fault | None) -> None:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect", "transfer-encoding", "content-length"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if fault is Fault.LOST_TIMEOUT:
            self._keep_waiting()
        elif fault is Fault.LOST_RESET:
            self._reset()
        else:
            self._answer(answer, content, fault)

    def _answer(self, answer: http.client.HTTPResponse, content: bytes, fault: Fault | None) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.end_headers()
        if fault is Fault.TRUNCATED:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif fault is Fault.SLOW:
            piece_bytes = max(1, -(-len(content) // _SLOW_PIECES))
            for start in range(0, len(content), piece_bytes):
                self.wfile.write(content[start : start + piece_bytes])
                self.wfile.flush()
                if self.server.proxy.stopping.wait(self.server.proxy.slow_s / _SLOW_PIECES):
                    return
        else:
            self.wfile.write(content)

    def _refuse(self, status: int, code: str, message: str, *, as_json: bool) -> None:
        if as_json:
            kind, content = "application/x-amz-json-1.0", f'{{"__type": "{code}", "message": "{message}"}}'
        else:
            kind, content = "application/xml", f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content.encode())

    def _keep_waiting(self) -> None:
        """Answer nothing until the client disconnects."""
        self.close_connection = True
        while not self.server.proxy.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.05)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return
            if readable:
                time.sleep(0.05)  # bytes of a next request, which is never read

    def _reset(self) -> None:
        """Reset the connection."""
        self.close_connection = True
        # With a linger time of zero, close() sends RST in place of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _message_of(fault: Fault, method: str) -> str:
    """Return AWS's message. A refusal is that of a role without permission for the object's KMS key."""
    if fault is Fault.KEY_DISABLED:
        return f"{KMS_KEY} is disabled."
    if fault is Fault.REFUSED and (action := _KMS_ACTIONS.get(method)):
        return (
            f"User: arn:aws:sts::123456789012:assumed-role/audio-emotion/x is not authorized to perform: {action} on "
            f"resource: {KMS_KEY} because no identity-based policy allows the {action} action"
        )
    return "Injected by the fault proxy."
