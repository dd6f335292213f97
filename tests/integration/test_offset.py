"""A DC offset changes neither the emotion of a recording nor whether it contains speech."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.checkpoints.loading import load_classifier
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT

SAMPLES = sorted(file for file in (ROOT / "samples").glob("*") if file.suffix not in (".json", ".md"))


@pytest.fixture(scope="module")
def pipeline(classifier: EmotionClassifier) -> Pipeline:
    return Pipeline(classifier, MediaLimits(), SegmentationSettings())


def run(pipeline: Pipeline, file: Path) -> Result:
    return pipeline.run(file, Source(key=file.name, size_bytes=file.stat().st_size))


def samples_of(file: Path) -> Waveform:
    limits = MediaLimits()
    recording = np.concatenate(list(decode(file, probe(file, limits), limits)), axis=1)
    return np.asarray(recording.mean(axis=0), np.float32)


def write(file: Path, samples: np.ndarray, subtype: str = "FLOAT") -> Path:
    soundfile.write(file, samples, SAMPLE_RATE_HZ, subtype)
    return file


def scores(result: Result) -> list[list[float]]:
    return [list(part.values.values()) for channel in result.channels or () for part in channel.utterances]


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_an_offset_changes_no_emotion(file: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    clean = samples_of(file)
    expected = run(pipeline, write(tmp_path / "clean.wav", clean))

    for offset in (0.02, -0.1, 0.5):
        result = run(pipeline, write(tmp_path / "offset.wav", clean + np.float32(offset)))

        assert result.emotion == expected.emotion
        assert np.abs(np.subtract(scores(result), scores(expected))).max() < 0.05


def test_an_offset_of_eight_bits_changes_no_emotion(pipeline: Pipeline, tmp_path: Path) -> None:
    clean = samples_of(ROOT / "samples" / "anger.wav")

    result = run(pipeline, write(tmp_path / "offset.wav", clean + 3 / 128, "PCM_U8"))

    assert result.emotion == "anger"
    assert result.score == pytest.approx(run(pipeline, write(tmp_path / "clean.wav", clean, "PCM_U8")).score, abs=0.05)


def test_a_drifting_offset_changes_no_emotion(pipeline: Pipeline, tmp_path: Path) -> None:
    clean = samples_of(ROOT / "samples" / "conversation.ogg")
    drift = np.linspace(0.02, 0.06, clean.size, dtype=np.float32)

    expected = run(pipeline, write(tmp_path / "clean.wav", clean))
    result = run(pipeline, write(tmp_path / "offset.wav", clean + drift))

    assert np.argmax(scores(result), axis=1).tolist() == np.argmax(scores(expected), axis=1).tolist()


def test_each_channel_s_own_offset_is_removed(pipeline: Pipeline, tmp_path: Path) -> None:
    left, right = (samples_of(ROOT / "samples" / name) for name in ("anger.wav", "neutral.flac"))
    size = min(left.size, right.size)
    call = np.stack([left[:size] + 0.02, right[:size] - 0.3], axis=1)

    result = run(pipeline, write(tmp_path / "call.wav", call))

    assert [channel.emotion for channel in result.channels or ()] == ["anger", "neutral"]


@pytest.mark.parametrize("offset", [0.002, 0.02, -0.3])
@pytest.mark.parametrize("seconds", [3, 30])
def test_silence_with_an_offset_has_no_speech(offset: float, seconds: int, pipeline: Pipeline, tmp_path: Path) -> None:
    noise = 3e-4 * np.random.default_rng(0).standard_normal(seconds * SAMPLE_RATE_HZ)

    assert run(pipeline, write(tmp_path / "silence.wav", noise + offset)).status == "no_speech"


def test_the_reference_and_the_package_remove_the_same_offset(classifier: EmotionClassifier) -> None:
    reference = load_classifier(ROOT / "models" / "demo" / "checkpoint", 1)
    waveform = samples_of(ROOT / "samples" / "anger.wav") + np.float32(0.05)

    assert reference.classify(waveform) == pytest.approx(classifier.classify(waveform), abs=0.01)


def test_the_recordings_of_the_case_that_was_reported_agree(corpora: Path, pipeline: Pipeline) -> None:
    clean, offset = (run(pipeline, corpora / "data" / "cases" / f"dc-{name}.wav") for name in ("none", "0.02"))

    assert clean.emotion == offset.emotion == "anger"
    assert offset.score == pytest.approx(clean.score, abs=0.005)
