"""Replaces the pauses of AMR recordings with silent frames, which every build of ffmpeg decodes.

Phones and PBXs record AMR with discontinuous transmission (DTX). A pause consists of comfort noise frames (SID), one
every 160 ms, and of frames without data. ffmpeg's decoders drop both, and the rest of a packet after them. Recordings
would be shorter, and their utterances would merge. docs/decisions/0023-amr-pauses.md compares other ways.

3GPP TS 26.101 and 26.201 define the frames, RFC 4867 the storage format.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from core.audio.ffmpeg import Decoder, run_sandboxed
from core.audio.formats import FORMATS
from core.audio.probe import check_environment
from core.audio.timeline import Leap, Timeline
from core.deadline import Deadline
from core.errors import DamagedAudio, DeadlineExceeded
from core.scratch import disk_errors, scratch_folder
from core.settings import MediaLimits

_FRAME_S = 0.02
_CHUNK_BYTES = 65_536
_MAX_LINE_BYTES = 32
"""Of ffprobe's list of packets: a time, a size, and their separators."""


@dataclass(frozen=True)
class _Codec:
    """The storage format of a codec.

    Attributes
    ----------
    magic
        The beginning of a file.
    frame_bytes
        The size of a frame of each type, with its first byte, which contains the type.
    pauses
        The types without speech: comfort noise, lost speech, and no data.
    silence
        A frame that decodes to silence.
    """

    magic: bytes
    frame_bytes: tuple[int, ...]
    pauses: frozenset[int]
    silence: bytes


_CODECS = {
    "amr_nb": _Codec(
        b"#!AMR\n",
        (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1),
        frozenset({8, 15}),
        # Digital silence at 4.75 kbit/s. ffmpeg decodes it to less than -100 dB, and refuses frames without data.
        bytes.fromhex("04363cc7f0670435ffe0000000"),
    ),
    "amr_wb": _Codec(
        b"#!AMR-WB\n",
        (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1),
        frozenset({9, 14, 15}),
        # A frame without data, which ffmpeg decodes to zeros.
        b"\x7c",
    ),
}


def may_have_pauses(codec: str, channels: int) -> bool:
    """Return whether `with_silent_pauses` accepts a stream."""
    return codec in _CODECS and channels == 1


@contextmanager
def with_silent_pauses(
    path: Path, codec: str, stream: str, timeline: Timeline, limits: MediaLimits, deadline: Deadline
) -> Iterator[Path]:
    """Write the frames of an AMR stream without DTX to a file, which is deleted when the context exits.

    Parameters
    ----------
    path
        The recording.
    codec
        ``amr_nb`` or ``amr_wb``.
    stream
        ffmpeg's specifier of the stream, such as ``a:0``.
    timeline
        Decides about gaps between packets, which become silent frames too.

    Raises
    ------
    DamagedAudio
        If ffmpeg crashes on the recording.
    DeadlineExceeded
        If the deadline or ffmpeg's timeout passed.
    DecoderUnavailable, DiskUnavailable
        If ffmpeg could not be run, or the file could not be written.
    """
    form = _CODECS[codec]
    packets = _packets(path, stream, limits, deadline)
    with scratch_folder() as folder:
        file = folder / "without-dtx.amr"
        with run_sandboxed(_copy_command(path, stream), limits, deadline) as decoder, disk_errors():
            frames = _with_gaps(_frames(decoder, form), packets, timeline, form)
            # The caller refuses a recording that is longer than the limit, so one second more is enough.
            frames = islice(frames, round((limits.max_duration_s + 1) / _FRAME_S))
            with file.open("wb") as rewritten:
                rewritten.write(form.magic)
                rewritten.writelines(form.silence if frame[0] >> 3 & 15 in form.pauses else frame for frame in frames)
        _check(decoder, path)
        yield file


def _frames(decoder: Decoder, form: _Codec) -> Iterator[bytes]:
    """Split ffmpeg's output, a file in storage format, into frames; the last one may be incomplete."""
    data = decoder.read(_CHUNK_BYTES).removeprefix(form.magic)
    while data:
        start = 0
        while start < len(data) and (end := start + form.frame_bytes[data[start] >> 3 & 15]) <= len(data):
            yield data[start:end]
            start = end
        chunk = decoder.read(_CHUNK_BYTES)
        data = data[start:] + chunk
        if not chunk:
            break
    if data:
        yield data


def _with_gaps(
    frames: Iterator[bytes], packets: list[tuple[float, int]], timeline: Timeline, form: _Codec
) -> Iterator[bytes]:
    """Insert silent frames where the time stamps of packets leap; packets have one or more whole frames."""
    following = iter(packets)
    in_packet_bytes, sound_s = 0, 0.0
    for frame in frames:
        if in_packet_bytes <= 0 and (packet := next(following, None)):
            time_s, size_bytes = packet
            in_packet_bytes += size_bytes
            silence_s = timeline.silence_before(Leap(sound_s, time_s - sound_s))
            yield from (form.silence for _ in range(round(silence_s / _FRAME_S)))
        yield frame
        in_packet_bytes -= len(frame)
        sound_s += _FRAME_S


def _packets(path: Path, stream: str, limits: MediaLimits, deadline: Deadline) -> list[tuple[float, int]]:
    """Return the time and the size of each packet, or nothing if they have no time stamps."""
    max_bytes = round(limits.max_duration_s / _FRAME_S) * _MAX_LINE_BYTES
    with run_sandboxed(_list_command(path, stream), limits, deadline) as decoder:
        lines = decoder.read(max_bytes).decode("ascii", "replace").splitlines()
    _check(decoder, path)
    try:
        start_s = float(lines.pop())
        rows = [line.split(",") for line in lines]
        return [(float(time_s) - start_s, int(size_bytes)) for time_s, size_bytes, *_ in rows]
    except (IndexError, ValueError):
        return []


def _check(decoder: Decoder, path: Path) -> None:
    """Raise an error if ffmpeg did not end by itself. Decoding finds out whether the frames are the whole recording."""
    if decoder.timed_out:
        raise DeadlineExceeded("Reading the recording's packets took too long.")
    check_environment(decoder, path)
    if decoder.status < 0:
        raise DamagedAudio("The recording is damaged: ffmpeg crashed on its packets.")


def _list_command(path: Path, stream: str) -> list[str]:
    entries = "packet=pts_time,size:format=start_time"
    options = ["-v", "error", "-select_streams", stream, "-show_entries", entries, "-print_format", "csv=p=0"]
    return ["ffprobe", *_INPUT_OPTIONS, *options, "-i", f"file:{path}"]


def _copy_command(path: Path, stream: str) -> list[str]:
    output = ["-map", f"0:{stream}", "-c", "copy", "-f", "amr", "pipe:1"]
    return ["ffmpeg", "-nostdin", "-v", "error", *_INPUT_OPTIONS, "-i", f"file:{path}", *output]


_INPUT_OPTIONS = ("-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS)
