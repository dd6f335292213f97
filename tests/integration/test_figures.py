"""Results of the pipeline have the figures of their conversation, and so have documents of release 1.0."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.waveform import SAMPLE_RATE_HZ, Block
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT

FIGURES = ("talk_share", "turns", "longest_turn_s", "mean_turn_s", "interruptions")


@pytest.fixture(scope="module")
def pipeline(classifier: EmotionClassifier) -> Pipeline:
    return Pipeline(classifier, MediaLimits(), SegmentationSettings())


def run(pipeline: Pipeline, sound: Block, folder: Path) -> Result:
    file = folder / "call.wav"
    soundfile.write(file, sound.T, SAMPLE_RATE_HZ)
    return pipeline.run(file, Source(key="call.wav"))


def speech(name: str) -> Block:
    sound: Block = soundfile.read(ROOT / "samples" / name, dtype="float32", always_2d=True)[0].T
    return sound


def placed(channels: int, *clips: tuple[int, float, Block]) -> Block:
    """Return the clips at their channels and times, and two seconds of silence."""
    end_s = max(at_s + clip.shape[1] / SAMPLE_RATE_HZ for _, at_s, clip in clips) + 2.0
    sound = np.zeros((channels, round(end_s * SAMPLE_RATE_HZ)), np.float32)
    for channel, at_s, clip in clips:
        start = round(at_s * SAMPLE_RATE_HZ)
        sound[channel, start : start + clip.shape[1]] += clip[0]
    return sound


def test_the_sides_of_a_call_have_their_figures(pipeline: Pipeline, tmp_path: Path) -> None:
    """The customer interrupts the agent, and the agent goes on after the customer."""
    agent, customer = speech("anger.wav"), speech("neutral.flac")
    first_s, second_s = agent.shape[1] / SAMPLE_RATE_HZ, customer.shape[1] / SAMPLE_RATE_HZ
    again_s = 1.0 + first_s + second_s
    sound = placed(2, (0, 1.0, agent), (1, first_s, customer), (0, again_s, agent))

    result = run(pipeline, sound, tmp_path)

    assert result.channels is not None
    one, other = result.channels
    # The clips have up to 0.3 s of silence at their ends.
    assert result.overlap_s == pytest.approx(1.0, abs=0.5)
    assert (one.interruptions, other.interruptions, result.interruptions) == (0, 1, 1)
    assert (one.turns, other.turns) == (2, 1)
    assert one.talk_share == pytest.approx(2 * first_s / (2 * first_s + second_s), abs=0.05)
    assert (one.talk_share or 0.0) + (other.talk_share or 0.0) == pytest.approx(1.0, abs=1e-5)
    assert one.longest_turn_s == pytest.approx(first_s, abs=0.5)
    assert other.mean_turn_s == pytest.approx(second_s, abs=0.5)
    assert result.silence_s == pytest.approx(1.0 + 1.0 + 2.0, abs=0.7)


def test_shares_are_the_time_of_each_emotion(pipeline: Pipeline, tmp_path: Path) -> None:
    sound = placed(2, (0, 0.0, speech("anger.wav")), (0, 5.0, speech("neutral.flac")), (1, 9.0, speech("anger.wav")))

    result = run(pipeline, sound, tmp_path)

    parts = [part for channel in result.channels or () for part in channel.utterances]
    for emotion in result.model.labels:
        spoken_s = sum(part.duration_s for part in parts if part.emotion == emotion)
        assert (result.shares or {})[emotion] == pytest.approx(spoken_s / (result.speech_s or 0.0), abs=1e-3)
    assert {emotion for emotion, share in (result.shares or {}).items() if share} == {"anger", "neutral"}
    best, second = sorted((result.scores or {}).values(), reverse=True)[:2]
    assert result.margin == pytest.approx(best - second, abs=2e-6)


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(placed(1, (0, 1.0, speech("anger.wav"))), id="mono"),
        pytest.param(placed(2, (0, 1.0, speech("anger.wav"))), id="one channel speaks"),
        pytest.param(placed(1, (0, 1.0, speech("anger.wav"))).repeat(2, axis=0), id="mixed channels"),
    ],
)
def test_one_lane_has_no_turns(pipeline: Pipeline, tmp_path: Path, sound: Block) -> None:
    document = json.loads(run(pipeline, sound, tmp_path).to_json())

    assert {"overlap_s", "interruptions"}.isdisjoint(document)
    [channel] = document["channels"]
    assert set(FIGURES).isdisjoint(channel)
    assert document["silence_s"] == pytest.approx(document["audio"]["duration_s"] - document["speech_s"], abs=2e-3)
    assert channel["shares"]["anger"] == 1.0


def test_sixteen_channels_share_the_talk(pipeline: Pipeline, tmp_path: Path) -> None:
    clip = speech("anger.wav")
    sound = placed(16, *((channel, 3.0 * channel, clip) for channel in range(16)))

    result = run(pipeline, sound, tmp_path)

    channels = result.channels or ()
    assert [channel.turns for channel in channels] == [1] * 16
    assert [channel.talk_share for channel in channels] == pytest.approx([1 / 16] * 16, abs=0.01)
    assert result.interruptions == 0


def test_without_speech_all_is_silence(pipeline: Pipeline, tmp_path: Path) -> None:
    document = json.loads(run(pipeline, np.zeros((2, 3 * SAMPLE_RATE_HZ), np.float32), tmp_path).to_json())

    assert (document["status"], document["speech_s"], document["silence_s"]) == ("no_speech", 0.0, 3.0)
    assert {"overlap_s", "interruptions", "shares", "margin"}.isdisjoint(document)


def test_a_failed_recording_has_no_figures(pipeline: Pipeline) -> None:
    document = json.loads(pipeline.run(ROOT / "README.md", Source(key="README.md")).to_json())

    assert {"silence_s", "overlap_s", "interruptions", "shares", "margin", "channels"}.isdisjoint(document)


def test_a_document_of_release_1_0_gets_the_same_figures(pipeline: Pipeline, tmp_path: Path) -> None:
    sound = placed(2, (0, 0.0, speech("anger.wav")), (1, 1.5, speech("neutral.flac")), (0, 7.0, speech("surprise.ogg")))
    result = run(pipeline, sound, tmp_path)
    old = json.loads(result.to_json())
    for part in (old, *old["channels"]):
        for name in ("silence_s", "overlap_s", "shares", "margin", *FIGURES):
            part.pop(name, None)
    old["schema_version"] = "1.0"

    read = Result.model_validate(old)

    assert read.shares is None
    assert read.with_figures().model_copy(update={"schema_version": "1.1"}) == result
