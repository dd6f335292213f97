"""Reads a media file's headers with ffprobe, and refuses files that cannot be a recording of speech.

Playlists and concat scripts can read other local files, even when protocols are restricted. A format whitelist refuses
them. Formats and codecs outside `core.audio.formats` are refused even if the machine's ffmpeg reads them, so that every
machine accepts the same recordings.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.audio.ffmpeg import Decoder, run_sandboxed
from core.audio.formats import CODECS, CONVERSION, FORMATS, name_other_format
from core.deadline import Deadline
from core.errors import (
    DamagedAudio,
    DeadlineExceeded,
    DecoderUnavailable,
    FormatNotAccepted,
    NoAudioStream,
    NotAudio,
    RecordingEncrypted,
    TooManyChannels,
)
from core.settings import MediaLimits

_MAX_PACKETS_PROBED = 32
"""Enough to include the first audio packet of a film, which shows whether the audio is encrypted."""
_MAX_DESCRIPTION_BYTES = 4_000_000
"""Maximum size of ffprobe's JSON, enough for 1,000 streams. A film has ten."""
_NO_CONTENTS = b"moov atom not found"
_CUT_OFF = "The file's index is missing or cut off: upload the whole file again."
_NOT_AUDIO = (
    "No audio or video format was recognised in the file. Raw audio without a header, such as A-law or G.722, must be "
    "converted to WAV first."
)
_PROBE_TIMEOUT_S = 30.0
MIN_SAMPLE_RATE_HZ = 1_000
"""Speech needs a higher rate. A file of 14 kB that claims 1 Hz would decode to four hours."""
MAX_SAMPLE_RATE_HZ = 1_000_000
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
    EmptyRecording, RecordingTooLarge, NotAudio, FormatNotAccepted, NoAudioStream, DamagedAudio, RecordingEncrypted,
    TooManyChannels
        If the file is refused.
    DeadlineExceeded
        If the deadline or ffprobe's own timeout of 30 s passed.
    DecoderUnavailable
        If ffprobe could not be started or was killed by another process, or the file was removed.
    OSError
        If the file cannot be read.
    """
    try:
        limits.check_size(path.stat().st_size)
        other_format = name_other_format(path)
    except FileNotFoundError as error:
        raise DecoderUnavailable("The recording is missing from the temporary folder.") from error
    if other_format:
        raise FormatNotAccepted(f"{other_format} files are not accepted. {CONVERSION}")
    path = path.absolute()
    limit = deadline.sooner(_PROBE_TIMEOUT_S)
    with run_sandboxed(_probe_command(path), limits, limit) as decoder:
        document = decoder.read(_MAX_DESCRIPTION_BYTES)
    if decoder.timed_out:
        raise DeadlineExceeded("Reading the file's headers took too long.")
    check_environment(decoder, path)
    if _NO_CONTENTS in decoder.messages:
        raise DamagedAudio(_CUT_OFF)
    if decoder.status < 0:
        raise DamagedAudio("The file is damaged: ffprobe crashed on it.")
    if decoder.status != 0:
        raise NotAudio(_NOT_AUDIO)
    if len(document) == _MAX_DESCRIPTION_BYTES:
        raise DamagedAudio("The file's headers describe more streams than a recording can have.")
    return _media_info(json.loads(document), limits)


def check_environment(decoder: Decoder, path: Path) -> None:
    """Raise `DecoderUnavailable` if another process ended the decoder or removed the recording."""
    if decoder.was_killed_externally:
        raise DecoderUnavailable("ffmpeg was killed by another process, perhaps for lack of memory.")
    if not path.exists():
        raise DecoderUnavailable("The recording was removed from the temporary folder while it was decoded.")


def _probe_command(path: Path) -> list[str]:
    entries = (
        "format=format_name,duration:stream=index,codec_type,codec_name,codec_long_name,sample_rate,channels,duration"
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
    codec = _accepted_codec(stream)
    channels = int(stream.get("channels", 0))
    sample_rate_hz = int(stream.get("sample_rate", 0))
    if channels > limits.max_channels:
        raise TooManyChannels(f"The recording has {channels} channels; the limit is {limits.max_channels}.")
    if channels < 1 or not MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise DamagedAudio(f"The file claims {channels} channels at {sample_rate_hz} Hz, which is not plausible.")
    claimed = described.get("format", {}).get("duration") or stream.get("duration")
    return MediaInfo(
        container=str(described["format"]["format_name"]).split(",")[0],
        codec=codec,
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        duration_s=float(claimed) if claimed else None,
    )


def _accepted_codec(stream: dict[str, Any]) -> str:
    """Return the name of a stream's codec; raise an error if the codec is unknown or not accepted."""
    codec = str(stream.get("codec_name", "unknown"))
    if codec == "unknown":
        raise NotAudio("The codec of the audio was not recognised.")
    if codec not in CODECS:
        raise FormatNotAccepted(f"The codec {stream.get('codec_long_name', codec)} is not accepted. {CONVERSION}")
    return codec


def _is_encrypted(stream: dict[str, Any], packets: list[dict[str, Any]]) -> bool:
    """Detect encrypted audio in MP4 (common encryption) and Matroska, which ffmpeg would decode to noise."""
    kinds = {
        side_data.get("side_data_type")
        for packet in packets
        if packet.get("stream_index") == stream.get("index")
        for side_data in packet.get("side_data_list", [])
    }
    return "Encryption info" in kinds or "enc_key_id" in stream.get("tags", {})


def _input_options() -> list[str]:
    return ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]
