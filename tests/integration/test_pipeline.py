"""Every file gets a result document: `classified`, `no_speech`, or `failed` with a message."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import WINDOW_SAMPLES
from core.deadline import Deadline
from core.errors import DecoderUnavailable
from core.model.classifier import EmotionClassifier
from core.model.package import read_manifest
from core.pipeline import Pipeline
from core.results import EmotionScores, Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT, MakeMedia
from tests.support.corpora import MISSING, corpus_files

SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
ODD_FILES = corpus_files("data/formats/*/*")
SAMPLES = sorted(file for file in (ROOT / "samples").glob("*") if file.suffix not in (".json", ".md"))


@pytest.fixture(scope="module")
def pipeline(classifier: EmotionClassifier) -> Pipeline:
    return Pipeline(classifier, MediaLimits(), SegmentationSettings())


def run(pipeline: Pipeline, file: Path, deadline: Deadline | None = None) -> Result:
    """Classify a file, and check the result against the schema and the rules of the document."""
    before = sorted(file.parent.iterdir())
    result = pipeline.run(file, Source(key=file.name, size_bytes=file.stat().st_size), deadline=deadline)
    document = json.loads(result.to_json(), parse_constant=pytest.fail)
    jsonschema.validate(document, SCHEMA)
    assert document["source"]["key"] == file.name
    assert document["model"]["labels"]
    assert sorted(file.parent.iterdir()) == before
    if result.status == "failed":
        assert result.error is not None
        assert result.error.message.endswith(".")
        assert "\n" not in result.error.message
        assert str(file) not in result.error.message
        assert {"emotion", "scores", "channels"}.isdisjoint(document)
    if result.status == "no_speech":
        assert {"emotion", "score", "scores", "error"}.isdisjoint(document)
    if result.status == "classified":
        check_classification(result)
    return result


def check_classification(result: Result) -> None:
    assert result.audio is not None
    assert result.channels
    assert result.scores
    parts = [part for channel in result.channels for part in channel.utterances]
    scored: list[EmotionScores] = [*result.channels, *parts]
    overall = {name: getattr(result, name) for name in EmotionScores.model_fields}
    for part in [EmotionScores.model_validate(overall), *scored]:
        assert part.scores
        assert list(part.scores) == list(result.model.labels)
        assert sum(part.scores.values()) == pytest.approx(1.0, abs=6e-6)
        assert all(round(score, 6) == score for score in part.scores.values())
        assert part.score == max(part.scores.values())
        assert part.scores[part.best[0]] == part.score
    for channel in result.channels:
        parts = list(channel.utterances)
        assert all(0 <= part.start_s < part.end_s <= result.audio.duration_s + 0.001 for part in parts)
        assert all(part.duration_s <= 6.0 + 0.001 for part in parts)
        assert all(left.end_s <= right.start_s + 0.001 for left, right in pairwise(parts))
        assert channel.speech_s == pytest.approx(sum(part.duration_s for part in parts), abs=0.001 * len(parts))
    assert result.speech_s == pytest.approx(sum(channel.speech_s for channel in result.channels), abs=0.01)


@pytest.mark.parametrize(
    ("name", "duration_s", "sample_rate_hz", "channels"),
    [("111.wav", 3.456, 48_000, 1), ("51008800.wav", 47.31, 8_000, 1), ("51170235.wav", 58.9, 8_000, 2)],
)
def test_the_published_program_s_recordings_are_classified(
    name: str, duration_s: float, sample_rate_hz: int, channels: int, pipeline: Pipeline, corpora: Path
) -> None:
    result = run(pipeline, corpora / "data" / "seed" / name)

    assert result.status == "classified"
    assert result.audio is not None
    assert result.audio.duration_s == pytest.approx(duration_s, abs=0.05)
    assert (result.audio.sample_rate_hz, result.audio.channels) == (sample_rate_hz, channels)


def test_a_short_recording_is_one_untrimmed_utterance(pipeline: Pipeline, corpora: Path) -> None:
    result = run(pipeline, corpora / "data" / "seed" / "111.wav")

    assert result.audio is not None
    assert result.channels is not None
    (channel,) = result.channels
    (utterance,) = channel.utterances
    assert (utterance.start_s, utterance.end_s) == (0.0, result.audio.duration_s)
    assert utterance.scores == channel.scores == result.scores


def test_a_long_recording_has_the_weighted_mean_of_its_utterances(pipeline: Pipeline, corpora: Path) -> None:
    result = run(pipeline, corpora / "data" / "seed" / "51008800.wav")

    assert result.channels is not None
    parts = [part for channel in result.channels for part in channel.utterances]
    assert len(parts) > 2
    for label in result.model.labels:
        mean = np.average([part.values[label] for part in parts], weights=[part.duration_s for part in parts])
        assert (result.scores or {})[label] == pytest.approx(mean, abs=1e-5)


@pytest.mark.skipif(not ODD_FILES, reason=MISSING)
@pytest.mark.parametrize("file", ODD_FILES, ids=lambda file: file.name)
def test_every_odd_file_gets_a_result(file: Path, pipeline: Pipeline) -> None:
    run(pipeline, file)


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_every_sample_is_classified(file: Path, pipeline: Pipeline) -> None:
    assert run(pipeline, file).status == "classified"


def test_an_empty_file_fails_as_empty(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "x.wav").touch()

    result = run(pipeline, tmp_path / "x.wav")

    assert (result.status, result.error and result.error.code) == ("failed", "empty")
    assert result.audio is None


def test_a_text_file_fails_as_not_audio(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_text("Dear diary, today I uploaded this.")

    result = run(pipeline, tmp_path / "x.wav")

    assert result.error
    assert result.error.code == "not_audio"


def test_a_film_without_audio_fails_as_no_audio_stream(pipeline: Pipeline, make_media: MakeMedia) -> None:
    result = run(pipeline, make_media("film.mp4", source="color=red:duration=1:size=64x64"))

    assert result.error
    assert result.error.code == "no_audio_stream"


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.ogg", "a.webm", "a.flac"])
def test_a_truncated_file_gets_a_result(name: str, kept: float, pipeline: Pipeline, make_media: MakeMedia) -> None:
    file = make_media(name, source="anoisesrc=duration=4:amplitude=0.3:seed=1")
    file.write_bytes(file.read_bytes()[: max(1, int(file.stat().st_size * kept))])

    run(pipeline, file)


@pytest.mark.parametrize("samples", [1, 16_000, 10 * 16_000])
def test_digital_silence_gives_no_speech(samples: int, pipeline: Pipeline, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros(samples), 16_000)

    result = run(pipeline, tmp_path / "x.wav")

    assert result.status == "no_speech"
    assert result.audio is not None
    assert result.audio.duration_s == pytest.approx(samples / 16_000, abs=0.001)
    assert result.speech_s == 0.0
    assert result.channels == ()


def test_a_deadline_that_has_passed_fails_the_recording(pipeline: Pipeline, tone: Path) -> None:
    result = run(pipeline, tone, Deadline.after(0))

    assert result.error
    assert result.error.code == "deadline_exceeded"


def test_the_result_of_a_recording_that_is_too_long_describes_its_audio(
    classifier: EmotionClassifier, make_media: MakeMedia
) -> None:
    pipeline = Pipeline(classifier, MediaLimits(max_duration_s=3), SegmentationSettings())

    result = run(pipeline, make_media("x.ogg", "-c:a", "libopus", source="sine=300:duration=10"))

    assert result.error
    assert result.error.code == "too_long"
    assert result.audio is not None
    assert result.audio.codec == "opus"


def test_a_missing_decoder_is_a_transient_error(
    pipeline: Pipeline, tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(DecoderUnavailable):
        pipeline.run(tone, Source(key="x"))


def test_a_result_names_its_model_and_its_times(pipeline: Pipeline, tone: Path, classifier: EmotionClassifier) -> None:
    result = pipeline.run(tone, Source(bucket="b", key="k", version_id="v"))

    assert result.processing.decode_ms > 0
    assert result.model.fingerprint == classifier.identity.fingerprint
    assert (result.source.bucket, result.source.version_id) == ("b", "v")


def test_results_of_the_demo_model_are_marked(package: Path, pipeline: Pipeline, tone: Path) -> None:
    is_demo = read_manifest(package).demo

    assert json.loads(run(pipeline, tone).to_json())["model"].get("demo") == (True if is_demo else None)


@pytest.mark.parametrize("samples", [WINDOW_SAMPLES - 1, WINDOW_SAMPLES])
def test_six_seconds_are_one_utterance(samples: int, pipeline: Pipeline, corpora: Path, tmp_path: Path) -> None:
    path = corpora / "data" / "seed" / "51008800.wav"
    limits = MediaLimits()
    speech = np.concatenate(list(decode(path, probe(path, limits), limits)), axis=1)[0]
    soundfile.write(tmp_path / "x.wav", speech[16_000 : 16_000 + samples], 16_000)

    result = run(pipeline, tmp_path / "x.wav")

    assert result.channels is not None
    assert [len(channel.utterances) for channel in result.channels] == [1]
    assert result.channels[0].utterances[0].end_s == pytest.approx(samples / 16_000, abs=0.001)
