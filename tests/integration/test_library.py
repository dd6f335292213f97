"""The Python library: `from core import AudioEmotion`."""

import subprocess
import sys
from pathlib import Path
from typing import assert_type

import pytest

import core
from core import AudioEmotion
from core.errors import LabelsInvalid, PackageRefused
from core.results import Result
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def audio_emotion(package: Path) -> AudioEmotion:
    return AudioEmotion(package, threads=1)


def test_a_recording_becomes_a_result(audio_emotion: AudioEmotion, package: Path) -> None:
    result = assert_type(audio_emotion.classify(SAMPLES / "anger.wav"), Result)

    assert (result.status, result.source.key) == ("classified", str(SAMPLES / "anger.wav"))
    assert result.model == audio_emotion.model
    assert result.emotion in audio_emotion.model.labels


def test_a_recording_that_cannot_be_classified_has_a_failed_result(audio_emotion: AudioEmotion, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not a recording")

    results = [audio_emotion.classify(str(tmp_path / name)) for name in ("missing.wav", "text.wav", ".")]

    assert [result.error.code for result in results if result.error] == ["not_found", "not_audio", "unreadable"]


def test_the_parameters_are_the_settings(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIO_EMOTION_MAX_DURATION_S", "1")
    first, second, *_ = AudioEmotion(package).model.labels
    changed = AudioEmotion(
        package,
        labels={first: "A"},
        only=["A", second],
        segmentation=SegmentationSettings(channels="split"),
        limits=MediaLimits(max_duration_s=10),
    )

    assert changed.model.labels == ("A", second)
    assert changed.classify(SAMPLES / "anger.wav").status == "classified"
    too_long = changed.classify(SAMPLES / "conversation.ogg").error
    assert too_long is not None
    assert too_long.code == "too_long"


def test_a_missing_model_or_label_is_an_error(package: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageRefused, match="contains neither"):
        AudioEmotion(tmp_path)
    with pytest.raises(LabelsInvalid):
        AudioEmotion(package, only=["unknown"])


def test_importing_the_package_loads_none_of_its_modules() -> None:
    code = "import core, sys; print([name for name in sys.modules if name.startswith(('core.', 'numpy', 'pydantic'))])"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"


def test_the_package_has_no_other_names() -> None:
    assert "AudioEmotion" in core.__all__
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        core.Other  # noqa: B018
