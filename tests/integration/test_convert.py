"""`audio-emotion convert`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.conversion import ConvertedFiles, convert
from core.audio.waveform import Waveform
from core.cli.convert import convert_files
from core.errors import RecordingError
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT, MakeMedia

LIMITS = MediaLimits()
SPEECH = ROOT / "samples" / "anger.wav"


@pytest.fixture(scope="module")
def pipeline(classifier: EmotionClassifier) -> Pipeline:
    return Pipeline(classifier, LIMITS, SegmentationSettings())


def convert_file(file: Path, out: Path, limits: MediaLimits = LIMITS) -> ConvertedFiles:
    out.mkdir(exist_ok=True)
    return convert(file, out, file.stem, limits, SegmentationSettings())


@pytest.fixture
def speech() -> Waveform:
    """Two seconds of speech at 16 kHz."""
    return np.asarray(soundfile.read(SPEECH, dtype="float32")[0], np.float32)


def test_any_file_becomes_16_khz_mono_16_bit(make_media: MakeMedia, tmp_path: Path) -> None:
    source = make_media("call.m4a", "-ac", "2", sample_rate_hz=44_100)

    (written,) = convert_file(source, tmp_path).files

    info = soundfile.info(written)
    assert written == tmp_path / "call.wav"
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 16_000, 1)
    assert info.duration == pytest.approx(2.0, abs=0.15)


def test_a_wav_file_of_the_same_kind_keeps_every_sample(tmp_path: Path) -> None:
    converted = convert_file(SPEECH, tmp_path)

    assert converted.gain == 1.0
    assert (soundfile.read(converted.files[0], dtype="int16")[0] == soundfile.read(SPEECH, dtype="int16")[0]).all()


def test_two_channels_with_the_same_speech_become_their_mean(speech: Waveform, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.stack([speech, 0.5 * speech], axis=1), 16_000, "FLOAT")

    (written,) = convert_file(tmp_path / "stereo.wav", tmp_path / "out").files

    assert soundfile.read(written)[0] == pytest.approx(0.75 * speech, abs=1e-4)


def test_channels_of_opposite_phase_become_two_files(speech: Waveform, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "antiphase.wav", np.stack([speech, -speech], axis=1), 16_000)

    first, second = convert_file(tmp_path / "antiphase.wav", tmp_path / "out").files

    assert [first.name, second.name] == ["antiphase-channel-0.wav", "antiphase-channel-1.wav"]
    assert soundfile.read(first)[0] == pytest.approx(speech, abs=1e-4)
    assert soundfile.read(second)[0] == pytest.approx(-speech, abs=1e-4)


def test_each_group_of_channels_becomes_a_file(speech: Waveform, tmp_path: Path) -> None:
    other = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")[0][::-1]
    soundfile.write(tmp_path / "call.wav", np.stack([speech, other, 0.9 * speech], axis=1), 16_000)

    files = convert_file(tmp_path / "call.wav", tmp_path / "out").files

    assert [file.name for file in files] == ["call-channel-0.wav", "call-channel-1.wav"]
    assert soundfile.read(files[0])[0] == pytest.approx(0.95 * speech, abs=1e-4)
    assert soundfile.read(files[1])[0] == pytest.approx(other, abs=1e-4)


def test_channels_stay_grouped_after_the_first_minute(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    sides = 0.1 * random.standard_normal((70 * 16_000, 2)) * (np.arange(70 * 16_000) // 16_000 % 2 == [[0], [1]]).T
    soundfile.write(tmp_path / "call.wav", sides, 16_000)

    files = convert_file(tmp_path / "call.wav", tmp_path / "out").files

    assert len(files) == 2
    for file, side in zip(files, sides.T, strict=True):
        assert np.abs(soundfile.read(file)[0] - side).max() < 1e-4


@pytest.mark.parametrize("channels", ["split", "mix"])
def test_the_setting_for_channels_applies(
    channels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech: Waveform
) -> None:
    monkeypatch.setenv("AUDIO_EMOTION_CHANNELS", channels)
    soundfile.write(tmp_path / "stereo.wav", np.stack([speech, speech[::-1]], axis=1), 16_000)

    assert convert_files([tmp_path / "stereo.wav"], tmp_path / "out") == 0

    assert len(list((tmp_path / "out").iterdir())) == {"split": 2, "mix": 1}[channels]


@pytest.mark.parametrize("scale", [32_767.0, 1.5, 5e-4, 1e-7])
def test_sound_beyond_16_bits_is_scaled_by_one_factor_and_the_command_says_so(
    scale: float,
    speech: Waveform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    speech = speech / np.abs(speech).max()
    sides = np.stack([speech * scale, -0.5 * speech * scale], axis=1)
    soundfile.write(tmp_path / "wide.wav", sides, 16_000, "FLOAT")

    assert convert_files([tmp_path / "wide.wav"], tmp_path / "out") == 0

    for channel, side in enumerate(sides.T):
        written = soundfile.read(tmp_path / "out" / f"wide-channel-{channel}.wav")[0]
        assert written == pytest.approx(side / scale, abs=1e-4)
    verb = "lowered" if scale > 1 else "raised"
    assert f"The level was {verb} by {abs(20 * np.log10(scale)):.1f} dB" in capsys.readouterr().out


@pytest.mark.parametrize("peak", [1.0, 0.002, 0.0])
def test_the_level_of_other_sound_is_kept(peak: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = peak * np.sin(np.arange(16_000) / 10.0).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", samples, 16_000, "FLOAT")

    assert convert_files([tmp_path / "tone.wav"], tmp_path / "out") == 0

    assert soundfile.read(tmp_path / "out" / "tone.wav")[0] == pytest.approx(samples, abs=2**-15)
    assert "The level" not in capsys.readouterr().out


def test_a_converted_recording_is_classified_as_the_recording(
    pipeline: Pipeline, speech: Waveform, tmp_path: Path
) -> None:
    other, _ = soundfile.read(ROOT / "samples" / "sad 8kHz mu-law.wav", dtype="float32")
    other = np.repeat(other, 2)[: speech.size]
    for name, samples in {"float.wav": speech * 32_767, "call.wav": np.stack([speech, other, -speech], axis=1)}.items():
        soundfile.write(tmp_path / name, samples, 16_000, "FLOAT")
        original = pipeline.run(tmp_path / name, Source(key=name))

        converted = [pipeline.run(file, Source(key=name)) for file in convert_file(tmp_path / name, tmp_path).files]

        assert original.channels
        assert len(converted) == len(original.channels)
        for channel, result in zip(original.channels, converted, strict=True):
            assert result.emotion == channel.emotion
            assert result.score == pytest.approx(channel.score, abs=0.01)


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
        convert_file(tmp_path / "bad.mp3", tmp_path)

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


def test_a_recording_that_is_cut_off_leaves_nothing_behind(make_media: MakeMedia, tmp_path: Path) -> None:
    film = make_media("call.m4a", source="anoisesrc=duration=8:amplitude=0.3")
    content = bytearray(film.read_bytes())
    middle = len(content) // 2
    content[middle:] = bytes(len(content) - middle)
    film.write_bytes(content)

    assert convert_files([film], tmp_path / "out") == 1

    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("channels", [1, 2])
def test_a_full_disk_is_a_sentence_and_leaves_nothing_behind(channels: int, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal((30 * 16_000, channels))
    soundfile.write(tmp_path / "long.wav", noise, 16_000)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000));"
        "from core.cli.app import main; main()"
    )
    command = [sys.executable, "-c", program, "convert", str(tmp_path / "long.wav"), "--out", str(tmp_path / "out")]

    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert "long.wav: File too large." in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_two_recordings_of_one_name_get_two_files_and_a_sentence(
    make_media: MakeMedia, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = [make_media("a/x.mp3"), make_media("b/x.wav")]

    assert convert_files(files, tmp_path / "out") == 0

    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["x-2.wav", "x.wav"]
    assert "b/x.wav: A file of this name exists already, so the new one has the number 2." in capsys.readouterr().out


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_memory_is_bounded_for_long_recordings(scale: float, tmp_path: Path) -> None:
    program = (
        "import re, sys; from pathlib import Path; from core.cli.convert import convert_files;"
        "convert_files([Path(sys.argv[1])], Path(sys.argv[2]));"
        r"sys.stderr.write(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1])"
    )
    peaks_kb = []
    for minutes in (2, 30):
        source = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(source, "w", 8_000, 2, "FLOAT") as file:
            for _ in range(minutes):
                file.write(np.tile([scale, -0.5 * scale], (60 * 8_000, 1)))
        command = [sys.executable, "-c", program, str(source), str(tmp_path / "out")]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        peaks_kb.append(int(done.stderr))

    assert peaks_kb[1] < 1.1 * peaks_kb[0]


def test_a_file_in_place_of_the_folder_is_an_os_error(tone: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text(json.dumps({}))

    with pytest.raises(OSError, match="exists"):
        convert_files([tone], tmp_path / "out")
