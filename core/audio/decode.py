"""Any media file to float32 blocks at 16 kHz, by ffmpeg in a process of its own.

A process, because a decoder that crashes, hangs or swells on a hostile file must not take the function with it.
ffmpeg-python builds the arguments; running it is ours, since its `run()` has neither a time-out nor a limit on what
comes back.

What is guarded against, each seen in the wild: playlists and concat scripts that read other local files (a format
whitelist: forbidding protocols alone does not stop them), headers that claim hours (nothing is allocated from a claim),
small files that decode to gigabytes (streaming, a limit on duration, on memory and on wall time), and damage that
ffmpeg reports with exit status 0 (the output counts, not the status).
"""

import json
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ffmpeg
import numpy as np
import numpy.typing as npt

from core.deadline import Deadline
from core.errors import (
    DamagedAudio,
    DeadlineExceeded,
    DecoderUnavailable,
    EmptyRecording,
    NoAudioStream,
    NotAudio,
    RecordingTooLarge,
    RecordingTooLong,
    TooManyChannels,
)
from core.settings import MediaLimits
from core.waveform import SAMPLE_RATE_HZ

Block = npt.NDArray[np.float32]
"""Samples at 16 kHz, float32, nominally in [-1, 1], shape ``(channels, n)``."""

FORMATS = (
    "wav,w64,mp3,flac,ogg,mov,matroska,aac,aiff,au,caf,amr,amrnb,amrwb,asf,ac3,eac3,avi,mpegts,mpeg,ape,wv,tta,gsm"
)
"""Containers that recordings of speech come in. None of them can name another file that ffmpeg would open."""

RESAMPLER = "soxr"
"""The closer of ffmpeg's two to `librosa.load`, which uses soxr itself: see docs/performance.md."""

_BLOCK_S = 1.0
_LONGEST_MESSAGE = 4096
_PROBE_TIMEOUT_S = 30.0
_FASTEST_SAMPLE_RATE_HZ = 1_000_000
"""Above any recorder's; a filter for such a rate would take more memory than it is worth finding out."""


@dataclass(frozen=True)
class MediaInfo:
    """What the file says of itself; claims, not facts.

    Attributes
    ----------
    container, codec
        In ffmpeg's names; of several names for one container, the first.
    sample_rate_hz, channels
        Of the first audio stream.
    duration_s
        As claimed by the header, or None.
    """

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    duration_s: float | None


def probe(path: Path, limits: MediaLimits, deadline: Deadline = Deadline()) -> MediaInfo:  # noqa: B008 (frozen)
    """Ask ffprobe what the file is.

    Raises
    ------
    EmptyRecording, RecordingTooLarge, NotAudio, NoAudioStream, TooManyChannels
        If the file cannot be a recording of speech.
    DeadlineExceeded
        If there was no time.
    DecoderUnavailable
        If ffprobe could not be started.
    """
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise EmptyRecording("The file is empty (0 bytes).")
    if size_bytes > limits.max_size_bytes:
        raise RecordingTooLarge(f"The file has {size_bytes:,} bytes; at most {limits.max_size_bytes:,} are accepted.")
    shown = "format=format_name,duration:stream=codec_name,sample_rate,channels,duration"
    options = ["-v", "error", *_input_options(), "-select_streams", "a:0", "-show_entries", shown]
    command = ["ffprobe", *options, "-print_format", "json", "-i", f"file:{path}"]
    limit = deadline.sooner(_PROBE_TIMEOUT_S)
    with _running(command, limits, limit) as running:
        document = running.read()
    if running.timed_out:
        raise DeadlineExceeded("Finding out what the file contains took too long.")
    if running.status == -signal.SIGKILL:
        raise DecoderUnavailable("ffprobe was killed from outside, perhaps for want of memory.")
    if b"not on whitelist" in running.messages:
        raise NotAudio("The file is not audio: it is in none of the formats that are accepted.")
    if running.status != 0:
        raise NotAudio(f"The file is not audio in a format that is accepted{running.reason(path)}.")
    return _media_info(document, limits)


def _media_info(document: bytes, limits: MediaLimits) -> MediaInfo:
    described: dict[str, Any] = json.loads(document)
    stream = next(iter(described.get("streams", [])), None)
    if stream is None:
        raise NoAudioStream("The file contains no sound: it has no audio stream.")
    channels = int(stream.get("channels", 0))
    sample_rate_hz = int(stream.get("sample_rate", 0))
    if channels > limits.max_channels:
        raise TooManyChannels(f"The recording has {channels} channels; at most {limits.max_channels} are accepted.")
    if channels < 1 or not 1 <= sample_rate_hz <= _FASTEST_SAMPLE_RATE_HZ:
        raise DamagedAudio(f"The file claims {channels} channels at {sample_rate_hz} Hz, which no recording has.")
    claimed = described.get("format", {}).get("duration") or stream.get("duration")
    return MediaInfo(
        container=str(described["format"]["format_name"]).split(",")[0],
        codec=str(stream.get("codec_name", "unknown")),
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        duration_s=float(claimed) if claimed else None,
    )


def decode(path: Path, info: MediaInfo, limits: MediaLimits, deadline: Deadline = Deadline()) -> Iterator[Block]:  # noqa: B008
    """Decode the first audio stream, streaming.

    Yields
    ------
    Blocks of shape ``(info.channels, n)`` at 16 kHz, of a second or less. Samples that are not finite become 0.

    Raises
    ------
    EmptyRecording, DamagedAudio
        If nothing could be decoded.
    RecordingTooLong
        Once more has been decoded than is allowed.
    DeadlineExceeded
        If decoding was not done in time; what was yielded before is sound.
    DecoderUnavailable
        If ffmpeg could not be started, or was killed from outside.
    """
    decoded_samples = 0
    block_bytes = round(_BLOCK_S * SAMPLE_RATE_HZ) * info.channels * 4
    with _running(_decode_command(path, info, limits), limits, deadline) as running:
        while chunk := running.read(block_bytes):
            block = _block(chunk, info.channels)
            decoded_samples += block.shape[1]
            if decoded_samples > limits.max_duration_s * SAMPLE_RATE_HZ:
                raise RecordingTooLong(f"The recording is longer than the {limits.max_duration_s:,.0f} s accepted.")
            yield block
    if running.timed_out:
        raise DeadlineExceeded(f"Decoding was not done in time; {decoded_samples / SAMPLE_RATE_HZ:.0f} s were decoded.")
    if running.status == -signal.SIGKILL:
        raise DecoderUnavailable("ffmpeg was killed from outside, perhaps for want of memory.")
    if decoded_samples == 0 and running.status == 0 and not running.messages:
        raise EmptyRecording("The recording contains no samples.")
    if decoded_samples == 0:
        raise DamagedAudio(f"No sound could be decoded from the {info.container} file{running.reason(path)}.")


def _block(chunk: bytes, channels: int) -> Block:
    samples = np.frombuffer(chunk[: len(chunk) // (4 * channels) * 4 * channels], np.float32)
    return np.nan_to_num(samples.reshape(-1, channels).T, nan=0.0, posinf=0.0, neginf=0.0)


def _input_options() -> list[str]:
    return ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]


def _decode_command(path: Path, info: MediaInfo, limits: MediaLimits) -> list[str]:
    source = ffmpeg.input(f"file:{path}", protocol_whitelist="file,pipe", format_whitelist=FORMATS, threads=1)
    # One second more than is allowed, so that a recording that is too long shows.
    output = source["a:0"].output(
        "pipe:1",
        t=limits.max_duration_s + 1,
        ac=info.channels,
        af=f"aresample={SAMPLE_RATE_HZ}:resampler={RESAMPLER}",
        format="f32le",
        acodec="pcm_f32le",
    )
    command: list[str] = output.global_args("-nostdin", "-v", "error", "-filter_threads", "1").compile()
    return command


class _Running:
    """A decoder process: its output, and afterwards its exit status and what it said."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", stdout: IO[bytes], patience_s: float, deadline: Deadline
    ) -> None:
        self.timed_out = False
        self.messages = b""
        self._process = process
        self._stdout = stdout
        self._patience_s = patience_s
        self._deadline = deadline

    def read(self, size: int = -1) -> bytes:
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
        limit_s = min(max(0.0, self._patience_s), self._deadline.remaining_s, threading.TIMEOUT_MAX)
        watchdog = threading.Timer(limit_s, self._stop)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            self._patience_s -= time.monotonic() - started

    def _stop(self) -> None:
        self.timed_out = True
        self._process.kill()

    @property
    def status(self) -> int:
        """The exit status, or minus the signal that ended it."""
        return int(self._process.wait())

    def reason(self, path: Path) -> str:
        """The last thing ffmpeg said, in brackets, without our own file's name and control characters."""
        lines = self.messages.decode("utf-8", "replace").replace(f"file:{path}", "").replace(str(path), "").split("\n")
        last = next((line for line in reversed(lines) if line.strip(" :")), "")
        words = "".join(character for character in last if character.isprintable()).strip(" :")
        return f" (ffmpeg: {words[:200]})" if words else ""


@contextmanager
def _running(command: list[str], limits: MediaLimits, deadline: Deadline) -> Iterator[_Running]:
    """Start a decoder with its limits; whatever happens, it has ended when this is left."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
    except OSError as error:
        raise DecoderUnavailable(f"{command[0]} could not be started: {error.strerror}.") from error
    assert process.stdout is not None  # PIPE was asked for, of both
    assert process.stderr is not None
    _limit_memory(process.pid, limits)
    with open(process.stdout.fileno(), "rb", closefd=False) as stdout:
        running = _Running(process, stdout, limits.decoder_timeout_s, deadline)
        listener = threading.Thread(target=_listen, args=(process.stderr, running), daemon=True)
        listener.start()
        try:
            yield running
            running.end()
        finally:
            process.kill()
            process.wait()
            listener.join()
            process.stdout.close()
            process.stderr.close()


def _limit_memory(pid: int, limits: MediaLimits) -> None:
    """From outside, right after the start: a hook before exec costs vfork's speed, and is unsafe with threads."""
    most_bytes = limits.decoder_memory_mb * 1024 * 1024
    try:
        resource.prlimit(pid, resource.RLIMIT_AS, (most_bytes, most_bytes))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
    except (ProcessLookupError, AttributeError):
        return  # it has ended already; or this is not Linux, where the function does not run either


def _listen(stderr: IO[bytes], running: _Running) -> None:
    while line := stderr.read(_LONGEST_MESSAGE):
        running.messages = (running.messages + line)[-_LONGEST_MESSAGE:]
