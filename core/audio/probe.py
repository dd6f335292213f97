"""Reads a media file's headers with ffprobe, and refuses files that cannot be a recording of speech.

Playlists and concat scripts can read other local files, even when protocols are restricted. A format whitelist refuses
them. Formats and codecs outside `core.audio.formats` are refused even if the machine's ffmpeg reads them, so that every
machine accepts the same recordings.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
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
    RecordingError,
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
_WITHOUT_HEADERS = ("mpegts", "mpeg")
"""Containers whose audio ffmpeg learns from its first packets, which may follow seconds of video."""
READ_ON = {"fflags": "nobuffer", "probesize": str(2**40), "analyzeduration": str(2**60)}
"""Input options for these recordings: read as far as the first audio, and keep no packets in memory. By default, ffmpeg
stops after 5 s or 5 MB."""
MIN_SAMPLE_RATE_HZ = 1_000
"""Speech needs a higher rate. A file of 14 kB that claims 1 Hz would decode to four hours."""
MAX_SAMPLE_RATE_HZ = 1_000_000
"""Above the rate of any recorder. The resampling filter's memory grows with the rate."""


@dataclass(frozen=True)
class AudioTrack:
    """One audio track of a file, as the headers describe it.

    Attributes
    ----------
    codec
        ffmpeg's name.
    sample_rate_hz
        Of the encoded audio.
    channels
        0 if this ffmpeg cannot decode the track.
    has_layout
        Whether the channels are assigned to loudspeakers.
    """

    codec: str
    sample_rate_hz: int
    channels: int
    has_layout: bool = False


@dataclass(frozen=True)
class MediaInfo:
    """The properties of a file's audio, as its headers claim them.

    Attributes
    ----------
    container
        ffmpeg's name; the first one if ffmpeg has several for the container.
    duration_s
        None if the headers claim no duration.
    tracks
        All audio tracks in the order of the file, at least one with channels.
    start_s
        The time stamp of the file's start, which a player shows as 0.
    starts_late
        Whether ffmpeg finds the audio only if it reads beyond its default limits.
    """

    container: str
    duration_s: float | None
    tracks: tuple[AudioTrack, ...]
    start_s: float = 0.0
    starts_late: bool = False

    @property
    def codec(self) -> str:
        """The codec of the first track that can be decoded."""
        return self._main_track.codec

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate of the first track that can be decoded."""
        return self._main_track.sample_rate_hz

    @property
    def channels(self) -> int:
        """The number of channels of all tracks."""
        return sum(self.track_channels)

    @property
    def track_channels(self) -> tuple[int, ...]:
        """The number of channels of each track. The channels are numbered track by track."""
        return tuple(track.channels for track in self.tracks)

    @property
    def has_several_tracks(self) -> bool:
        """Whether results name tracks beside channels."""
        return len(self.tracks) > 1

    @property
    def samples_per_s(self) -> int:
        """The number of encoded samples of all channels in a second."""
        return sum(track.sample_rate_hz * track.channels for track in self.tracks)

    def track_of(self, channel: int) -> int:
        """Return the number of a channel's track."""
        ends = accumulate(self.track_channels)
        return next(track for track, end in enumerate(ends) if channel < end)

    @property
    def _main_track(self) -> AudioTrack:
        return next(track for track in self.tracks if track.channels)


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
    described = _describe(path, _probe_command(path), limits, limit)
    if not _may_start_late(described):
        return _media_info(described, limits)
    try:
        described = _describe(path, _probe_command(path, READ_ON), limits, limit)
    except DeadlineExceeded:
        if not any(map(_is_usable, _audio_streams(described))):
            raise
    return _media_info(described, limits, starts_late=True)


def _describe(path: Path, command: list[str], limits: MediaLimits, deadline: Deadline) -> dict[str, Any]:
    with run_sandboxed(command, limits, deadline) as decoder:
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
    described: dict[str, Any] = json.loads(document)
    return described


def check_environment(decoder: Decoder, path: Path) -> None:
    """Raise `DecoderUnavailable` if another process ended the decoder or removed the recording."""
    if decoder.was_killed_externally:
        raise DecoderUnavailable("ffmpeg was killed by another process, perhaps for lack of memory.")
    if not path.exists():
        raise DecoderUnavailable("The recording was removed from the temporary folder while it was decoded.")


def _probe_command(path: Path, input_options: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    entries = (
        "format=format_name,duration,start_time"
        ":stream=index,codec_type,codec_name,codec_long_name,sample_rate,channels,channel_layout,duration"
        ":stream_tags=enc_key_id:packet=stream_index:packet_side_data=side_data_type"
    )
    extra = [part for name, value in input_options.items() for part in (f"-{name}", value)]
    interval = ["-read_intervals", f"%+#{_MAX_PACKETS_PROBED}"]
    options = ["-v", "error", *_input_options(), *extra, *interval, "-show_entries", entries, "-print_format", "json"]
    return ["ffprobe", *options, "-i", f"file:{path}"]


def _media_info(described: dict[str, Any], limits: MediaLimits, *, starts_late: bool = False) -> MediaInfo:
    if not described.get("streams"):
        raise DamagedAudio(_CUT_OFF)
    streams = _audio_streams(described)
    if not streams:
        raise NoAudioStream("The file has no audio stream.")
    usable = [stream for stream in streams if _is_usable(stream)]
    if any(_is_encrypted(stream, described.get("packets", [])) for stream in usable or streams[:1]):
        raise RecordingEncrypted("The audio is encrypted (DRM): upload a copy without protection.")
    if not usable:
        raise _refusal(streams[0])
    claimed = described.get("format", {}).get("duration") or usable[0].get("duration")
    info = MediaInfo(
        container=str(described["format"]["format_name"]).split(",")[0],
        duration_s=float(claimed) if claimed else None,
        tracks=tuple(_track(stream, is_usable=stream in usable) for stream in streams),
        start_s=float(described["format"].get("start_time", 0.0)),
        starts_late=starts_late,
    )
    if info.channels > limits.max_channels:
        on_tracks = f" on {len(usable)} audio tracks" if len(usable) > 1 else ""
        raise TooManyChannels(
            f"The recording has {info.channels} channels{on_tracks}; the limit is {limits.max_channels}."
        )
    return info


def _audio_streams(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [stream for stream in described.get("streams", []) if stream.get("codec_type") == "audio"]


def _may_start_late(described: dict[str, Any]) -> bool:
    """Detect MPEG streams whose audio was not found; their headers do not describe it."""
    streams = _audio_streams(described)
    found = bool(streams) and all(_channels(stream) for stream in streams)
    return not found and described["format"]["format_name"] in _WITHOUT_HEADERS


def _track(stream: dict[str, Any], *, is_usable: bool) -> AudioTrack:
    layout = stream.get("channel_layout", "unknown")
    return AudioTrack(
        codec=str(stream.get("codec_name", "unknown")),
        sample_rate_hz=_rate_hz(stream),
        channels=_channels(stream) if is_usable else 0,
        has_layout=layout != "unknown" and not layout.startswith("ambisonic"),
    )


def _is_usable(stream: dict[str, Any]) -> bool:
    return _is_plausible(stream) and stream.get("codec_name") in CODECS


def _is_plausible(stream: dict[str, Any]) -> bool:
    return _channels(stream) > 0 and MIN_SAMPLE_RATE_HZ <= _rate_hz(stream) <= MAX_SAMPLE_RATE_HZ


def _channels(stream: dict[str, Any]) -> int:
    return int(stream.get("channels", 0))


def _rate_hz(stream: dict[str, Any]) -> int:
    return int(stream.get("sample_rate", 0))


def _refusal(stream: dict[str, Any]) -> RecordingError:
    """Return the reason why a stream is not usable."""
    codec = stream.get("codec_name", "unknown")
    if codec == "unknown":
        return NotAudio("The codec of the audio was not recognised.")
    if codec not in CODECS:
        return FormatNotAccepted(f"The codec {stream.get('codec_long_name', codec)} is not accepted. {CONVERSION}")
    return DamagedAudio(
        f"The file claims {_channels(stream)} channels at {_rate_hz(stream)} Hz, which is not plausible."
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


def _input_options() -> list[str]:
    return ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]
