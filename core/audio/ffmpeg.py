"""Runs ffmpeg and ffprobe in a sandboxed subprocess: resource limits, minimal environment, guaranteed termination.

A decoder that crashes, hangs or runs out of memory on a hostile file must not end the function. A file that exploits a
flaw of the decoder must gain little. The process gets no credentials, cannot write files, and has no terminal and no
input. Its working directory contains no files of this project.
"""

import os
import re
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path

from core.deadline import Deadline
from core.errors import DecoderUnavailable
from core.settings import MediaLimits

_MAX_MESSAGES_BYTES = 4096
_DISCARD_BYTES = 65_536
_MAX_WAIT_S = 86_400.0
"""poll(2) accepts 24 days at most."""
_MAX_OPEN_FILES = 64
"""One recording, three pipes, and the shared libraries of a full ffmpeg, which the loader opens one after another."""
_INHERITED_VARIABLES = ("PATH", "LD_LIBRARY_PATH")
"""Needed to find the decoder and its libraries. Others change its behaviour: FFREPORT makes ffmpeg write files."""
_ENDED_BY_A_SIGNAL = 255
"""ffmpeg's exit status after SIGINT or SIGTERM. Its output is valid but incomplete."""
_NOT_STARTED = (126, 127)
"""Exit status of the loader if a library is missing or does not fit into the memory limit."""
_NO_THREAD = b"Resource temporarily unavailable"
_MEMORY_USED_UP = re.compile(rb"cannot allocate memory|out of memory|malloc of size", re.IGNORECASE)
_FILES_USED_UP = re.compile(rb"too many open files|error 24\b", re.IGNORECASE)
_MEMORY_LIMITS = {resource.RLIMIT_AS, resource.RLIMIT_DATA}
_CRASHED = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGTRAP)
_NUMBER = re.compile(rb"(?:\[[^\]]* @ 0x[0-9a-f]+\] )?(-?[0-9]+\.[0-9]{6})")
"""A line that the function `print` of an expression has written. ffmpeg 9 adds a prefix."""
_FFMPEG_CONTEXT = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ")


class Decoder:
    """A running decoder.

    Attributes
    ----------
    messages
        The end of its standard error, complete once the process has ended.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", limits: MediaLimits, deadline: Deadline) -> None:
        assert process.stdout is not None  # guaranteed by PIPE
        assert process.stderr is not None
        self.messages = b""
        self._process = process
        self._stdout = process.stdout
        self._stderr = process.stderr
        self._numbers: list[float] = []
        self._unfinished_line = b""
        self._timeout_s = limits.decoder_timeout_s
        self._deadline = deadline
        self._stopped = False
        # Unlike epoll, poll needs no file descriptor of its own.
        self._pipes = selectors.PollSelector()
        for pipe in (process.stdout, process.stderr):
            self._pipes.register(pipe, selectors.EVENT_READ)

    def read(self, size: int) -> bytes:
        """Read `size` bytes of the output, and fewer at its end or at the timeout."""
        output = bytearray()
        while len(output) < size and self._stdout in self._pipes.get_map() and not self._stopped:
            output += self._receive(size - len(output))
        return bytes(output)

    def numbers(self) -> list[float]:
        """Return the numbers that expressions of filters have printed since the last call.

        A number that was printed before a sample was written is never returned after that sample.
        """
        while any(key.fileobj is self._stderr for key, _ in self._pipes.select(0)):
            self._collect(os.read(self._stderr.fileno(), _MAX_MESSAGES_BYTES))
        numbers, self._numbers = self._numbers, []
        return numbers

    def end(self) -> None:
        """Discard the rest of the output and wait for the process to exit, and kill it at the timeout."""
        while self._pipes.get_map() and not self._stopped:
            self._receive(_DISCARD_BYTES)
        try:
            self._process.wait(None if self._stopped else self._limit_s)
        except subprocess.TimeoutExpired:
            self._stop()

    def _receive(self, size: int) -> bytes:
        """Wait until the process has written, collect its messages, and return up to `size` bytes of its output."""
        output = b""
        for pipe in self._pipes_to_read():
            received = os.read(pipe.fd, size)
            if pipe.fileobj is self._stderr:
                self._collect(received)
            elif received:
                output = received
            else:
                self._pipes.unregister(self._stdout)
        return output

    def _collect(self, received: bytes) -> None:
        """Add a part of the standard error, empty at its end, to the numbers and the messages."""
        if not received:
            self._pipes.unregister(self._stderr)
        *lines, rest = (self._unfinished_line + received).split(b"\n")
        if not received:
            lines, rest = [*lines, rest], b""
        self._unfinished_line = rest[-_MAX_MESSAGES_BYTES:]
        for line in filter(None, lines):
            if number := _NUMBER.fullmatch(line):
                self._numbers.append(float(number[1]))
            else:
                self.messages = (self.messages + line + b"\n")[-_MAX_MESSAGES_BYTES:]

    def _pipes_to_read(self) -> list[selectors.SelectorKey]:
        """Return the pipes with data or at their end; kill the process at the timeout.

        The timeout counts only time blocked on the process, not back-pressure from inference.
        """
        limit_s = self._limit_s
        started = time.monotonic()
        ready = self._pipes.select(limit_s)
        self._timeout_s -= time.monotonic() - started
        if not ready or limit_s == 0:
            self._stop()
            if not self._stopped:
                # The last output is still in the pipes, unless a descendant keeps them open.
                ready = self._pipes.select(0)
                self._stopped = not ready
        return [] if self._stopped else [key for key, _ in ready]

    @property
    def _limit_s(self) -> float:
        return max(0.0, min(self._timeout_s, self._deadline.remaining_s, _MAX_WAIT_S))

    def _stop(self) -> None:
        """Kill the process. If it has ended by itself at the last moment, it has not timed out."""
        kill(self._process)
        self._stopped = self._process.wait() == -signal.SIGKILL

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
        If the program could not be started, or reached a limit that this process has set lower than `limits`.
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
    try:
        lowered = _apply_rlimits(process.pid, limits)
        decoder = Decoder(process, limits, deadline)
        yield decoder
        decoder.end()
        _check_limits(decoder, command[0], lowered)
    finally:
        kill(process)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a session leader and its descendants."""
    with suppress(ProcessLookupError, PermissionError):  # the process has ended; macOS then raises PermissionError
        os.killpg(process.pid, signal.SIGKILL)


def _apply_rlimits(pid: int, limits: MediaLimits) -> set[int]:
    """Limit a process right after its start, and return the limits that this process has set lower already.

    A hook before exec would prevent vfork, and is unsafe with threads. The number of processes is not limited, because
    that limit belongs to the user rather than to a process.

    Raises
    ------
    DecoderUnavailable
        If the system does not allow a limit.
    """
    if not hasattr(resource, "prlimit"):
        return set()  # the system is not Linux, where the function does not run
    lowered = set()
    try:
        for limit, wanted in _rlimits(limits).items():
            allowed = _smaller(wanted, resource.prlimit(pid, limit))
            if limit == resource.RLIMIT_CPU:
                # The kernel sends SIGXCPU at the soft limit and SIGKILL, which explains nothing, at the hard one.
                allowed = (min(allowed[0], max(1, allowed[1] - 1)), allowed[1])
            resource.prlimit(pid, limit, allowed)
            if allowed != wanted:
                lowered.add(limit)
    except ProcessLookupError:
        pass  # the process has ended
    except OSError as error:
        raise DecoderUnavailable(f"The decoder's resource limits could not be set: {error.strerror}.") from error
    return lowered


def _rlimits(limits: MediaLimits) -> Mapping[int, tuple[int, int]]:
    """Return the soft and the hard limit of each resource."""
    max_bytes = limits.decoder_memory_mb * 1024 * 1024
    # Far above the timeout, because the limit is only for a decoder whose parent process was killed.
    max_cpu_s = 60 + ceil(2 * limits.decoder_timeout_s)
    return {
        resource.RLIMIT_AS: (max_bytes, max_bytes),
        resource.RLIMIT_DATA: (max_bytes, max_bytes),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_FSIZE: (0, 0),
        resource.RLIMIT_NOFILE: (_MAX_OPEN_FILES, _MAX_OPEN_FILES),
        resource.RLIMIT_CPU: (max_cpu_s, max_cpu_s + 1),
    }


def _smaller(wanted: tuple[int, int], inherited: tuple[int, int]) -> tuple[int, int]:
    """Return the smaller soft and the smaller hard limit; only root may raise a hard limit."""
    soft, hard = (a if b == resource.RLIM_INFINITY else min(a, b) for a, b in zip(wanted, inherited, strict=True))
    return min(soft, hard), hard


def _check_limits(decoder: Decoder, program: str, lowered: set[int]) -> None:
    """Check that the process failed neither to start nor at a limit that was lower than `MediaLimits`.

    Another process with higher limits can decode the recording, so the error is transient. At the limits of
    `MediaLimits`, the recording is the cause.

    Raises
    ------
    DecoderUnavailable
        If the process did.
    """
    messages, status = decoder.messages, decoder.status
    if status in _NOT_STARTED or (status != 0 and _NO_THREAD in messages):
        raise DecoderUnavailable(f"{program} could not be started{decoder.reason(Path(program))}.")
    if lowered & _MEMORY_LIMITS and (_MEMORY_USED_UP.search(messages) or status in _CRASHED):
        raise DecoderUnavailable(f"{program} reached the memory limit of this process (ulimit -v or -d).")
    if resource.RLIMIT_NOFILE in lowered and _FILES_USED_UP.search(messages):
        raise DecoderUnavailable(f"{program} reached the limit of open files of this process (ulimit -n).")
    # ffmpeg, unlike ffprobe, catches SIGXCPU and exits as after SIGTERM.
    if resource.RLIMIT_CPU in lowered and (decoder.was_killed_externally or status == -signal.SIGXCPU):
        raise DecoderUnavailable(f"{program} was ended, probably at the CPU time limit of this process (ulimit -t).")
