"""Whether the HTTP API still answers while it works: /health, idle and beside fifty uploads, with the demo model.

`python -m benchmarks.api [UPLOADS]`. The server is a process of its own, as `make api` starts it; the clients share its
processors.
"""

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.tables import machine, show
from core.cli.paths import DEMO_PACKAGE, SAMPLES
from layers.emulator import free_port

_BOUNDARY = "----benchmark"
_GOAL_MS = 50.0
"""What /health is meant to stay under while fifty recordings are classified."""
_IDLE_ASKED = 500
_BETWEEN_S = 0.01


@contextmanager
def _server() -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "handlers.api", "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {"MODEL_DIR": str(DEMO_PACKAGE), "RESULTS_FOLDER": folder, "PATH": "/usr/local/bin:/usr/bin:/bin"}
        server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield port
        finally:
            server.terminate()
            server.wait()


def _upload(port: int, file: Path) -> tuple[str, float]:
    """The emotion, and how long it took in ms."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()
    body = head + file.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    started = time.perf_counter()
    connection.request("POST", "/recognize/", body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer.get("predict", answer.get("code")), (time.perf_counter() - started) * 1000


def _health_ms(port: int, enough: Callable[[int], bool]) -> list[float]:
    """How long each of many requests to /health took."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took: list[float] = []
    while not enough(len(took)):
        started = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        took.append((time.perf_counter() - started) * 1000)
        time.sleep(_BETWEEN_S)
    connection.close()
    return took


def _row(name: str, took: list[float]) -> list[str]:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return [name, str(len(took)), *(f"{value:.1f}" for value in (cuts[49], cuts[89], cuts[98], max(took)))]


def _verdict(took: list[float]) -> str:
    """Whether the goal is met."""
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    figures = {"median": cuts[49], "99 %": cuts[98]}
    told = (f"{name} {ms:.1f} ms, {'met' if ms < _GOAL_MS else 'MISSED'}" for name, ms in figures.items())
    under = sum(ms < _GOAL_MS for ms in took) / len(took)
    return f"Goal for /health beside uploads, {_GOAL_MS:.0f} ms: {'; '.join(told)}; {under:.1%} of all were under it."


def main(uploads: int = 50) -> None:
    """Print the table."""
    meant = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))
    names = (sorted(meant) * (uploads // len(meant) + 1))[:uploads]
    with _server() as port, ThreadPoolExecutor(uploads) as pool:
        _upload(port, SAMPLES / names[0])  # warm
        idle = _health_ms(port, lambda count: count >= _IDLE_ASKED)
        started = time.perf_counter()
        asked = [pool.submit(_upload, port, SAMPLES / name) for name in names]
        busy = _health_ms(port, lambda _: all(each.done() for each in asked))
        took_s = time.perf_counter() - started
    answers = [each.result() for each in asked]
    right = sum(emotion == meant[name]["emotion"] for (emotion, _), name in zip(answers, names, strict=True))
    rows = [
        _row("/health, nothing else to do", idle),
        _row(f"/health, beside {uploads} uploads", busy),
        _row("/recognize/, each of the uploads", [ms for _, ms in answers]),
    ]
    show(f"The HTTP API ({machine()})", ["ms", "requests", "median", "90 %", "99 %", "slowest"], rows)
    print(f"\n{right} of {uploads} answers were right, {uploads / took_s:.1f} a second.")
    print(_verdict(busy))
    print(f"Load of the machine over the last minute: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
