"""`audio-emotion convert`."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.cli.convert import convert_file, convert_files
from core.errors import RecordingError
from core.settings import MediaLimits
from tests.conftest import MakeMedia

LIMITS = MediaLimits()


def test_any_file_becomes_16_khz_mono_16_bit(make_media: MakeMedia, tmp_path: Path) -> None:
    source = make_media("call.m4a", "-ac", "2", sample_rate_hz=44_100)

    written = convert_file(source, tmp_path, LIMITS)

    info = soundfile.info(written)
    assert written == tmp_path / "call.wav"
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 16_000, 1)
    assert info.duration == pytest.approx(2.0, abs=0.15)


def test_two_channels_are_mixed_to_their_mean(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.tile([0.5, -0.25], (16_000, 1)), 16_000, "FLOAT")
    (tmp_path / "out").mkdir()

    written = convert_file(tmp_path / "stereo.wav", tmp_path / "out", LIMITS)

    assert soundfile.read(written)[0] == pytest.approx(0.125, abs=1e-3)


def test_a_source_in_the_same_folder_is_never_overwritten(tone: Path, tmp_path: Path) -> None:
    before = tone.read_bytes()

    assert convert_files([tone], tmp_path) == 0

    assert tone.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tone-2.wav", "tone.wav"]


def test_two_sources_never_share_a_name(make_media: MakeMedia, tmp_path: Path) -> None:
    sources = [make_media("a.mp3"), make_media("a.flac", source="sine=900:duration=1"), make_media("a.ogg")]

    assert convert_files(sources, tmp_path / "out") == 0

    written = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in written] == ["a-2.wav", "a-3.wav", "a.wav"]
    assert soundfile.info(tmp_path / "out" / "a-2.wav").duration == pytest.approx(1.0, abs=0.01)
    assert all(source.exists() for source in sources)


def test_an_existing_file_is_kept(tone: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tone.wav").write_bytes(b"precious")

    convert_files([tone, tone], tmp_path / "out")

    assert (tmp_path / "out" / "tone.wav").read_bytes() == b"precious"
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_link_with_the_same_name_is_not_followed(tone: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tone.wav").symlink_to(tone)
    before = tone.read_bytes()

    convert_files([tone], tmp_path / "out")

    assert tone.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"text", b"RIFF\x00\x00\x00\x00WAVE"])
def test_a_file_that_cannot_be_decoded_leaves_nothing_behind(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.mp3").write_bytes(content)

    with pytest.raises(RecordingError):
        convert_file(tmp_path / "bad.mp3", tmp_path, LIMITS)

    assert [file.name for file in tmp_path.iterdir()] == ["bad.mp3"]


def test_a_recording_that_is_too_long_leaves_nothing_behind(tone: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError):
        convert_file(tone, tmp_path, MediaLimits(max_duration_s=0.5))

    assert [file.name for file in tmp_path.iterdir()] == ["tone.wav"]


def test_one_bad_file_does_not_stop_the_others(tone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.wav").write_bytes(b"text")

    status = convert_files([tmp_path / "bad.wav", tmp_path / "missing.wav", tone], tmp_path / "out")

    shown = capsys.readouterr()
    assert status == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["tone.wav"]
    assert "bad.wav: " in shown.err
    assert "missing.wav: There is no such file." in shown.err.replace("\n", " ")
    assert "tone.wav" in shown.out


def test_loud_sound_is_clipped_rather_than_wrapped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.full(16_000, 3.0), 16_000, "FLOAT")
    (tmp_path / "out").mkdir()

    written = convert_file(tmp_path / "loud.wav", tmp_path / "out", LIMITS)

    assert soundfile.read(written)[0].min() > 0.99


def test_a_file_in_place_of_the_folder_is_an_os_error(tone: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text(json.dumps({}))

    with pytest.raises(OSError, match="exists"):
        convert_files([tone], tmp_path / "out")
