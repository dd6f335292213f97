"""The flag `unsure`: scores below a threshold are marked, and the labels stay."""

import json

import pytest

from core.report import render
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
    Speaker,
    Utterance,
)
from core.results.csv_table import CsvTable
from core.results.verdict import doubt_in_words

LABELS = ("anger", "neutral")
MODEL = Model(id="m", revision="1", precision="fp32", fingerprint="sha256:1", labels=LABELS)


def result_of(*scores: float, output: Output | None = None) -> Result:
    """Return a result with a second of speech for each score of neutral, the first of them by speaker 0."""
    parts = tuple(
        Utterance(
            **dict(EmotionScores.of({"anger": 1 - score, "neutral": score}, output)),
            start_s=2 * number,
            end_s=2 * number + 1,
            speaker=min(number, 1) if len(scores) > 1 else None,
        )
        for number, score in enumerate(scores)
    )
    lanes = (parts[:1], parts[1:]) if len(scores) > 1 else ()
    speakers = [
        Speaker(**dict(MeanScores.over(lane)), speaker=number, speech_s=len(lane)) for number, lane in enumerate(lanes)
    ]
    means = dict(MeanScores.over(parts))
    channel = Channel(**means, channel=0, speech_s=len(parts), speakers=tuple(speakers) or None, utterances=parts)
    return Result(
        status="classified",
        source=Source(key="a.wav"),
        audio=Audio(container="wav", codec="pcm", sample_rate_hz=16000, channels=1, duration_s=2 * len(parts)),
        model=MODEL,
        **means,
        channels=(channel,),
        processing=Processing.finished_now(),
    )


def test_every_part_with_a_lower_score_is_marked_and_keeps_its_label() -> None:
    result = result_of(0.9, 0.6, 0.55)
    marked = result.marked(0.7)

    (channel,) = marked.channels or ()
    assert [part.unsure for part in channel.utterances] == [None, True, True]
    assert [speaker.unsure for speaker in channel.speakers or ()] == [None, True]
    assert marked.unsure is channel.unsure is True  # the mean is 0.683
    assert marked.unsure_below == 0.7
    assert (marked.emotion, marked.scores) == (result.emotion, result.scores)


def test_a_score_at_the_threshold_is_not_unsure() -> None:
    assert result_of(0.7).marked(0.7).unsure is None


def test_another_threshold_replaces_the_flags_and_zero_removes_them() -> None:
    result = result_of(0.9, 0.6)

    assert result.marked(0.95).marked(0.7) == result.marked(0.7)
    assert result.marked(0.95).marked(0.0) == result
    assert "unsure" not in result.to_json()


def test_the_document_names_its_threshold_even_if_nothing_is_unsure() -> None:
    document = json.loads(result_of(0.9).marked(0.5).to_json())

    assert document["unsure_below"] == 0.5
    assert "unsure" not in document


def test_figures_keep_the_flags() -> None:
    marked = Result.model_validate_json(result_of(0.9, 0.6, 0.55).marked(0.7).to_json()).with_figures()

    (channel,) = marked.channels or ()
    assert [speaker.unsure for speaker in channel.speakers or ()] == [None, True]
    assert [part.unsure for part in channel.utterances] == [None, True, True]


def test_dimensions_have_no_flags() -> None:
    result = result_of(0.1, output=Output.LINEAR)

    assert result.marked(0.9) == result


@pytest.mark.parametrize(
    ("per", "cells"), [("utterance", [None, "true"]), ("channel", [None, "true"]), ("recording", [None])]
)
def test_csv_has_a_column_at_its_end(per: str, cells: list[str | None]) -> None:
    table = CsvTable(LABELS, LABELS, per)  # type: ignore[arg-type]

    assert table.header[-1] == "unsure"
    assert [row[-1] for row in table.values(result_of(0.9, 0.6).marked(0.7))] == cells


def test_words_name_the_score_and_the_threshold() -> None:
    assert doubt_in_words(result_of(0.9, 0.8)) is None
    assert doubt_in_words(result_of(0.9, 0.8).marked(0.5)) is None
    assert doubt_in_words(result_of(0.55).marked(0.6)) == "Unsure: the mean score of neutral is 55%, below 60%."
    assert doubt_in_words(result_of(0.9, 0.55).marked(0.6)) == "The scores of 1 of 2 utterances are below 60%."


def test_the_report_says_what_is_unsure() -> None:
    page = render(result_of(0.6, 0.55).marked(0.7))

    assert "Unsure: the mean score of neutral is 57%, below 70%." in page
    assert '<p class="mood">Neutral (score 60%), unsure</p>' in page
    assert '"unsureBelow":0.7' in page
    assert "nsure:" not in render(result_of(0.6, 0.55))
