"""A decoder in a process of its own, shut in: what it may use up, what it may know, and that it ends.

A process, because a decoder that crashes, hangs or swells on a hostile file must not take the function with it. What a
file might make of a decoder that has a flaw is kept small as well: nothing of our environment is passed on, which holds
the function's credentials; no file can be written; there is no terminal, no input and no folder of ours to look in.
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

_MAX_MESSAGE = 4096
_MAX_OPEN_FILES = 64
"""One recording and three pipes; the rest is for the libraries of a full ffmpeg, which it opens one after another."""
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH")
"""Of our environment: where the decoder and its libraries are. FFREPORT, for one, would have it write files."""
_STOPPED_BY_A_SIGNAL = 255
"""ffmpeg's exit status when it was told to end: what it wrote until then is whole, and not all."""
_WHERE_IN_FFMPEG = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ")


class Decoder:
    """A running decoder: its output, and afterwards its exit status and what it said."""

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
        """So many bytes of the output, or what is left of it; nothing more once the patience is used up."""
        with self._watched():
            return self._stdout.read(size)

    def end(self) -> None:
        """Wait for the process to end by itself."""
        with self._watched():
            self._process.wait()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Only the time that we wait for the decoder counts: it waits for us while we classify, maybe for hours."""
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
        """Whether it was stopped because it had used up its time."""
        return self._stopped or self.status == -signal.SIGXCPU

    @property
    def stopped_from_outside(self) -> bool:
        """Whether something else than the recording or its limits ended it."""
        return not self.timed_out and self.status in (-signal.SIGKILL, -signal.SIGTERM, _STOPPED_BY_A_SIGNAL)

    @property
    def status(self) -> int:
        """The exit status, or minus the signal that ended it."""
        return int(self._process.wait())

    def reason(self, path: Path) -> str:
        """The last thing ffmpeg said, in brackets, without our own file's name and control characters."""
        said = self.messages.decode("utf-8", "replace").replace(f"file:{path}", "").replace(str(path), "")
        lines = _WHERE_IN_FFMPEG.sub("", said).split("\n")
        last = next((line for line in reversed(lines) if line.strip(" :")), "")
        words = "".join(character for character in last if character.isprintable()).strip(" :")
        return f" (ffmpeg: {words[:200]})" if words else ""


@contextmanager
def run_sandboxed(command: list[str], limits: MediaLimits, deadline: Deadline) -> Iterator[Decoder]:
    """Start a decoder with its limits; whatever happens, it has ended when this is left.

    Raises
    ------
    DecoderUnavailable
        If it could not be started.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # Where nothing of ours lies, and where nobody but root can leave anything.
            cwd="/",
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            # Ctrl-C reaches every process of a terminal's group. ffmpeg would end at once, and look like one that is
            # done, while we finish the recording in hand.
            start_new_session=True,
        )
    except OSError as error:
        raise DecoderUnavailable(f"{command[0]} could not be started: {error.strerror}.") from error
    assert process.stdout is not None  # PIPE was asked for, of both
    assert process.stderr is not None
    _apply_rlimits(process.pid, limits)
    with open(process.stdout.fileno(), "rb", closefd=False) as stdout:
        decoder = Decoder(process, stdout, limits.decoder_timeout_s, deadline)
        stream = threading.Thread(target=_listen, args=(process.stderr, decoder), daemon=True)
        stream.start()
        try:
            yield decoder
            decoder.end()
        finally:
            kill(process)
            process.wait()
            stream.join()
            process.stdout.close()
            process.stderr.close()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process that leads a session, and whatever it has started."""
    with suppress(ProcessLookupError, PermissionError):  # there is nobody left, which a Mac says in the second way
        os.killpg(process.pid, signal.SIGKILL)


def _apply_rlimits(pid: int, limits: MediaLimits) -> None:
    """From outside, right after the start: a hook before exec costs vfork's speed, and is unsafe with threads.

    How many processes there may be is no limit of one process but of its user, so it is not among these.
    """
    most_bytes = limits.decoder_memory_mb * 1024 * 1024
    # Far more than we wait. It ends a decoder that we could not end, because we were killed ourselves.
    most_cpu_s = 60 + ceil(2 * limits.decoder_timeout_s)
    try:
        resource.prlimit(pid, resource.RLIMIT_AS, (most_bytes, most_bytes))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
        resource.prlimit(pid, resource.RLIMIT_CPU, (most_cpu_s, most_cpu_s + 1))
    except (ProcessLookupError, AttributeError):
        return  # it has ended already; or this is not Linux, where the function does not run either


def _listen(stderr: IO[bytes], decoder: Decoder) -> None:
    while line := stderr.read(_MAX_MESSAGE):
        decoder.messages = (decoder.messages + line)[-_MAX_MESSAGE:]
