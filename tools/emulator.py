"""Runs a handler in Lambda's runtime interface emulator, which is part of the SAM CLI's package.

The emulator offers Lambda's runtime API to the function and takes events over HTTP. As on Lambda, the first invocation
is a cold start, because it imports the handler.
"""

import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from core.local.workers import HANDLER

ROOT = Path(__file__).parents[1]
SAM_ENVIRONMENT = ROOT / ".venv-sam"

Event = dict[str, Any]

_START_TIMEOUT_S = 30.0
_INVOKE_TIMEOUT_S = 300.0


def emulator_program() -> Path:
    """Return the path of the emulator.

    Raises
    ------
    FileNotFoundError
        If the SAM CLI is not installed.
    """
    # The program of this machine's architecture also starts functions that the kernel runs under emulation.
    name = "aws-lambda-rie-" + ("arm64" if platform.machine() in {"aarch64", "arm64"} else "x86_64")
    found = sorted(SAM_ENVIRONMENT.glob(f"lib/python3*/site-packages/samcli/local/rapid/{name}"))
    if not found:
        raise FileNotFoundError(
            f"The Lambda emulator is missing: the SAM CLI is not installed in {SAM_ENVIRONMENT.name}."
        )
    return found[0]


@contextmanager
def emulated(
    environment: Mapping[str, str], log: IO[bytes] | None = None, *, handler: str = HANDLER
) -> Iterator[Callable[[Event], Any]]:
    """Run a handler of this checkout under the emulator, without a container, and yield a function that invokes it."""
    address, runtime_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    command = [str(emulator_program()), "--log-level", "error"]
    command += ["--runtime-interface-emulator-address", address, "--runtime-api-address", runtime_address]
    command += [sys.executable, "-m", "awslambdaric", handler]
    with tempfile.TemporaryDirectory() as scratch:
        # The emulator starts the function as another process, and a new session lets one signal end both. The function
        # deletes leftovers in the temporary folder, so the folder must not be shared.
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment, "TMPDIR": scratch},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield lambda event: invoke(address, event)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def invoke(address: str, event: Event) -> Any:
    """Post an event to an emulator that is starting or running, and return the function's answer.

    Raises
    ------
    TimeoutError
        If the emulator does not start in time.
    """
    host, _, port = address.partition(":")
    _wait_for(host, int(port))
    connection = http.client.HTTPConnection(host, int(port), timeout=_INVOKE_TIMEOUT_S)
    try:
        connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _wait_for(host: str, port: int) -> None:
    give_up = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < give_up:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise TimeoutError(f"Nothing listens on {host}:{port} after {_START_TIMEOUT_S:.0f} s.")


def free_port() -> int:
    """Return a free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
