"""Result documents match their schema and contain only finite numbers."""

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from core.errors import EmptyRecording
from core.results import (
    Audio,
    Channel,
    EmotionScores,
    MeanScores,
    Model,
    Output,
    Processing,
    Result,
    Source,
    Utterance,
    json_schema,
    mean_values,
    now,
)

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "result.schema.json"

SCORES = {"anger": 0.7, "sad": 0.2999996, "happy": 0.0000004}
MODEL = Model(id="m", revision="r", precision="int8", fingerprint="sha256:0", labels=tuple(SCORES))
PROCESSING = Processing(finished_at=now(), version="1.0.0")


def classified(**changes: Any) -> Result:
    scores = dict(EmotionScores.of(SCORES))
    utterance = Utterance(**scores, start_s=0.0, end_s=1.5)
    channel = Channel(**scores, channel=0, speech_s=1.5, utterances=(utterance,))
    fields: dict[str, Any] = {
        "status": "classified",
        "source": Source(bucket="b", key="a b.wav"),
        "audio": Audio(container="wav", codec="pcm_s16le", sample_rate_hz=8000, channels=1, duration_s=1.5),
        "model": MODEL,
        **scores,
        "speech_s": 1.5,
        "channels": (channel,),
        "processing": PROCESSING,
    }
    return Result(**{**fields, **changes})


def failed() -> Result:
    return Result.failed(Source(key="k"), MODEL, EmptyRecording("The file is empty (0 bytes)."))


def test_the_schema_in_the_repository_is_the_generated_one() -> None:
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json.loads(json_schema()), "run `make schema`"


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(json_schema()))


@pytest.mark.parametrize(
    ("name", "value"), [("score", 1.5), ("score", -0.1), ("speech_s", -1.0), ("status", "perhaps"), ("emotion", 3)]
)
def test_the_schema_rejects_invalid_values(name: str, value: object) -> None:
    document = {**json.loads(classified().to_json()), name: value}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(json_schema()))


@pytest.mark.parametrize("result", [classified(), failed()], ids=["classified", "failed"])
def test_a_document_fits_the_schema_and_reads_back_as_the_same(result: Result) -> None:
    document = result.to_json()

    jsonschema.validate(json.loads(document), json.loads(json_schema()))
    assert Result.model_validate_json(document) == result


def test_a_failed_result_has_the_code_and_the_message_of_its_error() -> None:
    result = failed()

    assert result.status == "failed"
    assert result.error is not None
    assert (result.error.code, result.error.message) == ("empty", "The file is empty (0 bytes).")


def test_a_result_names_the_request_that_stores_it() -> None:
    assert json.loads(failed().with_request_id("r-1").to_json())["processing"]["request_id"] == "r-1"
    assert failed().processing.request_id is None


def test_absent_fields_are_left_out() -> None:
    assert "null" not in failed().to_json()
    assert {"emotion", "score", "scores", "channels", "audio"}.isdisjoint(json.loads(failed().to_json()))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["score", "speech_s"])
def test_numbers_in_a_document_are_finite(place: str, number: float) -> None:
    with pytest.raises(ValidationError):
        classified(**{place: number})


@pytest.mark.parametrize("number", [math.nan, math.inf, -0.1, 1.1])
def test_scores_are_probabilities(number: float) -> None:
    with pytest.raises(ValidationError):
        classified(scores={"anger": number})


def test_probabilities_keep_six_digits_and_seconds_three() -> None:
    document = json.loads(classified(score=0.123456789, speech_s=1.23456).to_json())

    assert (document["score"], document["speech_s"]) == (0.123457, 1.235)
    assert document["scores"] == {"anger": 0.7, "sad": 0.3, "happy": 0.0}


def test_a_rounding_error_above_one_is_still_a_probability() -> None:
    assert EmotionScores.of({"anger": 1.0 + 1e-12}).score == 1.0


def test_the_emotion_is_the_label_with_the_highest_score() -> None:
    scores = EmotionScores.of({"sad": 0.2, "happy": 0.5, "anger": 0.3})

    assert (scores.emotion, scores.score) == ("happy", 0.5)


DIMENSIONS = {"arousal": 1.0400004, "valence": -0.25}


def test_values_of_dimensions_are_not_clipped_and_have_no_emotion() -> None:
    scores = EmotionScores.of(DIMENSIONS, Output.LINEAR)

    assert json.loads(scores.model_dump_json(exclude_none=True)) == {"dimensions": {"arousal": 1.04, "valence": -0.25}}
    assert scores.values == {"arousal": 1.04, "valence": -0.25}
    with pytest.raises(AssertionError):
        _ = scores.best


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"emotion": "anger"},
        {"emotion": "anger", "score": 0.7},
        {"score": 0.7, "scores": SCORES},
        {"dimensions": DIMENSIONS, "emotion": "anger", "score": 0.7, "scores": SCORES},
    ],
)
def test_an_utterance_has_either_scores_or_dimensions(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either emotion, score and scores, or dimensions"):
        Utterance(**fields, start_s=0.0, end_s=1.0)
    document = json.loads(classified().to_json())
    part = {"start_s": 0.0, "end_s": 1.0, **fields}
    document["channels"][0]["utterances"] = [part]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(json_schema()))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_values_of_dimensions_are_finite(number: float) -> None:
    with pytest.raises(ValidationError):
        EmotionScores.of({"arousal": number}, Output.LINEAR)


def test_independent_scores_need_not_sum_to_one() -> None:
    scores = EmotionScores.of({"anger": 0.9, "sad": 0.8}, Output.SIGMOID)

    assert (scores.emotion, scores.score, scores.dimensions) == ("anger", 0.9, None)


def test_means_of_dimensions_have_the_lowest_and_the_highest_value() -> None:
    values = ((0.0, 2.0, {"arousal": 0.9}), (3.0, 4.0, {"arousal": 0.3}), (5.0, 5.5, {"arousal": 0.5}))
    parts = [
        Utterance(start_s=begin, end_s=end, **dict(EmotionScores.of(each, Output.LINEAR)))
        for begin, end, each in values
    ]

    means = MeanScores.over(parts)

    assert means.dimensions == pytest.approx({"arousal": (1.8 + 0.3 + 0.25) / 3.5}, abs=1e-6)
    assert (means.dimensions_min, means.dimensions_max) == ({"arousal": 0.3}, {"arousal": 0.9})
    assert (means.emotion, means.shares, means.margin) == (None, None, None)


@pytest.mark.parametrize("output", [Output.SOFTMAX, Output.SIGMOID])
def test_means_have_the_mix_of_emotions_and_the_margin(output: Output) -> None:
    values = ((0.0, 3.0, {"anger": 0.9, "sad": 0.8, "fear": 0.0}), (4.0, 5.0, {"anger": 0.1, "sad": 0.3, "fear": 0.2}))
    parts = [Utterance(start_s=start, end_s=end, **dict(EmotionScores.of(each, output))) for start, end, each in values]

    means = MeanScores.over(parts)

    assert means.shares == {"anger": 0.75, "sad": 0.25, "fear": 0.0}
    assert means.margin == pytest.approx(0.7 - 0.675)


def test_a_model_with_one_label_has_no_margin() -> None:
    means = MeanScores.over([Utterance(start_s=0.0, end_s=1.0, **dict(EmotionScores.of({"anger": 0.4})))])

    assert (means.shares, means.margin) == ({"anger": 1.0}, None)


def test_an_identity_names_labels_or_dimensions() -> None:
    identity: dict[str, Any] = {"id": "m", "revision": "r", "precision": "int8", "fingerprint": "sha256:0"}

    assert Model.with_output(Output.SOFTMAX, tuple(SCORES), **identity) == MODEL
    sigmoid = Model.with_output(Output.SIGMOID, ("sad",), **identity)
    linear = Model.with_output(Output.LINEAR, ("arousal",), (0.0, 1.0), **identity)
    assert (sigmoid.output, sigmoid.labels, sigmoid.dimensions, sigmoid.names) == ("sigmoid", ("sad",), None, ("sad",))
    assert (linear.output, linear.labels, linear.dimensions, linear.names) == ("linear", (), ("arousal",), ("arousal",))


@pytest.mark.parametrize("result", [classified(), failed()], ids=["classified", "failed"])
def test_a_document_of_release_1_0_reads_back_and_keeps_its_version(result: Result) -> None:
    document = result.to_json().replace('"schema_version":"1.1"', '"schema_version":"1.0"')

    read = Result.model_validate_json(document)

    assert read.to_json() == document
    assert read.model_copy(update={"schema_version": "1.1"}) == result


def test_a_document_of_a_model_with_emotions_has_no_field_that_1_0_lacks() -> None:
    document = json.loads(classified().to_json())

    channel, scores = document["channels"][0], ["emotion", "score", "scores"]
    assert list(document) == [
        *("schema_version", "status", "source", "audio", "model"),
        *(*scores, "speech_s", "channels", "processing"),
    ]
    assert list(document["model"]) == ["id", "revision", "precision", "fingerprint", "labels"]
    assert list(channel) == [*scores, "speech_s", "channel", "utterances"]
    assert list(channel["utterances"][0]) == [*scores, "start_s", "end_s"]


def test_a_mean_is_weighted_by_duration() -> None:
    scores = mean_values([({"anger": 1.0, "sad": 0.0}, 6.0), ({"anger": 0.0, "sad": 1.0}, 2.0)])

    assert scores == pytest.approx({"anger": 0.75, "sad": 0.25})


def test_a_mean_of_one_is_the_same() -> None:
    assert mean_values([(SCORES, 0.001)]) == pytest.approx(SCORES)


def test_text_beyond_ascii_is_not_escaped() -> None:
    assert "录音 1+2.wav" in classified(source=Source(key="录音 1+2.wav")).to_json()


def test_the_time_is_utc_to_the_second() -> None:
    finished_at = json.loads(failed().to_json())["processing"]["finished_at"]

    assert finished_at.endswith("Z")
    assert "." not in finished_at


def test_an_unknown_field_is_rejected() -> None:
    with pytest.raises(ValidationError, match="surplus"):
        classified(surplus=1)
