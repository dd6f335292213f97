"""Which formats and codecs are accepted, and how others are refused."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from core.audio.decode import decode
from core.audio.formats import ACCEPTED_FORMATS, CODECS, FORMAT_NAMES, FORMATS
from core.audio.probe import MediaInfo, probe
from core.audio.waveform import SAMPLE_RATE_HZ
from core.cli.app import app
from core.errors import FormatNotAccepted, NotAudio, RecordingError
from core.settings import MediaLimits
from handlers.api.web import _read
from tests.conftest import MakeMedia
from tests.support import hostile, recorders

LIMITS = MediaLimits()

ENCODED = {
    "mp3.flv": ("-c:a", "libmp3lame", "-ar", "22050"),
    "aac.flv": ("-c:a", "aac"),
    "speex.flv": ("-c:a", "libspeex"),
    "nellymoser.flv": ("-c:a", "nellymoser", "-ar", "8000"),
    "swf.flv": ("-c:a", "adpcm_swf", "-ar", "22050"),
    "alaw.flv": ("-c:a", "pcm_alaw", "-ar", "8000"),
    "pcm.flv": ("-c:a", "pcm_s16le", "-ar", "22050"),
    "pcm.voc": ("-c:a", "pcm_s16le"),
    "u8.voc": ("-c:a", "pcm_u8"),
    "alaw.voc": ("-c:a", "pcm_alaw", "-ar", "8000"),
    "mulaw.voc": ("-c:a", "pcm_mulaw", "-ar", "8000"),
}
"""Name and encoder options of two seconds in the formats of recorders and telephone systems."""

REFUSED = {
    "x.rm": ("RealMedia", ("-c:a", "ac3", "-ar", "48000")),
    "x.dts": ("DTS", ("-c:a", "dca", "-ar", "48000")),
    "x.thd": ("TrueHD", ("-c:a", "truehd", "-ar", "48000")),
    "x.mlp": ("MLP", ("-c:a", "mlp", "-ar", "48000")),
    "x.nut": ("NUT", ()),
    "x.sf": ("IRCAM", ()),
    "x.sox": ("SoX", ()),
    "x.wtv": ("Windows Television", ("-c:a", "mp2", "-ar", "48000")),
    "dts.mkv": ("DCA (DTS Coherent Acoustics)", ("-c:a", "dca", "-ar", "48000")),
    "truehd.mp4": ("TrueHD", ("-c:a", "truehd", "-ar", "48000")),
}
"""File name -> the name in the message, and encoder options."""

SIGNATURES = {
    "RealAudio": b".ra\xfd\0\4",
    "Musepack": b"MPCKSH",
    "Shorten": b"ajkg\2",
    "TAK": b"tBaK\1",
    "DSD (DSF)": b"DSD \x1c\0\0\0\0\0\0\0",
    "DSD (DSDIFF)": b"FRM8\0\0\0\0\0\0\1\0DSD ",
    "Sony OpenMG": b"ea3\3\0\0\0\0",
    "Qualcomm PureVoice": b"RIFF\0\1\0\0QLCMfmt ",
    "Psion voice note": b"ALawSoundFile**\0\x0f\x10",
    "Audible": b"\0\1\0\0\x57\x90\x75\x36",
    "MXF": b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02",
    "DV": b"\x1f\x07\x00\x3f",
    "Dahua video": b"DHAV\xfd\0\0\0",
}


def decoded(file: Path) -> tuple[MediaInfo, "np.ndarray[tuple[int, int], np.dtype[np.float32]]"]:
    info = probe(file, LIMITS)
    return info, np.concatenate(list(decode(file, info, LIMITS)), axis=1)


def level(waveform: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> float:
    return float(np.sqrt(np.mean(np.square(waveform))))


@pytest.mark.parametrize("name", ENCODED)
def test_a_format_of_recorders_is_decoded_completely(name: str, make_media: MakeMedia) -> None:
    info, waveform = decoded(make_media(name, "-ac", "1", *ENCODED[name], "-strict", "-2"))

    assert info.container == Path(name).suffix[1:]
    assert waveform.shape[1] == pytest.approx(2 * SAMPLE_RATE_HZ, rel=0.1)  # AAC and Nellymoser are padded
    # ffmpeg's `sine` has an amplitude of 1/8.
    assert level(waveform) == pytest.approx(0.125 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(
    ("name", "content", "codec"),
    [
        ("x.lbc", recorders.ilbc(67), "ilbc"),
        ("sp.dss", recorders.dss_standard_play(42), "dss_sp"),
        ("pcm.sph", recorders.sphere(b"\0\x20\0\xe0" * 16_000), "pcm_s16le"),
        (
            "mulaw.sph",
            recorders.sphere(b"\x20\x20\xa0\xa0" * 4_000, "mu-law", sample_bytes=1, rate_hz=8_000),
            "pcm_mulaw",
        ),
    ],
)
def test_a_format_that_ffmpeg_cannot_write_is_decoded_completely(
    name: str, content: bytes, codec: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)

    info, waveform = decoded(tmp_path / name)

    assert info.codec == codec
    assert waveform.shape[1] == pytest.approx(2 * SAMPLE_RATE_HZ, rel=0.05)
    assert level(waveform) > 0.05


def test_a_dictation_in_long_play_is_decoded_completely(make_media: MakeMedia, tmp_path: Path) -> None:
    frames = make_media("x.g723_1", "-f", "g723_1", "-c:a", "g723_1", "-b:a", "6300", sample_rate_hz=8_000)
    (tmp_path / "lp.dss").write_bytes(recorders.dss_long_play(frames.read_bytes()))

    info, waveform = decoded(tmp_path / "lp.dss")

    assert (info.container, info.codec) == ("dss", "g723_1")
    assert waveform.shape[1] == pytest.approx(2 * SAMPLE_RATE_HZ, rel=0.05)


def test_the_sound_of_a_flash_film_is_decoded(make_media: MakeMedia) -> None:
    source = "testsrc=duration=2:size=160x120:rate=25[out0];sine=440:duration=2[out1]"
    _, waveform = decoded(make_media("film.flv", "-c:v", "flv1", "-c:a", "aac", source=source))

    assert waveform.shape[1] == pytest.approx(2 * SAMPLE_RATE_HZ, rel=0.1)


@pytest.mark.parametrize("name", ["a.flv", "a.voc"])
def test_half_a_file_gives_half_of_its_audio(name: str, make_media: MakeMedia) -> None:
    path = make_media(
        name, "-c:a", "pcm_alaw", source="anoisesrc=duration=8:amplitude=0.3:seed=1", sample_rate_hz=8_000
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    _, waveform = decoded(path)

    assert waveform.shape[1] / SAMPLE_RATE_HZ == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize("name", REFUSED)
def test_another_format_or_codec_is_refused_by_its_name(name: str, make_media: MakeMedia) -> None:
    expected, options = REFUSED[name]

    with pytest.raises(FormatNotAccepted) as refusal:
        probe(make_media(name, *options, "-strict", "-2"), LIMITS)

    assert expected in str(refusal.value)
    assert re.search(r"not accepted\. `ffmpeg -i FILE converted\.wav`.*\.$", str(refusal.value))
    assert refusal.value.code == "not_accepted"


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_format_that_ffmpeg_cannot_write_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(SIGNATURES[name] + bytes(1000))

    with pytest.raises(FormatNotAccepted, match=re.escape(f"{name} files are not accepted.")):
        probe(tmp_path / "x.wav", LIMITS)


def test_a_codec_that_only_another_machine_s_ffmpeg_decodes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sph").write_bytes(recorders.sphere(bytes(1000), "pcm,embedded-shorten-v2.00"))

    with pytest.raises(FormatNotAccepted, match="The codec Shorten is not accepted"):
        probe(tmp_path / "x.sph", LIMITS)


@pytest.mark.parametrize(("name", "encoder"), [("x.alaw", "pcm_alaw"), ("x.g722", "g722"), ("x.sln", "pcm_s16le")])
def test_raw_audio_is_not_recognised_and_the_message_says_how_to_convert_it(
    name: str, encoder: str, make_media: MakeMedia
) -> None:
    muxer = {"alaw": "alaw", "g722": "g722", "sln": "s16le"}[Path(name).suffix[1:]]
    raw = make_media(name, "-c:a", encoder, "-f", muxer, sample_rate_hz=8_000 if encoder != "g722" else 16_000)

    with pytest.raises(NotAudio, match=r"Raw audio without a header.* must be converted to WAV first"):
        probe(raw, LIMITS)


@pytest.mark.parametrize(
    "content",
    [b"Dear diary, today", b"%PDF-1.7\n", b"PK\x03\x04" + bytes(500), b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk", bytes(4)],
    ids=["text", "pdf", "zip", "midi", "zeros"],
)
def test_a_file_without_media_is_not_audio(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(content)

    with pytest.raises(NotAudio) as refusal:
        probe(tmp_path / "x.wav", LIMITS)

    assert "ffmpeg:" not in str(refusal.value)
    assert "Invalid" not in str(refusal.value)


@pytest.mark.parametrize(
    "name", [name for name, (_, code) in hostile.HEADERS.items() if code in ("damaged", "not_audio")]
)
def test_a_refusal_contains_no_words_of_ffmpeg(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(hostile.HEADERS[name][0])

    with pytest.raises(RecordingError) as refusal:
        decoded(tmp_path / name)

    assert not re.search("ffmpeg:|Error|Invalid|stream #", str(refusal.value))


def test_this_machine_s_ffmpeg_reads_every_accepted_format_and_codec() -> None:
    demuxers = listed("-demuxers")
    codecs = {line.split()[1] for line in listed("-codecs") if re.match(r" D.A", line)}

    names = {name for line in demuxers if re.match(r" D", line) for name in line.split()[1].split(",")}
    assert set(FORMATS.split(",")) <= names
    assert codecs >= CODECS


def listed(option: str) -> list[str]:
    command = ["ffmpeg", "-hide_banner", option]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_each_format_and_extension_is_listed_once() -> None:
    demuxers = FORMATS.split(",")
    extensions = [extension for accepted in ACCEPTED_FORMATS for extension in accepted.extensions]

    assert len(demuxers) == len(set(demuxers))
    assert len(extensions) == len(set(extensions))


def test_the_page_and_the_help_name_every_format() -> None:
    page = _read("page.html").content.decode()
    shown = CliRunner().invoke(app, ["classify", "--help"], env={"COLUMNS": "500"}).stdout

    assert f">{FORMAT_NAMES.replace(chr(39), '&#x27;')}.<" in page
    assert all(f".{one}" in page for accepted in ACCEPTED_FORMATS for one in accepted.extensions)
    assert "{" not in page
    assert FORMAT_NAMES in shown
