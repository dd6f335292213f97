"""The report of an evaluation: intervals, subsets, calibration, and the comparison of two models."""

import json
from dataclasses import replace

import numpy as np
import pytest

from core.evaluation.emotions import FAILED, NO_SPEECH, Prediction
from core.evaluation.figures import Estimate
from core.evaluation.page import evaluation_page
from core.evaluation.predictions import percent, points
from core.evaluation.report import compare_models, report_of
from core.results import Model

LABELS = ("anger", "happy", "neutral", "sad")
MODEL = Model(id="tests/<model>", revision="1", precision="fp32", fingerprint="sha256:1", labels=LABELS)


def drawn(accuracy: float = 0.6, clips: int = 240, seed: int = 0) -> list[Prediction]:
    """Return predictions of clips from six speakers, in the same order for each accuracy and seed."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(clips):
        emotion = LABELS[number % 4]
        predicted = emotion if random.random() < accuracy else LABELS[random.integers(4)]
        seconds = (1.0, 4.0, 8.0)[number % 3]
        condition = "noisy" if number % 2 else "clean"
        rows.append(Prediction(f"{number}.wav", emotion, predicted, 0.9, f"s{number % 6}", condition, seconds))
    return rows


def test_intervals_are_over_speakers_if_every_recording_names_one_of_several() -> None:
    rows = drawn()

    assert report_of(rows, LABELS).drawn == "speakers"
    for others in ([replace(rows[0], speaker=""), *rows[1:]], [replace(row, speaker="one") for row in rows]):
        report = report_of(others, LABELS)
        assert report.drawn == "recordings"
        assert any("too narrow for other speakers" in note for note in report.notes)


def test_subsets_have_the_figures_of_their_recordings() -> None:
    rows = drawn()
    report = report_of(rows, LABELS)

    assert list(report.speakers) == [f"s{number}" for number in range(6)]
    assert list(report.durations) == ["under 2 s", "2 to 6 s", "over 6 s"]
    assert set(report.conditions) == {"clean", "noisy"}
    for name, subset in report.conditions.items():
        own = report_of([row for row in rows if row.condition == name], LABELS)
        assert subset.recordings == 120
        assert own.calibration is not None
        assert subset.unweighted_accuracy.value == pytest.approx(own.metrics.unweighted_accuracy)
        assert subset.calibration_error == own.calibration.expected_error
        assert subset.calibration_error_by_chance == own.calibration.chance_error


def test_recordings_without_a_score_count_as_wrong_but_have_no_calibration() -> None:
    rows = [
        Prediction("a", "anger", "anger", 0.8, speech_s=1.0),
        Prediction("b", "anger", NO_SPEECH, speech_s=0.0),
        Prediction("c", "sad", FAILED),
    ]
    report = report_of(rows, LABELS)

    assert report.metrics.unweighted_accuracy == report.figures.unweighted_accuracy.value == 0.25
    assert report.calibration is not None
    assert report.calibration.clips == 1
    assert report.durations["under 2 s"].recordings == 2
    assert report_of(rows[1:], LABELS).calibration is None


def test_a_comparison_is_paired() -> None:
    rows = drawn(0.7)
    better = [replace(row, predicted=row.emotion) if number % 8 == 0 else row for number, row in enumerate(rows)]

    found = compare_models(better, rows[::-1], LABELS, MODEL)

    assert found is not None
    assert found.recordings == len(rows)
    assert found.is_more_than_chance
    accuracies = [each.unweighted_accuracy.value for each in (found.figures, found.others)]
    assert found.difference.value == pytest.approx(accuracies[0] - accuracies[1])
    alike = compare_models(rows, rows, LABELS, MODEL)
    assert alike is not None
    assert not alike.is_more_than_chance


def test_a_comparison_has_the_recordings_whose_label_both_models_have() -> None:
    rows = drawn()
    others = [replace(row, predicted="bored") for row in rows if row.emotion in {"anger", "sad"}]

    found = compare_models(rows, others, LABELS, MODEL)

    assert found is not None
    assert found.recordings == 120
    assert found.others.unweighted_accuracy.value == 0.0
    assert compare_models(rows, [row for row in others if row.emotion == "sad"], LABELS, MODEL) is None


def test_few_speakers_show_no_difference_as_more_than_chance() -> None:
    for speakers, is_more in ((5, False), (6, True)):
        rows = [replace(row, speaker=f"s{number % speakers}") for number, row in enumerate(drawn(0.3))]
        right = [replace(row, predicted=row.emotion) for row in rows]

        found = compare_models(right, rows, LABELS, MODEL)

        assert found is not None
        assert found.is_more_than_chance is is_more
        chance = "more than chance." if is_more else "from too few speakers to be more than chance."
        assert next(iter(found.in_words)).endswith(f"whose label both models have, {chance}")
        [rough] = [note for note in report_of(rows, LABELS).notes if "speakers are rough" in note]
        assert ("no difference" in rough) is not is_more


def test_answers_that_no_compared_recording_has_are_counted() -> None:
    rows = drawn()
    others = [replace(row, predicted="bored" if number < 9 else NO_SPEECH) for number, row in enumerate(rows)]

    found = compare_models(rows, others, LABELS, MODEL)

    assert found is not None
    sentences = list(found.in_words)
    assert sentences[0].startswith("Difference: +")
    assert sentences[1].startswith("9 of 240 answers of tests/<model> are labels that no compared clip has")
    assert len(sentences) == 2


def test_an_interval_without_a_width_is_not_shown() -> None:
    rows = [Prediction(str(number), "anger", "anger", 0.9) for number in range(3)]

    assert percent(report_of(rows, LABELS).figures.unweighted_accuracy) == "100.0 %"
    assert points(Estimate(0.125, 0.125, 0.125)) == "+12.5 points"


def test_the_document_and_the_page_have_every_part() -> None:
    rows = drawn()
    report = replace(report_of(rows, LABELS), comparison=compare_models(rows, drawn(0.4), LABELS, MODEL))

    document = json.loads(report.to_json())
    assert document["recordings"] == 240
    assert document["unweighted_accuracy"] == document["intervals"]["unweighted_accuracy"]["value"]
    assert document["intervals"]["drawn"] == "speakers"
    assert document["comparison"]["model"]["id"] == MODEL.id
    page = evaluation_page(report, MODEL, "a&b.csv")
    assert "tests/&lt;model&gt;" in page
    assert "<model>" not in page
    for title in ("Comparison", "Confusion matrix", "By speaker", "By duration of speech", "By condition"):
        assert f"<h2>{title}</h2>" in page
    assert "Reliability diagram of 240 clips" in page
