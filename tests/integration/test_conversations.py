"""Whole calls: segmentation, classification, memory and deadlines."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.utterances import cut
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, Block, Waveform
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.reference import ReferenceNetwork
from core.deadline import Deadline, ProgressEstimate, plausible_duration_s
from core.errors import DeadlineExceeded
from core.export.exporter import write_package
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier, Scores
from core.pipeline import Pipeline
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT
from tests.integration.conftest import Clock
from tests.support.calls import DEGRADATIONS, Call, Clip, Fit, build_call, correct_turns, fit, is_right, read_clips

CLIPS_IN_A_CALL = 12


@pytest.fixture(scope="module")
def clips(corpora: Path) -> list[Clip]:
    """Every utterance of CASIA in a random order."""
    found = read_clips(corpora / "data" / "speech" / "manifest.csv", "casia")
    return [found[index] for index in np.random.default_rng(0).permutation(len(found))]


def calls(clips: Sequence[Clip], channels: int) -> list[Call]:
    starts = range(0, len(clips), CLIPS_IN_A_CALL)
    return [build_call(clips[start : start + CLIPS_IN_A_CALL], channels=channels, seed=start) for start in starts]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_segments_cover_the_speech_and_leave_out_the_pauses(
    clips: list[Clip], channels: int, kind: str, tmp_path: Path
) -> None:
    fits: list[Fit] = []
    for call in calls(clips, channels):
        degraded = Call(DEGRADATIONS[kind](call.sound, tmp_path), call.turns)
        found = list(cut(degraded.blocks(), SegmentationSettings(), VoiceActivityDetector.load()))
        assert all(0.5 <= utterance.duration_s <= 6.0 for utterance in found)
        for channel in range(channels):
            spans = [(part.start_s, part.end_s) for part in found if part.channel == channel]
            fits.append(fit(spans, degraded.spoken(channel), degraded.duration_s))
    total = sum(fits[1:], fits[0])

    assert total.coverage >= 0.95
    assert total.intrusion <= 0.10
    assert total.boundary_error_s <= 0.3


@pytest.fixture(scope="module")
def trained(clips: list[Clip], corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> EmotionClassifier:
    """The serving package of a small network that was trained on recordings of people."""
    folder = tmp_path_factory.mktemp("casia-small")
    checkpoint = read_checkpoint(corpora / "models" / "casia-small")
    sound = clips[0].waveform
    write_package(checkpoint, folder, Precision.FP32, [sound], [ReferenceNetwork(checkpoint).logits(sound)])
    return EmotionClassifier.load(folder)


@pytest.fixture(scope="module")
def accuracy_alone(clips: list[Clip], trained: EmotionClassifier) -> float:
    return float(np.mean([is_right(clip, trained.classify(clip.waveform)) for clip in clips]))


@pytest.mark.parametrize("channels", [1, 2])
def test_utterances_in_calls_are_classified_nearly_as_well_as_alone(
    clips: list[Clip], trained: EmotionClassifier, accuracy_alone: float, channels: int
) -> None:
    right: list[bool] = []
    for call in calls(clips, channels):
        parts = cut(call.blocks(), SegmentationSettings(), VoiceActivityDetector.load())
        right += correct_turns(call, [(part, trained.classify(part.waveform)) for part in parts])

    assert len(right) == len(clips) == 240
    assert accuracy_alone > 0.7
    assert np.mean(right) >= accuracy_alone - 0.03


def conversation(repeats: int = 1) -> Block:
    """Two sides that take turns, made from the samples."""
    one, _ = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    other, _ = soundfile.read(ROOT / "samples" / "neutral.flac", dtype="float32")
    pause = np.zeros(SAMPLE_RATE_HZ, np.float32)
    left = np.concatenate([one, pause, 0 * other, pause])
    right = np.concatenate([0 * one, pause, other, pause])
    return np.tile(np.stack([left, right]), repeats)


def run(pipeline: Pipeline, file: Path, deadline: Deadline | None = None) -> Result:
    return pipeline.run(file, Source(key=file.name), deadline=deadline)


def test_each_side_of_a_call_has_the_scores_of_its_own_mono_file(classifier: EmotionClassifier, tmp_path: Path) -> None:
    sound = conversation(4)
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, sound.T, SAMPLE_RATE_HZ)
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
    both = run(pipeline, stereo).channels

    assert both
    assert [channel.channel for channel in both] == [0, 1]
    for channel in both:
        mono = tmp_path / f"{channel.channel}.wav"
        soundfile.write(mono, sound[channel.channel], SAMPLE_RATE_HZ)
        alone = run(pipeline, mono).channels
        assert alone
        assert channel.utterances == alone[0].utterances
        assert channel.scores == alone[0].scores


def test_memory_does_not_grow_with_the_recording(package: Path, tmp_path: Path) -> None:
    peaks = {}
    for minutes in (3, 60):
        file = tmp_path / f"{minutes}.wav"
        sound = conversation()
        with soundfile.SoundFile(file, "w", SAMPLE_RATE_HZ, 2, "PCM_16") as wav:
            for _ in range(round(minutes * 60 * SAMPLE_RATE_HZ / sound.shape[1])):
                wav.write(sound.T)
        peaks[minutes] = _peak_mb(package, file)

    assert peaks[60] - peaks[3] <= 60


_ALONE = """
import resource, sys
from pathlib import Path
import numpy as np
from core.model.classifier import EmotionClassifier, Scores
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings

class Quick:
    def logits(self, waveform):
        return np.zeros(6, np.float32)

identity = EmotionClassifier.load(Path(sys.argv[1])).identity
pipeline = Pipeline(EmotionClassifier(Quick(), identity), MediaLimits(), SegmentationSettings())
result = pipeline.run(Path(sys.argv[2]), Source(key="long"))
assert result.status == "classified", result
assert len(result.channels) == 2
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _peak_mb(package: Path, file: Path) -> float:
    """Return the peak memory of a process whose network needs none."""
    command = [sys.executable, "-c", _ALONE, str(package), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=200)
    return float(done.stdout)


def test_a_recording_that_cannot_finish_fails_after_its_first_minute_with_the_duration_that_fits() -> None:
    deadline = Deadline.after(100)
    estimate = ProgressEstimate(3 * 3600, deadline)
    estimate._started -= 30  # as if the first minute had taken 30 s

    with pytest.raises(DeadlineExceeded, match=r"3 h 0 min cannot be finished in time; .* up to 2 min would fit"):
        estimate.check(60.0)


def test_a_recording_that_can_finish_is_not_refused() -> None:
    estimate = ProgressEstimate(150.0, Deadline.after(100))
    estimate._started -= 30

    estimate.check(60.0)
    estimate.check(120.0)


def test_a_recording_too_long_for_the_deadline_fails_early(
    classifier: EmotionClassifier, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classify = classifier.classify

    def slow(waveform: Waveform) -> Scores:
        clock.advance(1.0)
        return classify(waveform)

    monkeypatch.setattr(classifier, "classify", slow)
    file = tmp_path / "long.wav"
    sound = conversation(10)
    with soundfile.SoundFile(file, "w", SAMPLE_RATE_HZ, 2, "PCM_16") as wav:
        for _ in range(100):
            wav.write(sound.T)
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())

    result = run(pipeline, file, Deadline.after(100.0))

    assert result.error is not None
    assert result.error.code == "deadline_exceeded"
    assert "would fit" in result.error.message
    assert result.audio is not None
    assert result.audio.duration_s < 130


def test_a_duration_that_the_file_cannot_hold_is_not_plausible() -> None:
    assert plausible_duration_s(390_000.0, "mp3", 245_000, 44_100) is None
    assert plausible_duration_s(60.0, "mp3", 245_000, 44_100) == 60.0
    assert plausible_duration_s(None, "opus", 1000, 16_000) is None
    assert plausible_duration_s(61.0, "pcm_s16le", 480_000, 8_000) is None
