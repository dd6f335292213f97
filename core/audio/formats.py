"""The accepted file formats and codecs, and the names of others.

The command line's help, the page at `/`, the API's description, docs/reference/formats.md and ffmpeg's whitelist derive
from these tables. layers/ffmpeg/components.txt builds the same formats and codecs, which tests/image compares.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes
    ----------
    name
        As people know it.
    extensions
        Usual extensions of the file name, for information only: the content decides.
    demuxers
        ffmpeg's names of the format.
    """

    name: str
    extensions: tuple[str, ...]
    demuxers: tuple[str, ...]


def _format(name: str, extensions: str, demuxers: str) -> Format:
    return Format(name, tuple(extensions.split()), tuple(demuxers.split()))


ACCEPTED_FORMATS = (
    _format("WAV", "wav bwf rf64", "wav"),
    _format("MP3", "mp3 mp2 mp1 mpga", "mp3"),
    _format("MP4", "m4a mp4 m4b m4v 3gp 3g2 mov", "mov"),
    _format("AAC", "aac adts", "aac"),
    _format("FLAC", "flac", "flac"),
    _format("Ogg", "ogg oga opus spx ogv", "ogg"),
    _format("WebM", "webm mkv mka", "matroska"),
    _format("AMR", "amr awb", "amr amrnb amrwb"),
    _format("Windows Media", "wma wmv asf", "asf"),
    _format("AIFF", "aiff aif aifc", "aiff"),
    _format("AU", "au snd", "au"),
    _format("CAF", "caf", "caf"),
    _format("Wave64", "w64", "w64"),
    _format("GSM", "gsm", "gsm"),
    _format("iLBC", "lbc", "ilbc"),
    _format("DSS", "dss", "dss"),
    _format("NIST SPHERE", "sph nist", "nistsphere"),
    _format("VOC", "voc", "voc"),
    _format("AC-3", "ac3 eac3 ec3", "ac3 eac3"),
    _format("AVI", "avi", "avi"),
    _format("Flash Video", "flv", "flv"),
    _format("MPEG", "mpg mpeg vob ts mts m2ts", "mpeg mpegts"),
    _format("Monkey's Audio", "ape", "ape"),
    _format("WavPack", "wv", "wv"),
    _format("True Audio", "tta", "tta"),
)
"""None of these formats can name another file for ffmpeg to open. Both Debian's ffmpeg and the image's read them."""

FORMATS = ",".join(demuxer for accepted in ACCEPTED_FORMATS for demuxer in accepted.demuxers)
"""The accepted formats as ffmpeg's option -format_whitelist takes them."""

FORMAT_NAMES = ", ".join(accepted.name for accepted in ACCEPTED_FORMATS[:-1]) + f" and {ACCEPTED_FORMATS[-1].name}"
"""The accepted formats as a part of a sentence."""

CODECS = frozenset(
    {
        "aac",
        "aac_latm",
        "ac3",
        "adpcm_g722",
        "adpcm_g726",
        "adpcm_g726le",
        "adpcm_ima_oki",
        "adpcm_ima_qt",
        "adpcm_ima_wav",
        "adpcm_ms",
        "adpcm_swf",
        "adpcm_yamaha",
        "alac",
        "amr_nb",
        "amr_wb",
        "ape",
        "dss_sp",
        "eac3",
        "flac",
        "g723_1",
        "g729",
        "gsm",
        "gsm_ms",
        "ilbc",
        "mp1",
        "mp2",
        "mp3",
        "mp3adu",
        "mp3on4",
        "nellymoser",
        "opus",
        "pcm_alaw",
        "pcm_bluray",
        "pcm_dvd",
        "pcm_f16le",
        "pcm_f24le",
        "pcm_f32be",
        "pcm_f32le",
        "pcm_f64be",
        "pcm_f64le",
        "pcm_mulaw",
        "pcm_s16be",
        "pcm_s16be_planar",
        "pcm_s16le",
        "pcm_s16le_planar",
        "pcm_s24be",
        "pcm_s24le",
        "pcm_s24le_planar",
        "pcm_s32be",
        "pcm_s32le",
        "pcm_s32le_planar",
        "pcm_s64be",
        "pcm_s64le",
        "pcm_s8",
        "pcm_s8_planar",
        "pcm_u16be",
        "pcm_u16le",
        "pcm_u24be",
        "pcm_u24le",
        "pcm_u32be",
        "pcm_u32le",
        "pcm_u8",
        "speex",
        "truespeech",
        "tta",
        "vorbis",
        "wavpack",
        "wmalossless",
        "wmapro",
        "wmav1",
        "wmav2",
        "wmavoice",
    }
)
"""ffmpeg's names of the accepted codecs, which are those that the image's ffmpeg decodes. Debian's decodes more."""

CONVERSION = "`ffmpeg -i FILE converted.wav` converts the recording."
"""Advice in messages about media that ffmpeg reads and this project does not accept."""

_OTHER_FORMATS = (
    ("RealMedia", 0, b".RMF"),
    ("RealAudio", 0, b".ra\xfd"),
    ("Musepack", 0, b"MPCK"),
    ("Musepack", 0, b"MP+"),
    ("Shorten", 0, b"ajkg"),
    ("TAK", 0, b"tBaK"),
    ("DSD (DSF)", 0, b"DSD "),
    ("DSD (DSDIFF)", 0, b"FRM8"),
    ("DSD (WSD)", 0, b"1bit"),
    ("DTS", 0, b"\x7f\xfe\x80\x01"),
    ("DTS-HD", 0, b"DTSHDHDR"),
    ("TrueHD", 4, b"\xf8\x72\x6f\xba"),
    ("MLP", 4, b"\xf8\x72\x6f\xbb"),
    ("Sony OpenMG", 0, b"ea3\x03"),
    ("Sony OpenMG", 0, b"EA3\x01"),
    ("Qualcomm PureVoice", 8, b"QLCM"),
    ("TwinVQ", 0, b"TWIN97012000"),
    ("Psion voice note", 0, b"ALawSoundFile**"),
    ("SoX", 0, b".SoX"),
    ("SoX", 0, b"XoS."),
    ("IRCAM", 0, b"\x64\xa3\x01\x00"),
    ("IRCAM", 0, b"\x64\xa3\x02\x00"),
    ("IRCAM", 0, b"\x64\xa3\x03\x00"),
    ("IRCAM", 0, b"\x64\xa3\x04\x00"),
    ("Audible", 4, b"\x57\x90\x75\x36"),
    ("MXF", 0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02"),
    ("DV", 0, b"\x1f\x07\x00"),
    ("Dahua video", 0, b"DHAV"),
    ("Windows Television", 0, b"\xb7\xd8\x00\x20\x37\x49\xda\x11\xa6\x4e\x00\x07\xe9\x5e\xad\x8d"),
    ("NUT", 0, b"nut/multimedia container"),
)
"""Name, offset and signature of formats that ffmpeg reads and this project does not accept. ffmpeg does not say which
format its whitelist refused, and the image's ffmpeg recognises only the accepted ones."""

_MAX_SIGNATURE_BYTES = max(offset + len(signature) for _, offset, signature in _OTHER_FORMATS)


def name_other_format(path: Path) -> str | None:
    """Return the name of a format that is not accepted, or None if the file is in no known one.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_MAX_SIGNATURE_BYTES)
    return next((name for name, at, signature in _OTHER_FORMATS if head.startswith(signature, at)), None)
