"""Decodes any media file to float32 blocks at 16 kHz with ffmpeg, in a separate process.

ffmpeg-python builds the arguments. `core.audio.ffmpeg` runs them, because ffmpeg-python's `run()` has neither a timeout
nor a limit on the output.

Hostile and damaged files are handled as follows:

- Playlists and concat scripts can read other local files, even when protocols are restricted. A format whitelist
  refuses them.
- A header may claim hours of audio. Memory is allocated for decoded audio only.
- A small file may decode to gigabytes. Decoding streams, with limits on duration, memory and wall time.
- ffmpeg exits with status 0 for some damaged files. Its output and messages are checked as well.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
import numpy.typing as npt

from core.audio.ffmpeg import Decoder, run_sandboxed
from core.audio.waveform import SAMPLE_RATE_HZ
from core.deadline import Deadline
from core.errors import (
    DamagedAudio,
    DeadlineExceeded,
    DecoderUnavailable,
    EmptyRecording,
    NoAudioStream,
    NotAudio,
    RecordingEncrypted,
    RecordingTooLong,
    TooManyChannels,
)
from core.settings import MediaLimits

Block = npt.NDArray[np.float32]
"""Samples at 16 kHz, float32, nominally in [-1, 1], shape ``(channels, n)``."""

FORMATS = (
    "wav,w64,mp3,flac,ogg,mov,matroska,aac,aiff,au,caf,amr,amrnb,amrwb,asf,ac3,eac3,avi,mpegts,mpeg,ape,wv,tta,gsm"
)
"""Accepted containers. None of them can name another file for ffmpeg to open."""

RESAMPLER = "soxr"
"""The resampler of `librosa.load`, which the checkpoint's published program uses. ffmpeg's default resampler changes
scores: docs/decisions/0007-resampling-with-soxr.md."""

_BLOCK_S = 1.0
_MAX_AMPLITUDE = 2.0**31
"""Samples of float files should stay within 1, but some files contain 32-bit integers. Larger values are not sound, and
their energy overflows float32."""
_MAX_PACKETS_PROBED = 32
"""Enough to include the first audio packet of a film, which shows whether the audio is encrypted."""
_MAX_DESCRIPTION_BYTES = 4_000_000
"""Maximum size of ffprobe's JSON, enough for 1,000 streams. A film has ten."""
_CODEC_CHANGES = b"failed to create or replace stream"
"""Logged by ffmpeg when the next link of a chained Ogg file has another codec. ffmpeg then stops with status 0."""
_TOO_MANY_ERRORS = 69
"""ffmpeg's exit status when the share of undecodable frames exceeds its limit."""
_UNFRAMED = ("mp3", "aac", "ac3", "eac3")
"""Formats whose frames begin with a sync word, which other bytes may contain by chance. Frames that cannot be decoded
may be part of an appended picture or web page rather than of the recording."""
_NO_DECODER = b"Decoder (codec"
_NO_CONTENTS = b"moov atom not found"
_CUT_OFF = "The file's index is missing or cut off: upload the whole file again."
_PROBE_TIMEOUT_S = 30.0
_MIN_SAMPLE_RATE_HZ = 1_000
"""Speech needs a higher rate. A file of 14 kB that claims 1 Hz would decode to four hours."""
_MAX_SAMPLE_RATE_HZ = 1_000_000
"""Above the rate of any recorder. The resampling filter's memory grows with the rate."""


@dataclass(frozen=True)
class MediaInfo:
    """The properties of a file's first audio stream, as its headers claim them.

    Attributes
    ----------
    container, codec
        ffmpeg's names; the first one if ffmpeg has several for the container.
    sample_rate_hz, channels
        Of the encoded audio.
    duration_s
        None if the headers claim no duration.
    """

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    duration_s: float | None


def probe(path: Path, limits: MediaLimits, deadline: Deadline = Deadline()) -> MediaInfo:  # noqa: B008 (frozen)
    """Read a file's headers with ffprobe, and refuse a file that cannot be a recording of speech.

    Raises
    ------
    EmptyRecording, RecordingTooLarge, NotAudio, NoAudioStream, DamagedAudio, RecordingEncrypted, TooManyChannels
        If the file is refused.
    DeadlineExceeded
        If the deadline or ffprobe's own timeout of 30 s passed.
    DecoderUnavailable
        If ffprobe could not be started or was killed by another process, or the file was removed.
    """
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise DecoderUnavailable("The recording is missing from the temporary folder.") from error
    limits.check_size(size_bytes)
    path = path.absolute()
    limit = deadline.sooner(_PROBE_TIMEOUT_S)
    with run_sandboxed(_probe_command(path), limits, limit) as decoder:
        document = decoder.read(_MAX_DESCRIPTION_BYTES)
    if decoder.timed_out:
        raise DeadlineExceeded("Reading the file's headers took too long.")
    _check_environment(decoder, path)
    if b"not on whitelist" in decoder.messages:
        raise NotAudio("The file is not audio in an accepted format.")
    if _NO_CONTENTS in decoder.messages:
        raise DamagedAudio(_CUT_OFF)
    if decoder.status < 0:
        raise DamagedAudio("The file is damaged: ffprobe crashed on it.")
    if decoder.status != 0:
        raise NotAudio(f"The file is not audio in an accepted format{decoder.reason(path)}.")
    if len(document) == _MAX_DESCRIPTION_BYTES:
        raise DamagedAudio("The file's headers describe more streams than a recording can have.")
    return _media_info(json.loads(document), limits)


def _check_environment(decoder: Decoder, path: Path) -> None:
    """Raise `DecoderUnavailable` if another process ended the decoder or removed the recording."""
    if decoder.was_killed_externally:
        raise DecoderUnavailable("ffmpeg was killed by another process, perhaps for lack of memory.")
    if not path.exists():
        raise DecoderUnavailable("The recording was removed from the temporary folder while it was decoded.")


def _probe_command(path: Path) -> list[str]:
    entries = (
        "format=format_name,duration:stream=index,codec_type,codec_name,sample_rate,channels,duration"
        ":stream_tags=enc_key_id:packet=stream_index:packet_side_data=side_data_type"
    )
    interval = ["-read_intervals", f"%+#{_MAX_PACKETS_PROBED}"]
    options = ["-v", "error", *_input_options(), *interval, "-show_entries", entries, "-print_format", "json"]
    return ["ffprobe", *options, "-i", f"file:{path}"]


def _media_info(described: dict[str, Any], limits: MediaLimits) -> MediaInfo:
    streams = described.get("streams", [])
    if not streams:
        raise DamagedAudio(_CUT_OFF)
    stream = next((stream for stream in streams if stream.get("codec_type") == "audio"), None)
    if stream is None:
        raise NoAudioStream("The file has no audio stream.")
    if _is_encrypted(stream, described.get("packets", [])):
        raise RecordingEncrypted("The audio is encrypted (DRM): upload a copy without protection.")
    channels = int(stream.get("channels", 0))
    sample_rate_hz = int(stream.get("sample_rate", 0))
    if channels > limits.max_channels:
        raise TooManyChannels(f"The recording has {channels} channels; the limit is {limits.max_channels}.")
    if channels < 1 or not _MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= _MAX_SAMPLE_RATE_HZ:
        raise DamagedAudio(f"The file claims {channels} channels at {sample_rate_hz} Hz, which is not plausible.")
    claimed = described.get("format", {}).get("duration") or stream.get("duration")
    return MediaInfo(
        container=str(described["format"]["format_name"]).split(",")[0],
        codec=str(stream.get("codec_name", "unknown")),
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        duration_s=float(claimed) if claimed else None,
    )


def _is_encrypted(stream: dict[str, Any], packets: list[dict[str, Any]]) -> bool:
    """Detect encrypted audio in MP4 (common encryption) and Matroska, which ffmpeg would decode to noise."""
    kinds = {
        side_data.get("side_data_type")
        for packet in packets
        if packet.get("stream_index") == stream.get("index")
        for side_data in packet.get("side_data_list", [])
    }
    return "Encryption info" in kinds or "enc_key_id" in stream.get("tags", {})


def decode(path: Path, info: MediaInfo, limits: MediaLimits, deadline: Deadline = Deadline()) -> Iterator[Block]:  # noqa: B008
    """Decode the first audio stream as a stream of blocks.

    Yields
    ------
    Blocks of shape ``(info.channels, n)`` at 16 kHz, one second or less. Invalid samples, such as NaN, become 0.

    Raises
    ------
    EmptyRecording, NotAudio, DamagedAudio
        If nothing could be decoded or ffmpeg stopped early; the blocks yielded so far are not the whole recording.
    RecordingTooLong
        If more audio was decoded than `limits` allow.
    DeadlineExceeded
        If the deadline or the decoder's timeout passed.
    DecoderUnavailable
        If ffmpeg could not be started or was killed by another process, or the file was removed.
    """
    path = path.absolute()
    decoded_samples = 0
    block_bytes = round(_BLOCK_S * SAMPLE_RATE_HZ) * info.channels * 4
    with run_sandboxed(_decode_command(path, info), limits, deadline) as decoder:
        while chunk := decoder.read(block_bytes):
            block = _block(chunk, info.channels)
            decoded_samples += block.shape[1]
            if decoded_samples > limits.max_duration_s * SAMPLE_RATE_HZ:
                raise RecordingTooLong(f"The recording is longer than the limit of {limits.max_duration_s:,.0f} s.")
            yield block
    _check_end(decoder, path, info, decoded_samples)


def _check_end(decoder: Decoder, path: Path, info: MediaInfo, decoded_samples: int) -> None:
    """Raise an error if the decoded audio is not the whole recording.

    Exit status 0 does not prove success: ffmpeg also returns it for a truncated file. Any other status means that
    ffmpeg stopped early, or that the share of undecodable frames exceeds its limit.
    """
    decoded_s = decoded_samples / SAMPLE_RATE_HZ
    if decoder.timed_out:
        raise DeadlineExceeded(f"Decoding timed out after {decoded_s:.0f} s of audio.")
    _check_environment(decoder, path)
    if decoder.status < 0:
        raise DamagedAudio(f"The {info.container} file is damaged: ffmpeg crashed after {decoded_s:.1f} s of audio.")
    if decoded_samples == 0 and decoder.status == 0 and not decoder.messages:
        raise EmptyRecording("The recording contains no samples.")
    if decoded_samples == 0 and _NO_DECODER in decoder.messages:
        raise NotAudio(f"The codec {info.codec} is not accepted: upload the recording as WAV, FLAC or MP3.")
    if decoded_samples == 0:
        raise DamagedAudio(f"No audio could be decoded from the {info.container} file{decoder.reason(path)}.")
    if decoder.status != 0 and not (decoder.status == _TOO_MANY_ERRORS and info.container in _UNFRAMED):
        raise DamagedAudio(f"Only part of the {info.container} file could be decoded{decoder.reason(path)}.")
    if _CODEC_CHANGES in decoder.messages:
        raise DamagedAudio(
            f"The {info.container} file changes its codec after {decoded_s:.1f} s: upload its parts one by one."
        )


def _block(chunk: bytes, channels: int) -> Block:
    samples = np.frombuffer(chunk[: len(chunk) // (4 * channels) * 4 * channels], np.float32)
    # A comparison with NaN is false, so NaN becomes 0 as well.
    return np.where(np.abs(samples) <= _MAX_AMPLITUDE, samples, np.float32(0.0)).reshape(-1, channels).T


def _input_options() -> list[str]:
    return ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]


def _decode_command(path: Path, info: MediaInfo) -> list[str]:
    source = ffmpeg.input(f"file:{path}", protocol_whitelist="file,pipe", format_whitelist=FORMATS, threads=1)
    # No limit on the duration (-t): ffmpeg measures it by timestamps, and would stop where they jump ahead within a
    # recording. `decode` counts samples instead.
    output = source["a:0"].output(
        "pipe:1",
        ac=info.channels,
        af=f"aresample={SAMPLE_RATE_HZ}:resampler={RESAMPLER}",
        format="f32le",
        acodec="pcm_f32le",
    )
    command: list[str] = output.global_args("-nostdin", "-v", "error", "-filter_threads", "1").compile()
    return command
