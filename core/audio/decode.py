"""Any media file to float32 blocks at 16 kHz, by ffmpeg in a process of its own.

ffmpeg-python builds the arguments; running it is ours (`core.audio.ffmpeg`), since its `run()` has neither a time-out
nor a limit on what comes back.

What is guarded against, each seen in the wild: playlists and concat scripts that read other local files (a format
whitelist: forbidding protocols alone does not stop them), headers that claim hours (nothing is allocated from a claim),
small files that decode to gigabytes (streaming, a limit on duration, on memory and on wall time), and damage that
ffmpeg reports with exit status 0 (the output counts, not the status).
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
"""Containers that recordings of speech come in. None of them can name another file that ffmpeg would open."""

RESAMPLER = "soxr"
"""The closer of ffmpeg's two to `librosa.load`, which uses soxr itself: see docs/performance.md."""

_BLOCK_S = 1.0
_LOUDEST = 2.0**31
"""Float files should stay within 1, but some hold the integers that they were made from. What is beyond those is no
sound, and its energy would be beyond float32."""
_MAX_PACKETS_PROBED = 32
"""Enough to see the first audio packet of a film, which tells whether it is encrypted."""
_MAX_DESCRIPTION = 4_000_000
"""Bytes of JSON. ffprobe describes up to 1,000 streams; a film has ten."""
_CODEC_CHANGES = b"failed to create or replace stream"
"""What ffmpeg says of a chained Ogg file whose next link is in another codec, before it takes that for the end."""
_TOO_MANY_ERRORS = 69
_UNFRAMED = ("mp3", "aac", "ac3", "eac3")
"""Formats whose frames are found by a mark that other bytes hold by chance: what cannot be decoded may be a picture or
a page that somebody has appended, rather than a part of the recording."""
_NO_DECODER = b"Decoder (codec"
_NO_CONTENTS = b"moov atom not found"
_CUT_OFF = "The file's table of contents is missing or cut off: upload the whole file again."
_PROBE_TIMEOUT_S = 30.0
_MIN_SAMPLE_RATE_HZ = 1_000
"""Speech does not fit into less. A file that claims 1 Hz makes four hours of samples out of 14 kB."""
_MAX_SAMPLE_RATE_HZ = 1_000_000
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
    EmptyRecording, RecordingTooLarge, NotAudio, NoAudioStream, DamagedAudio, RecordingEncrypted, TooManyChannels
        If the file cannot be a recording of speech.
    DeadlineExceeded
        If there was no time.
    DecoderUnavailable
        If ffprobe could not be started, or was stopped from outside.
    """
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise DecoderUnavailable("The recording is not in the temporary folder, where it was put.") from error
    limits.check_size(size_bytes)
    path = path.absolute()
    limit = deadline.sooner(_PROBE_TIMEOUT_S)
    with run_sandboxed(_probe_command(path), limits, limit) as decoder:
        document = decoder.read(_MAX_DESCRIPTION)
    if decoder.timed_out:
        raise DeadlineExceeded("Finding out what the file contains took too long.")
    _check_surroundings(decoder, path)
    if b"not on whitelist" in decoder.messages:
        raise NotAudio("The file is not audio: it is in none of the formats that are accepted.")
    if _NO_CONTENTS in decoder.messages:
        raise DamagedAudio(_CUT_OFF)
    if decoder.status < 0:
        raise DamagedAudio("The file is so odd that finding out what it contains broke off.")
    if decoder.status != 0:
        raise NotAudio(f"The file is not audio in a format that is accepted{decoder.reason(path)}.")
    if len(document) == _MAX_DESCRIPTION:
        raise DamagedAudio("The file claims to consist of more streams than any recording does.")
    return _media_info(json.loads(document), limits)


def _check_surroundings(decoder: Decoder, path: Path) -> None:
    """Whether it was something else than the recording that ended the decoder."""
    if decoder.stopped_from_outside:
        raise DecoderUnavailable("ffmpeg was stopped from outside, perhaps for want of memory.")
    if not path.exists():
        raise DecoderUnavailable("The recording was removed from the temporary folder while it was worked on.")


def _probe_command(path: Path) -> list[str]:
    shown = (
        "format=format_name,duration:stream=index,codec_type,codec_name,sample_rate,channels,duration"
        ":stream_tags=enc_key_id:packet=stream_index:packet_side_data=side_data_type"
    )
    few = ["-read_intervals", f"%+#{_MAX_PACKETS_PROBED}"]
    options = ["-v", "error", *_input_options(), *few, "-show_entries", shown, "-print_format", "json"]
    return ["ffprobe", *options, "-i", f"file:{path}"]


def _media_info(described: dict[str, Any], limits: MediaLimits) -> MediaInfo:
    streams = described.get("streams", [])
    if not streams:
        raise DamagedAudio(_CUT_OFF)
    stream = next((stream for stream in streams if stream.get("codec_type") == "audio"), None)
    if stream is None:
        raise NoAudioStream("The file contains no sound: it has no audio stream.")
    if _is_encrypted(stream, described.get("packets", [])):
        raise RecordingEncrypted("The sound in the file is encrypted (DRM): upload a copy without protection.")
    channels = int(stream.get("channels", 0))
    sample_rate_hz = int(stream.get("sample_rate", 0))
    if channels > limits.max_channels:
        raise TooManyChannels(f"The recording has {channels} channels; at most {limits.max_channels} are accepted.")
    if channels < 1 or not _MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= _MAX_SAMPLE_RATE_HZ:
        raise DamagedAudio(f"The file claims {channels} channels at {sample_rate_hz} Hz, which no recording has.")
    claimed = described.get("format", {}).get("duration") or stream.get("duration")
    return MediaInfo(
        container=str(described["format"]["format_name"]).split(",")[0],
        codec=str(stream.get("codec_name", "unknown")),
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        duration_s=float(claimed) if claimed else None,
    )


def _is_encrypted(stream: dict[str, Any], packets: list[dict[str, Any]]) -> bool:
    """As mp4 (common encryption) or matroska mark it; decoded without its key, it may well sound like noise."""
    kinds = {
        side_data.get("side_data_type")
        for packet in packets
        if packet.get("stream_index") == stream.get("index")
        for side_data in packet.get("side_data_list", [])
    }
    return "Encryption info" in kinds or "enc_key_id" in stream.get("tags", {})


def decode(path: Path, info: MediaInfo, limits: MediaLimits, deadline: Deadline = Deadline()) -> Iterator[Block]:  # noqa: B008
    """Decode the first audio stream, streaming.

    Yields
    ------
    Blocks of shape ``(info.channels, n)`` at 16 kHz, of a second or less. Samples that no recorder makes, such as
    NaN, become 0.

    Raises
    ------
    EmptyRecording, NotAudio, DamagedAudio
        If nothing could be decoded, or ffmpeg broke off; what was yielded before is not all.
    RecordingTooLong
        Once more has been decoded than is allowed.
    DeadlineExceeded
        If decoding was not done in time; what was yielded before is sound.
    DecoderUnavailable
        If ffmpeg could not be started, or was stopped from outside.
    """
    path = path.absolute()
    decoded_samples = 0
    block_bytes = round(_BLOCK_S * SAMPLE_RATE_HZ) * info.channels * 4
    with run_sandboxed(_decode_command(path, info), limits, deadline) as decoder:
        while chunk := decoder.read(block_bytes):
            block = _block(chunk, info.channels)
            decoded_samples += block.shape[1]
            if decoded_samples > limits.max_duration_s * SAMPLE_RATE_HZ:
                raise RecordingTooLong(f"The recording is longer than the {limits.max_duration_s:,.0f} s accepted.")
            yield block
    _check_end(decoder, path, info, decoded_samples)


def _check_end(decoder: Decoder, path: Path, info: MediaInfo, decoded_samples: int) -> None:
    """Whether what was decoded is all there is.

    An exit status of 0 proves nothing: a file that was cut off has it too, and gives what is there. Any other one means
    that ffmpeg broke off, or that two frames or more were beyond it for every three that it could decode.
    """
    decoded_s = decoded_samples / SAMPLE_RATE_HZ
    if decoder.timed_out:
        raise DeadlineExceeded(f"Decoding was not done in time; {decoded_s:.0f} s were decoded.")
    _check_surroundings(decoder, path)
    if decoder.status < 0:
        raise DamagedAudio(f"The {info.container} file is so odd that decoding it broke off after {decoded_s:.1f} s.")
    if decoded_samples == 0 and decoder.status == 0 and not decoder.messages:
        raise EmptyRecording("The recording contains no samples.")
    if decoded_samples == 0 and _NO_DECODER in decoder.messages:
        raise NotAudio(f"The sound is in a codec that is not accepted ({info.codec}): upload it as WAV, FLAC or MP3.")
    if decoded_samples == 0:
        raise DamagedAudio(f"No sound could be decoded from the {info.container} file{decoder.reason(path)}.")
    if decoder.status != 0 and not (decoder.status == _TOO_MANY_ERRORS and info.container in _UNFRAMED):
        raise DamagedAudio(f"Only parts of the {info.container} file could be decoded{decoder.reason(path)}.")
    if _CODEC_CHANGES in decoder.messages:
        raise DamagedAudio(
            f"After {decoded_s:.1f} s the {info.container} file goes on in another codec: upload its parts one by one."
        )


def _block(chunk: bytes, channels: int) -> Block:
    samples = np.frombuffer(chunk[: len(chunk) // (4 * channels) * 4 * channels], np.float32)
    # No comparison with NaN holds, so this takes care of those as well.
    return np.where(np.abs(samples) <= _LOUDEST, samples, np.float32(0.0)).reshape(-1, channels).T


def _input_options() -> list[str]:
    return ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]


def _decode_command(path: Path, info: MediaInfo) -> list[str]:
    source = ffmpeg.input(f"file:{path}", protocol_whitelist="file,pipe", format_whitelist=FORMATS, threads=1)
    # Without a limit on the duration (-t), which ffmpeg reads off timestamps: where those leap ahead in the middle of a
    # recording, it would take that for the end. We count samples instead, and end it ourselves.
    output = source["a:0"].output(
        "pipe:1",
        ac=info.channels,
        af=f"aresample={SAMPLE_RATE_HZ}:resampler={RESAMPLER}",
        format="f32le",
        acodec="pcm_f32le",
    )
    command: list[str] = output.global_args("-nostdin", "-v", "error", "-filter_threads", "1").compile()
    return command
