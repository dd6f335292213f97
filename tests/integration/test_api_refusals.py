"""Refusals of requests with a body: the client reads the answer, and the server reads a bounded rest."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from handlers.api import middleware

PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
FORM = "Content-Type: multipart/form-data; boundary=b\r\n"
REFUSALS = {
    404: ("POST /nothing", FORM),
    405: ("POST /health", FORM),
    415: ("POST /recognize/", "Content-Type: application/json\r\n"),
    400: ("POST /recognize/", FORM),
    403: ("POST /recognize/", f"{FORM}Origin: https://evil.example\r\n"),
    421: ("POST /recognize/", f"{FORM}Host: evil.example\r\n"),
    413: ("POST /recognize/", FORM),
}


def request_head(request: str, headers: str) -> bytes:
    host = "" if "Host:" in headers else "Host: 127.0.0.1\r\n"
    return f"{request} HTTP/1.1\r\n{host}{headers}".encode()


def framed(body: bytes, framing: str) -> bytes:
    """Return the rest of a request: the length header and the body."""
    if framing == "sized":
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    size = 64 * 1024
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    return (
        b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    )


def connected(address: str) -> socket.socket:
    host, _, port = address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.parametrize("status", REFUSALS)
def test_a_client_that_sends_the_whole_body_first_reads_the_refusal(address: str, status: int, framing: str) -> None:
    body = PART + b"x" * 5_000_000 if status == 413 else b"no form" + b"x" * 2_000_000
    sent = request_head(*REFUSALS[status]) + framed(body, framing)
    health = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

    def refused(_: int) -> bytes:
        with connected(address) as connection:
            # The second request shows that the server read the first one to its end.
            connection.sendall(sent)
            connection.sendall(health)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(refused, range(8)))

    for answer in answers:
        assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"%d" % status, b"200"]


def test_a_client_that_stops_sending_gets_its_refusal(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_DRAIN_TIMEOUT_S", 0.3)
    with connected(address) as connection:
        connection.sendall(request_head(*REFUSALS[404]) + b"Content-Length: 1000\r\n\r\nx")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 404")
    assert b"connection: close" in answer.lower()


def test_a_body_without_an_end_is_not_read_forever(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_MAX_DRAIN_BYTES", 1_000_000)
    sent = 0

    def send_until_reset(connection: socket.socket) -> None:
        nonlocal sent
        while sent < 100_000_000:
            sent += connection.send(b"10000\r\n%b\r\n" % (b"x" * 0x10000))

    with connected(address) as connection:
        connection.sendall(request_head(*REFUSALS[404]) + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_until_reset(connection)


def test_a_client_that_expects_100_continue_is_refused_without_its_body(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(
            request_head("POST /recognize/", FORM) + b"Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 413")
