"""Fixtures for the tests of several parts together."""

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import soundfile

from core.local.stack import Stack, running_server, running_stack
from tests.conftest import ROOT

if TYPE_CHECKING:
    import httpx2

    from handlers.api.service import Service

LogLines = Callable[[], list[dict[str, Any]]]
"""Returns the new lines of the functions' log."""


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """The endpoint of moto's server. `running_stack` empties it for each stack, so at most one stack is in use."""
    with running_server() as endpoint:
        yield endpoint


@pytest.fixture
def stack(aws_server: str, package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """An empty stack, whose function's environment this process has."""
    from handlers import processing

    with running_stack(endpoint=aws_server) as running:
        for name, value in running.environment(package).items():
            monkeypatch.setenv(name, value)
        for cached in (processing.delivery, processing._publisher):
            cached.cache_clear()
        yield running
        for cached in (processing.delivery, processing._publisher):
            cached.cache_clear()


class Clock:
    """The machine's clock, which a test can advance; takes the place of a module's `time`."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def time(self) -> float:
        return time.time() + self._ahead_s

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead_s

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of deadlines, leases and the invocation's context."""
    clock = Clock()
    for module in ("core.deadline", "core.delivery.lease", "core.local.workers"):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


@pytest.fixture
def advance_queue_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that moves the clock of moto's queues by some seconds. The clock stands still otherwise."""
    from moto.core.utils import unix_time_millis

    now_ms = unix_time_millis()

    def advance(seconds: float) -> None:
        nonlocal now_ms
        now_ms += 1000 * seconds

    monkeypatch.setattr("moto.sqs.models.unix_time_millis", lambda: now_ms)
    return advance


@pytest.fixture(scope="session")
def speech() -> bytes:
    """The bytes of a WAV file with two seconds of speech."""
    samples, sample_rate_hz = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples[:32_000], sample_rate_hz, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="session")
def other_speech() -> bytes:
    """The bytes of another such file."""
    return (ROOT / "samples" / "happy.mp3").read_bytes()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a module's HTTP API for results."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def service(package: Path, results: Path) -> "Service":
    """The service behind a module's HTTP API, with the demo model."""
    from tests.support.serving import folder_service  # most tests need no web framework

    return folder_service(package, results)


@pytest.fixture(scope="module")
def address(service: "Service") -> Iterator[str]:
    """The address of a module's HTTP API."""
    from tests.support.serving import serving

    with serving(service) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator["httpx2.Client"]:
    """A client of a module's HTTP API."""
    import httpx2

    with httpx2.Client(base_url=address, timeout=600) as client:
        yield client


class _CurrentStdout:
    def write(self, text: str) -> int:
        return sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> LogLines:
    """Return a function that reads the new lines of the log."""
    from handlers.log import logger

    # The logger keeps the standard output of its import, and pytest replaces it for each phase of a test.
    [handler] = logger.handlers
    monkeypatch.setattr(handler, "stream", _CurrentStdout())
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
