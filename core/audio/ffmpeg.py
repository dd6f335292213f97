"""Runs ffmpeg and ffprobe in a sandboxed subprocess: resource limits, minimal environment, guaranteed termination.

A decoder that crashes, hangs or runs out of memory on a hostile file must not end the function. A file that exploits a
flaw of the decoder must gain little. The process gets no credentials, cannot write files, and has no terminal and no
input. Its working directory contains no files of this project.
"""

import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import IO

from core.deadline import Deadline
from core.errors import DecoderUnavailable
from core.settings import MediaLimits

_MAX_MESSAGES_BYTES = 4096
_MAX_OPEN_FILES = 64
"""One recording, three pipes, and the shared libraries of a full ffmpeg, which the loader opens one after another."""
_INHERITED_VARIABLES = ("PATH", "LD_LIBRARY_PATH")
"""Needed to find the decoder and its libraries. Others change its behaviour: FFREPORT makes ffmpeg write files."""
_ENDED_BY_A_SIGNAL = 255
"""ffmpeg's exit status after SIGINT or SIGTERM. Its output is valid but incomplete."""
_FFMPEG_CONTEXT = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ")


class Decoder:
    """A running decoder.

    Attributes
    ----------
    messages
        The end of its standard error, complete once the process has ended.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", stdout: IO[bytes], timeout_s: float, deadline: Deadline
    ) -> None:
        self.messages = b""
        self._process = process
        self._stdout = stdout
        self._timeout_s = timeout_s
        self._deadline = deadline
        self._stopped = False

    def read(self, size: int) -> bytes:
        """Read `size` bytes of the output, fewer at its end, and none after the timeout."""
        with self._watched():
            return self._stdout.read(size)

    def end(self) -> None:
        """Wait for the process to exit, and kill it at the timeout."""
        with self._watched():
            self._process.wait()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Kill the process at the timeout, which counts only time blocked on it, not back-pressure from inference."""
        started = time.monotonic()
        limit_s = min(max(0.0, self._timeout_s), self._deadline.remaining_s, threading.TIMEOUT_MAX)
        watchdog = threading.Timer(limit_s, self._stop)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            self._timeout_s -= time.monotonic() - started

    def _stop(self) -> None:
        self._stopped = True
        kill(self._process)

    @property
    def timed_out(self) -> bool:
        """Whether the process was killed at its timeout, at the deadline or at its limit of processor time."""
        return self._stopped or self.status == -signal.SIGXCPU

    @property
    def was_killed_externally(self) -> bool:
        """Whether another process ended it, such as the kernel's out-of-memory killer."""
        return not self.timed_out and self.status in (-signal.SIGKILL, -signal.SIGTERM, _ENDED_BY_A_SIGNAL)

    @property
    def status(self) -> int:
        """The exit status, or the negative number of the signal that ended the process."""
        return int(self._process.wait())

    def reason(self, path: Path) -> str:
        """Quote ffmpeg's last message in brackets, without the path and control characters; empty if there is none."""
        text = self.messages.decode("utf-8", "replace").replace(f"file:{path}", "").replace(str(path), "")
        lines = _FFMPEG_CONTEXT.sub("", text).split("\n")
        last = next((line for line in reversed(lines) if line.strip(" :")), "")
        words = "".join(character for character in last if character.isprintable()).strip(" :")
        return f" (ffmpeg: {words[:200]})" if words else ""


@contextmanager
def run_sandboxed(command: list[str], limits: MediaLimits, deadline: Deadline) -> Iterator[Decoder]:
    """Start a decoder with resource limits, and make sure that it has ended when the context exits.

    Parameters
    ----------
    command
        The program and its arguments.
    limits
        The decoder's memory and timeout.
    deadline
        The decoder is killed at the deadline too.

    Raises
    ------
    DecoderUnavailable
        If the program could not be started.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # This folder contains no files of this project, and only root can write to it.
            cwd="/",
            env={name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ},
            # Ctrl-C reaches every process of a terminal's foreground group. It would stop ffmpeg in the middle of a
            # recording that the worker finishes before it exits.
            start_new_session=True,
        )
    except OSError as error:
        raise DecoderUnavailable(f"{command[0]} could not be started: {error.strerror}.") from error
    assert process.stdout is not None  # guaranteed by PIPE
    assert process.stderr is not None
    _apply_rlimits(process.pid, limits)
    with open(process.stdout.fileno(), "rb", closefd=False) as stdout:
        decoder = Decoder(process, stdout, limits.decoder_timeout_s, deadline)
        reader = threading.Thread(target=_collect_messages, args=(process.stderr, decoder), daemon=True)
        reader.start()
        try:
            yield decoder
            decoder.end()
        finally:
            kill(process)
            process.wait()
            reader.join()
            process.stdout.close()
            process.stderr.close()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a session leader and its descendants."""
    with suppress(ProcessLookupError, PermissionError):  # the process has ended; macOS then raises PermissionError
        os.killpg(process.pid, signal.SIGKILL)


def _apply_rlimits(pid: int, limits: MediaLimits) -> None:
    """Limit a process right after its start: a hook before exec prevents vfork, and is unsafe with threads.

    The number of processes is not limited, because that limit belongs to the user rather than to a process.
    """
    max_bytes = limits.decoder_memory_mb * 1024 * 1024
    # Far above the timeout, because the limit is only for a decoder whose parent process was killed.
    max_cpu_s = 60 + ceil(2 * limits.decoder_timeout_s)
    try:
        resource.prlimit(pid, resource.RLIMIT_AS, (max_bytes, max_bytes))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
        resource.prlimit(pid, resource.RLIMIT_CPU, (max_cpu_s, max_cpu_s + 1))
    except (ProcessLookupError, AttributeError):
        return  # the process has ended, or the system is not Linux, where the function does not run


def _collect_messages(stderr: IO[bytes], decoder: Decoder) -> None:
    while line := stderr.read(_MAX_MESSAGES_BYTES):
        decoder.messages = (decoder.messages + line)[-_MAX_MESSAGES_BYTES:]
