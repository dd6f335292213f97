"""The image's ffmpeg decodes recordings like this machine's full ffmpeg."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.audio.formats import CODECS, FORMATS
from core.audio.waveform import SAMPLE_RATE_HZ
from tests.support import amr, hostile, recorders
from tools.container import run_program
from tools.emulator import ROOT

# Name and encoder options of one file for each format in use. This machine's ffmpeg encodes them.
KINDS = {
    "s16.wav": ("-c:a", "pcm_s16le"),
    "u8.wav": ("-c:a", "pcm_u8"),
    "s24.wav": ("-c:a", "pcm_s24le"),
    "f32.wav": ("-c:a", "pcm_f32le"),
    "f64.wav": ("-c:a", "pcm_f64le"),
    "mulaw.wav": ("-c:a", "pcm_mulaw", "-ar", "8000"),
    "alaw.wav": ("-c:a", "pcm_alaw", "-ar", "8000"),
    "adpcm-ms.wav": ("-c:a", "adpcm_ms"),
    "adpcm-ima.wav": ("-c:a", "adpcm_ima_wav"),
    "adpcm-yamaha.wav": ("-c:a", "adpcm_yamaha"),
    "g722.wav": ("-c:a", "g722", "-ar", "16000"),
    "g726.wav": ("-c:a", "g726", "-ar", "8000"),
    "g723.wav": ("-c:a", "g723_1", "-ar", "8000", "-b:a", "6300"),
    "gsm.wav": ("-c:a", "libgsm_ms", "-ar", "8000"),
    "rf64.wav": ("-rf64", "always"),
    "mp3.wav": ("-c:a", "libmp3lame"),
    "x.w64": (),
    "x.gsm": ("-c:a", "libgsm", "-ar", "8000"),
    "x.mp3": ("-c:a", "libmp3lame"),
    "8k.mp3": ("-c:a", "libmp3lame", "-ar", "8000"),
    "x.mp2": ("-c:a", "mp2"),
    "x.flac": (),
    "flac.ogg": ("-c:a", "flac"),
    "vorbis.ogg": ("-c:a", "libvorbis"),
    "opus.ogg": ("-c:a", "libopus", "-ar", "48000"),
    "speex.ogg": ("-c:a", "libspeex"),
    "aac.m4a": ("-c:a", "aac"),
    "alac.m4a": ("-c:a", "alac"),
    "aac.3gp": ("-c:a", "aac"),
    "pcm.mov": ("-c:a", "pcm_s16be"),
    "ima.mov": ("-c:a", "adpcm_ima_qt"),
    "mp3.mp4": ("-c:a", "libmp3lame"),
    "ac3.mp4": ("-c:a", "ac3"),
    "opus.webm": ("-c:a", "libopus", "-ar", "48000"),
    "vorbis.webm": ("-c:a", "libvorbis"),
    "flac.mka": ("-c:a", "flac"),
    "aac.mkv": ("-c:a", "aac"),
    "x.aac": ("-c:a", "aac"),
    "x.aiff": (),
    "x.au": (),
    "mulaw.au": ("-c:a", "pcm_mulaw", "-ar", "8000"),
    "alac.caf": ("-c:a", "alac"),
    "pcm.caf": (),
    "v1.wma": ("-c:a", "wmav1"),
    "v2.wma": ("-c:a", "wmav2"),
    "x.ac3": (),
    "x.eac3": (),
    "pcm.avi": ("-c:a", "pcm_s16le"),
    "mp3.avi": ("-c:a", "libmp3lame"),
    "aac.ts": ("-c:a", "aac"),
    "mp2.ts": ("-c:a", "mp2"),
    "mp2.mpg": ("-c:a", "mp2"),
    "x.wv": ("-c:a", "wavpack"),
    "x.tta": (),
    "mp3.flv": ("-c:a", "libmp3lame"),
    "aac.flv": ("-c:a", "aac"),
    "speex.flv": ("-c:a", "libspeex", "-ar", "16000"),
    "nellymoser.flv": ("-c:a", "nellymoser"),
    "swf.flv": ("-c:a", "adpcm_swf"),
    "alaw.flv": ("-c:a", "pcm_alaw", "-ar", "8000"),
    "pcm.voc": ("-c:a", "pcm_s16le"),
    "mulaw.voc": ("-c:a", "pcm_mulaw", "-ar", "8000"),
}
WITH_PICTURES = {
    "film.mp4": ("-c:v", "mpeg4", "-c:a", "aac"),
    "film.mkv": ("-c:v", "mpeg4", "-c:a", "libvorbis"),
    "film.avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "film.ts": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "film.mpg": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "film.flv": ("-c:v", "flv1", "-c:a", "libmp3lame"),
    "silent.mp4": ("-c:v", "mpeg4", "-an"),
}

WRITTEN = {
    "x.lbc": recorders.ilbc(67),
    "sp.dss": recorders.dss_standard_play(42),
    "pcm.sph": recorders.sphere(hostile.LOUD),
    "alaw.sph": recorders.sphere(b"\x20\x20\xa0\xa0" * 4_000, "alaw", sample_bytes=1, rate_hz=8_000),
}
"""Two seconds in formats that ffmpeg cannot write."""

_DTX = {band: [*amr.speech(band), *amr.pause(band, 3.0), *amr.speech(band)] for band in amr.MAGIC}
PAUSES = {
    "dtx.amr": amr.MAGIC["amr"] + b"".join(_DTX["amr"]),
    "dtx.awb": amr.MAGIC["awb"] + b"".join(_DTX["awb"]),
    "dtx-amr.3gp": amr.three_gp(_DTX["amr"], "amr", 10),
    "dtx-awb.3gp": amr.three_gp(_DTX["awb"], "awb", 10),
}
"""Two sentences of 2.04 s with a pause of 3 s between them, for which telephones send no speech."""

REFUSED = {
    "x.rm": ("-c:a", "ac3", "-ar", "48000"),
    "x.dts": ("-c:a", "dca", "-ar", "48000"),
    "x.nut": (),
    "x.sox": (),
    "dts.mkv": ("-c:a", "dca", "-ar", "48000"),
}
"""Files in formats and with codecs that only a full ffmpeg reads."""

DECODE_ALL = """
import json, pathlib, sys
import numpy as np
from core.audio.decode import decode
from core.audio.probe import probe
from core.errors import RecordingError
from core.settings import MediaLimits, read
folder, limits, outcomes = pathlib.Path(sys.argv[1]), read(MediaLimits), {}
for file in sorted(p for p in folder.rglob("*") if p.is_file()):
    try:
        info = probe(file, limits)
        sound = np.concatenate(list(decode(file, info, limits)), axis=1)
        levels = np.sqrt(np.mean(sound.astype(float) ** 2, axis=1)).tolist()
        outcome = {"kind": [info.container, info.codec, info.sample_rate_hz, info.track_channels],
                   "samples": sound.shape[1], "loudness": max(levels), "levels": levels}
    except RecordingError as error:
        outcome = {"kind": error.code, "samples": 0, "loudness": 0.0, "levels": []}
    outcomes[str(file.relative_to(folder))] = outcome
print(json.dumps(outcomes))
"""
"""A program that decodes every file of a folder as the pipeline does, and prints the outcomes."""


def decoded_in_the_image(image: str, folder: Path) -> dict[str, Any]:
    sandbox = [
        "--read-only",
        "--network=none",
        "--cap-drop=ALL",
        "--tmpfs=/tmp",
        f"--volume={folder.resolve()}:/media:ro",
    ]
    output = run_program(image, "/usr/bin/python3", "-c", DECODE_ALL, "/media", options=sandbox)
    outcomes: dict[str, Any] = json.loads(output)
    return outcomes


def decoded_here(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", DECODE_ALL, str(folder)]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    outcomes: dict[str, Any] = json.loads(output)
    return outcomes


def differences(in_image: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """Return the files whose kind, duration or loudness differs by more than rounding explains."""
    assert in_image.keys() == here.keys()
    return {
        name: {"in the image": in_image[name], "here": here[name]}
        for name in here
        if in_image[name]["kind"] != here[name]["kind"]
        or abs(in_image[name]["samples"] - here[name]["samples"]) > 0.1 * SAMPLE_RATE_HZ
        or in_image[name]["levels"] != pytest.approx(here[name]["levels"], rel=0.01, abs=1e-4)
    }


def encode(folder: Path, name: str, *options: str) -> Path:
    """Encode two seconds of two tones, with a picture if the file is a film."""
    tones = ["-f", "lavfi", "-i", "aevalsrc=0.3*sin(880*t)*sin(3*t)|0.2*sin(1500*t):duration=2:sample_rate=44100"]
    picture = ["-f", "lavfi", "-i", "testsrc=duration=2:size=160x120:rate=25"] if name in WITH_PICTURES else []
    # Telephone codecs have one channel.
    mono = ["-ac", "1"] if name not in WITH_PICTURES else []
    file = folder / name
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *tones, *picture, *mono, *options, "-strict", "-2", str(file)]
    subprocess.run(command, check=True, timeout=60)
    return file


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    # The containers run without capabilities, so the files must be readable by others.
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    for name, options in {**KINDS, **WITH_PICTURES, **REFUSED}.items():
        encode(folder, name, *options)
    for name, content in {**WRITTEN, **PAUSES}.items():
        (folder / name).write_bytes(content)
    skip_three_seconds(encode(folder, "gapless.webm", *KINDS["opus.webm"]), folder / "gap.webm")
    return folder


def skip_three_seconds(file: Path, changed: Path) -> None:
    """Copy a file with later time stamps from its second on, as if packets were missing."""
    options = ["-c", "copy", "-bsf:a", "setts=ts='TS+gte(TS*TB,1)*3/TB'"]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", file, *options, changed], check=True, timeout=60)


@pytest.fixture(scope="module")
def both(image: str, encoded: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return decoded_in_the_image(image, encoded), decoded_here(encoded)


@pytest.mark.parametrize("name", [*KINDS, *WRITTEN])
def test_every_kind_of_recording_is_decoded_completely(both: tuple[dict[str, Any], dict[str, Any]], name: str) -> None:
    in_image, _ = both
    assert in_image[name]["samples"] == pytest.approx(2 * SAMPLE_RATE_HZ, rel=0.1)
    assert in_image[name]["loudness"] > 0.05


@pytest.mark.parametrize(("name", "duration_s"), [*((name, 7.08) for name in PAUSES), ("gap.webm", 5.0)])
def test_pauses_and_gaps_keep_their_duration(
    both: tuple[dict[str, Any], dict[str, Any]], name: str, duration_s: float
) -> None:
    for outcomes in both:
        assert outcomes[name]["samples"] == pytest.approx(duration_s * SAMPLE_RATE_HZ, abs=0.02 * SAMPLE_RATE_HZ)


def test_the_image_and_this_machine_decode_the_same(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert differences(*both) == {}


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_a_full_ffmpeg_reads_is_not_accepted(both: tuple[dict[str, Any], dict[str, Any]], name: str) -> None:
    in_image, here = both
    assert (in_image[name]["kind"], here[name]["kind"]) == ("not_accepted", "not_accepted")


def test_the_audio_of_a_film_is_decoded_and_a_silent_film_is_refused(
    both: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    in_image, _ = both
    assert in_image["silent.mp4"]["kind"] == "no_audio_stream"
    for name in WITH_PICTURES.keys() - {"silent.mp4"}:
        assert in_image[name]["loudness"] > 0.05


@pytest.mark.parametrize("folder", ["formats", "cases"])
def test_odd_and_broken_files_are_decoded_the_same(image: str, corpora: Path, folder: str) -> None:
    recordings = corpora / "data" / folder
    assert differences(decoded_in_the_image(image, recordings), decoded_here(recordings)) == {}


CHANNELS = {
    **{f"{channels}.wav": (channels, ()) for channels in range(1, 17)},
    "4.flac": (4, ()),
    "5.ogg": (5, ("-c:a", "libvorbis")),
    "6.webm": (6, ("-c:a", "libopus", "-ar", "48000")),
    "7.opus": (7, ("-c:a", "libopus", "-ar", "48000", "-mapping_family", "255")),
    "9.opus": (9, ("-af", "channelmap=0|1|2|3|4|5|6|7|8:ambisonic 2", "-c:a", "libopus", "-mapping_family", "2")),
    "5.m4a": (5, ("-c:a", "aac", "-b:a", "640k")),
    "6.m4a": (6, ("-c:a", "alac")),
    "4.ac3": (4, ("-b:a", "640k")),
    "8.mkv": (8, ("-c:a", "pcm_s16le")),
    "tracks.mka": (3, ("-map", "0", "-map", "0", "-c:a", "flac")),
}
"""Name, number of channels and encoder options of recordings with a different level on each channel."""

STORED_ORDER = {"5.ogg": [0, 2, 1, 3, 4], "6.webm": [0, 2, 1, 4, 5, 3], "6.m4a": [2, 0, 1, 4, 5, 3]}
"""Codecs whose encoders do not store the channels in the order of a WAV file."""


def test_every_channel_is_decoded_as_it_is_stored(image: str, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    for name, (channels, options) in CHANNELS.items():
        waves = "|".join(f"{0.03 * (channel + 1)}*sin(500*t)" for channel in range(channels))
        source = ["-f", "lavfi", "-i", f"aevalsrc={waves}:duration=2:sample_rate=48000"]
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *source, *options, str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=60)

    in_image = decoded_in_the_image(image, tmp_path)

    assert differences(in_image, decoded_here(tmp_path)) == {}
    for name, (channels, _) in CHANNELS.items():
        order = [*STORED_ORDER.get(name, range(channels))] * (2 if name == "tracks.mka" else 1)
        expected = [0.03 * (channel + 1) / 2**0.5 for channel in order]
        assert in_image[name]["levels"] == pytest.approx(expected, rel=0.1), name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.wav", "ffconcat version 1.0\nfile secret.wav\n"),
        ("list.m4a", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.wav\n#EXT-X-ENDLIST\n"),
        ("list.mp3", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"),
    ],
)
def test_a_file_that_refers_to_another_is_not_decoded(image: str, tmp_path: Path, name: str, text: str) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    encode(tmp_path, "secret.wav")
    (tmp_path / name).write_text(text)
    # The extension makes ffmpeg read list.m4a as mp4, and it finds no content.
    expected = "damaged" if name.endswith(".m4a") else "not_audio"
    assert decoded_in_the_image(image, tmp_path)[name]["kind"] == expected


def test_hostile_files_have_the_expected_outcomes(image: str, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    (tmp_path / "canary.wav").write_bytes(hostile.wav(hostile.LOUD))
    scripts = {f"{kind}.wav": hostile.script(kind, "canary.wav") for kind in hostile.script_kinds()}
    headers = {name: body for name, (body, _) in hostile.HEADERS.items()}
    for name, body in {**scripts, **headers}.items():
        (tmp_path / name).write_bytes(body)

    outcomes = {
        name: f"{outcome['samples'] / SAMPLE_RATE_HZ:.1f} s" if outcome["samples"] else outcome["kind"]
        for name, outcome in decoded_in_the_image(image, tmp_path).items()
    }
    assert {outcomes[name] for name in scripts} == {"not_audio"}
    expected = {name: code for name, (_, code) in hostile.HEADERS.items()}
    assert {name: outcomes[name] for name in headers} == expected


def test_the_list_of_components_and_the_code_accept_the_same_containers() -> None:
    listed = (ROOT / "layers" / "ffmpeg" / "components.txt").read_text(encoding="utf-8").splitlines()
    demuxers = {name for line in listed if line.startswith("demuxer") for name in line.split()[1:]}
    # `mpegps` is another name of `mpeg`. Some demuxers are included to recognise pictures only.
    accepted = {"mpeg" if name == "mpegps" else name for name in demuxers - {"h264", "hevc", "m4v", "mpegvideo"}}
    assert accepted == set(FORMATS.split(","))


def test_the_image_s_ffmpeg_decodes_exactly_the_accepted_codecs(image: str) -> None:
    listed = run_program(image, "ffmpeg", "-hide_banner", "-codecs", options=("--network=none",))
    assert {line.split()[1] for line in listed.splitlines() if re.match(r" D.A", line)} == CODECS
