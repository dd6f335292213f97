"""Decodes any media file to float32 blocks at 16 kHz with ffmpeg, in a separate process.

ffmpeg-python builds the arguments. `core.audio.ffmpeg` runs them, because ffmpeg-python's `run()` has neither a timeout
nor a limit on the output.

Hostile and damaged files are handled as follows:

- A header may claim hours of audio. Memory is allocated for decoded audio only.
- A small file may decode to gigabytes. Decoding streams, with limits on duration, memory and wall time.
- ffmpeg exits with status 0 for some damaged files. Its output and messages are checked as well.
"""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import ffmpeg
import numpy as np

from core.audio.amr import may_have_pauses, with_silent_pauses
from core.audio.channel_order import pan_filter
from core.audio.ffmpeg import Decoder, run_sandboxed
from core.audio.formats import FORMATS
from core.audio.probe import READ_ON, MediaInfo, check_environment
from core.audio.timeline import REPORT_LEAPS, Timeline
from core.audio.tracks import align
from core.audio.waveform import SAMPLE_RATE_HZ, Block
from core.deadline import Deadline, plausible_duration_s
from core.errors import (
    DamagedAudio,
    DeadlineExceeded,
    EmptyRecording,
    FormatNotAccepted,
    RecordingTooLong,
)
from core.settings import MediaLimits

RESAMPLER = "soxr"
"""The resampler of `librosa.load`, which the checkpoint's published program uses. ffmpeg's default resampler changes
scores: docs/decisions/0007-resampling-with-soxr.md."""

_BLOCK_S = 1.0
_INPUT = "recording"
"""Stands for the path, which ffmpeg-python would hash: it refuses names that are not UTF-8."""
_MAX_AMPLITUDE = 2.0**31
"""Samples of float files should stay within 1, but some files contain 32-bit integers. Larger values are not sound, and
their energy overflows float32."""
_CODEC_CHANGES = b"failed to create or replace stream"
"""Logged by ffmpeg when the next link of a chained Ogg file has another codec. ffmpeg then stops with status 0."""
_TOO_MANY_ERRORS = 69
"""ffmpeg's exit status when the share of undecodable frames exceeds its limit."""
_UNFRAMED = ("mp3", "aac", "ac3", "eac3")
"""Formats whose frames begin with a sync word, which other bytes may contain by chance. Frames that cannot be decoded
may be part of an appended picture or web page rather than of the recording."""
_NO_DECODER = b"Decoder (codec"


def decode(
    path: Path,
    info: MediaInfo,
    limits: MediaLimits,
    deadline: Deadline = Deadline(),  # noqa: B008 (frozen)
) -> Generator[Block, None, None]:
    """Decode the audio tracks as a stream of blocks: the channels of the first track, then those of the next.

    Channels keep the order in which the file stores them. A track that ends before another becomes silent.

    A caller that may stop before the end must close the generator, which ends ffmpeg: `contextlib.closing`.

    Yields
    ------
    Blocks of shape ``(info.channels, n)`` at 16 kHz, one second or less. Invalid samples, such as NaN, become 0.

    Raises
    ------
    EmptyRecording, FormatNotAccepted, DamagedAudio
        If nothing could be decoded or ffmpeg stopped early; the blocks yielded so far are not the whole recording.
    RecordingTooLong
        If more audio was decoded than `limits` allow.
    DeadlineExceeded
        If the deadline or the decoder's timeout passed.
    DecoderUnavailable
        If ffmpeg could not be started or was killed by another process, or the file was removed.
    """
    path = path.absolute()
    numbers = [number for number, track in enumerate(info.tracks) if track.channels]
    with ExitStack() as stack:
        # One process for each track: a filter that merges tracks ends with the shortest of them.
        tracks = [stack.enter_context(closing(_decode_track(path, info, n, limits, deadline))) for n in numbers]
        yield from align(tracks, [info.tracks[n].channels for n in numbers])


def _decode_track(
    path: Path, info: MediaInfo, number: int, limits: MediaLimits, deadline: Deadline
) -> Generator[Block, None, None]:
    decoded_samples = 0
    channels = info.tracks[number].channels
    block_bytes = round(_BLOCK_S * SAMPLE_RATE_HZ) * channels * 4
    with _source(path, info, number, limits, deadline) as (source, stream):
        start_s = info.start_s if source == path else 0.0
        timeline = Timeline(claimed_s(path, info), limits.max_duration_s, start_s)
        with run_sandboxed(_decode_command(source, stream, info, number), limits, deadline) as decoder:
            while chunk := decoder.read(block_bytes):
                block = _block(chunk, channels)
                decoded_samples += block.shape[1]
                if decoded_samples > limits.max_duration_s * SAMPLE_RATE_HZ:
                    raise RecordingTooLong(f"The recording is longer than the limit of {limits.max_duration_s:,.0f} s.")
                yield from timeline.place(block, decoder.numbers())
        _check_end(decoder, path, info, number, decoded_samples)


@contextmanager
def _source(
    path: Path, info: MediaInfo, number: int, limits: MediaLimits, deadline: Deadline
) -> Iterator[tuple[Path, str]]:
    """Provide the file and the stream to decode: the recording's, or for AMR a copy whose pauses ffmpeg can decode."""
    track, stream = info.tracks[number], f"a:{number}"
    if not may_have_pauses(track.codec, track.channels):
        yield path, stream
        return
    timeline = Timeline(claimed_s(path, info), limits.max_duration_s)
    with with_silent_pauses(path, track.codec, stream, timeline, limits, deadline) as copy:
        yield copy, "a:0"


def _check_end(decoder: Decoder, path: Path, info: MediaInfo, number: int, decoded_samples: int) -> None:
    """Raise an error if the decoded audio is not the whole track.

    Exit status 0 does not prove success: ffmpeg also returns it for a truncated file. Any other status means that
    ffmpeg stopped early, or that the share of undecodable frames exceeds its limit.
    """
    decoded_s = decoded_samples / SAMPLE_RATE_HZ
    if decoder.timed_out:
        raise DeadlineExceeded(f"Decoding timed out after {decoded_s:.0f} s of audio.")
    check_environment(decoder, path)
    if decoder.status < 0:
        raise DamagedAudio(f"The {info.container} file is damaged: ffmpeg crashed after {decoded_s:.1f} s of audio.")
    if decoded_samples == 0 and decoder.status == 0 and not decoder.messages:
        raise EmptyRecording("The recording contains no samples.")
    if decoded_samples == 0 and _NO_DECODER in decoder.messages:
        raise FormatNotAccepted(f"ffmpeg on this machine has no decoder for the codec {info.tracks[number].codec}.")
    if decoded_samples == 0:
        raise DamagedAudio(f"No audio could be decoded from the {info.container} file. It is damaged.")
    if decoder.status != 0 and not (decoder.status == _TOO_MANY_ERRORS and info.container in _UNFRAMED):
        raise DamagedAudio(f"The {info.container} file is damaged: only the first {decoded_s:.1f} s could be decoded.")
    if _CODEC_CHANGES in decoder.messages:
        raise DamagedAudio(
            f"The {info.container} file changes its codec after {decoded_s:.1f} s: upload its parts one by one."
        )


def claimed_s(path: Path, info: MediaInfo) -> float | None:
    """Return the duration that the headers claim, or None if the file could not hold it or is gone."""
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        return None
    return plausible_duration_s(info.duration_s, info.codec, size_bytes, info.samples_per_s)


def _block(chunk: bytes, channels: int) -> Block:
    samples = np.frombuffer(chunk[: len(chunk) // (4 * channels) * 4 * channels], np.float32)
    # A comparison with NaN is false, so NaN becomes 0 as well.
    return np.where(np.abs(samples) <= _MAX_AMPLITUDE, samples, np.float32(0.0)).reshape(-1, channels).T


def _decode_command(path: Path, stream: str, info: MediaInfo, number: int) -> list[str]:
    track = info.tracks[number]
    source = ffmpeg.input(
        _INPUT,
        protocol_whitelist="file,pipe",
        format_whitelist=FORMATS,
        threads=1,
        **(READ_ON if info.starts_late else {}),
    )
    # No limit on the duration (-t): ffmpeg measures it by timestamps, and would stop where they jump ahead within a
    # recording. `decode` counts samples instead.
    pan = pan_filter(track.codec, track.channels, has_layout=track.has_layout)
    output = source[stream].output(
        "pipe:1",
        af=f"aselect='{REPORT_LEAPS}',aresample={SAMPLE_RATE_HZ}:resampler={RESAMPLER},{pan}",
        format="f32le",
        acodec="pcm_f32le",
    )
    # Without -copyts, ffmpeg counts MPEG-TS and Ogg from the start of the audio, and closes leaps of more than 10 s.
    # `repeat` logs equal numbers one by one.
    options = ["-nostdin", "-v", "repeat+error", "-filter_threads", "1", "-copyts"]
    command: list[str] = output.global_args(*options).compile()
    return [f"file:{path}" if argument == _INPUT else argument for argument in command]
