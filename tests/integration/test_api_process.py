"""`make api` in a separate process: start, limits and shutdown."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings
from handlers.api.server import MAX_CONNECTIONS
from tests.conftest import ROOT
from tests.support.small_disk import on_small_disk
from tools.emulator import free_port


@dataclass(frozen=True)
class Started:
    """A running server."""

    process: "subprocess.Popen[str]"
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def started(package: Path, folder: Path, tmp_kilobytes: int | None = None) -> Iterator[Started]:
    """Start a server, with a temporary folder on a disk of this size."""
    port = free_port()
    for name in ("results", "tmp"):
        (folder / name).mkdir()
    own = {"MODEL_DIR": str(package), "RESULTS_FOLDER": str(folder / "results"), "TMPDIR": str(folder / "tmp")}
    command = [sys.executable, "-m", "handlers.api", "--port", str(port)]
    if tmp_kilobytes:
        command = on_small_disk(folder / "tmp", command, kilobytes=tmp_kilobytes)
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True)
    running = Started(process, port)
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                httpx2.get(f"{running.address}/health").raise_for_status()
                break
            except httpx2.TransportError:
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.1)
        yield running
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with started(package, tmp_path_factory.mktemp("api")) as running:
        yield running


def test_the_published_call_is_answered(server: Started, classifier: EmotionClassifier, corpora: Path) -> None:
    file = corpora / "data" / "seed" / "111.wav"
    with file.open("rb") as recording:
        answer = httpx2.post(f"{server.address}/recognize/", files={"file": recording}, timeout=200)

    assert answer.status_code == 200, answer.text
    body = answer.json()
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
    expected = pipeline.run(file, Source(key="x"))
    assert {name: body[name] for name in ("predict", "score")} == {
        "predict": expected.emotion,
        "score": pytest.approx(expected.score, abs=1e-5),
    }


def test_it_listens_on_the_loopback_address_only(server: Started) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10):
        pass
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", server.port), timeout=10):
        pass
    command = [sys.executable, "-m", "handlers.api", "--host", "0.0.0.0"]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True, timeout=60).returncode == 2


def test_a_port_that_cannot_be_used_is_named_in_one_sentence(server: Started, package: Path) -> None:
    for port in (server.port, 65_536, -1):
        done = subprocess.run(
            [sys.executable, "-m", "handlers.api", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "MODEL_DIR": str(package)},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert re.fullmatch(
            rf"Port {port} cannot be used: .*\. Choose another: `make api PORT=8011` or --port\.\n", done.stderr
        )
        assert "Open http" not in done.stderr
        assert "Traceback" not in done.stderr


def test_too_many_connections_are_refused_with_503(server: Started) -> None:
    with ExitStack() as connections:
        for _ in range(MAX_CONNECTIONS):
            connections.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        refused = httpx2.get(f"{server.address}/health")
    give_up = time.monotonic() + 20
    while (answer := httpx2.get(f"{server.address}/health")).status_code == 503:
        assert time.monotonic() < give_up
        time.sleep(0.05)

    # uvicorn refuses in plain text, as docs/how-to/use-the-api.md says.
    assert (refused.status_code, refused.text) == (503, "Service Unavailable")
    assert answer.status_code == 200


def test_oversized_headers_are_refused(server: Started) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_ctrl_c_stops_it_cleanly(package: Path, tmp_path: Path) -> None:
    with started(package, tmp_path) as running:
        running.process.send_signal(signal.SIGINT)
        _, said = running.process.communicate(timeout=60)

    assert running.process.returncode == 0, said
    assert f"Open {running.address}/ for the page" in said
    assert "Traceback" not in said
