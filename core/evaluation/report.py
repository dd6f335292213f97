"""The figures of an evaluation on labelled recordings, as in figures.json: metrics, intervals, calibration, subsets."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from core.evaluation.calibration import Calibration
from core.evaluation.emotions import FAILED, NO_SPEECH, Metrics, Prediction, compute_metrics
from core.evaluation.figures import Estimate, estimate, estimate_difference, unweighted_accuracy
from core.evaluation.predictions import (
    OTHER,
    Figures,
    Predictions,
    bootstrap_groups,
    chance_in_words,
    is_more_than_chance,
    outside_in_words,
    points,
    rough_in_words,
)
from core.formatting import counted
from core.results import Model

TELEPHONE_RATE_HZ = 8000
"""Recordings with at most this sample rate have no sound above the telephone band."""
_MIN_LABELS = 2
_DURATION_LIMITS_S = (2.0, 6.0)
_DURATIONS = ("under 2 s", "2 to 6 s", "over 6 s")
"""A model classifies at most six seconds at once."""


@dataclass(frozen=True)
class Subset:
    """The figures of some recordings.

    Attributes
    ----------
    calibration_error
        The expected calibration error; None if no recording has a score.
    calibration_error_by_chance
        What a calibrated model has with as many recordings, as in `Calibration.chance_error`.
    """

    recordings: int
    unweighted_accuracy: Estimate
    calibration_error: float | None
    calibration_error_by_chance: float | None


@dataclass(frozen=True)
class ModelComparison:
    """Two models on the recordings whose label both have.

    Attributes
    ----------
    model
        The other model.
    figures
        The figures of the evaluated model on these recordings.
    others
        The figures of the other model.
    difference
        The paired difference of the unweighted accuracy, the evaluated model less the other.
    is_more_than_chance
        Whether its interval excludes zero and has enough speakers.
    """

    model: Model
    recordings: int
    figures: Figures
    others: Figures
    difference: Estimate
    is_more_than_chance: bool

    @property
    def in_words(self) -> Iterator[str]:
        """The meaning of the difference, as sentences."""
        chance = chance_in_words(self.difference, is_more=self.is_more_than_chance)
        recordings = counted(self.recordings, "recording")
        yield f"Difference: {points(self.difference)} on {recordings} whose label both models have, {chance}."
        yield from outside_in_words("the evaluated model", [self.figures])
        yield from outside_in_words(self.model.id, [self.others])


@dataclass(frozen=True, kw_only=True)
class EmotionReport:
    """The metrics of an evaluation, and how far they hold.

    Attributes
    ----------
    figures
        The metrics with their intervals.
    drawn
        What the bootstrap of the intervals draws.
    calibration
        None if no recording has a score.
    speakers, durations, conditions
        The figures of the recordings of each speaker, duration of speech and channel condition.
    """

    metrics: Metrics
    figures: Figures
    drawn: Literal["speakers", "recordings"]
    calibration: Calibration | None
    speakers: dict[str, Subset]
    durations: dict[str, Subset]
    conditions: dict[str, Subset]
    comparison: ModelComparison | None = None

    def to_json(self) -> str:
        """Format the report as a JSON object, with the fields of the metrics at its top."""
        figures = asdict(self.figures)
        intervals = {name: figures[name] for name in ("unweighted_accuracy", "macro_f1", "recall")}
        subsets = {name: _as_dict(getattr(self, name)) for name in ("speakers", "durations", "conditions")}
        comparison = self.comparison and asdict(self.comparison) | {
            "model": self.comparison.model.model_dump(mode="json", exclude_none=True)
        }
        document = {
            **asdict(self.metrics),
            "intervals": {"drawn": self.drawn, **intervals},
            "calibration": self.calibration and asdict(self.calibration),
            **subsets,
            "comparison": comparison,
        }
        return json.dumps(document, indent=2, ensure_ascii=False)

    @property
    def notes(self) -> Iterator[str]:
        """The meaning of the figures, as sentences."""
        yield f"Intervals are 95 % intervals of a bootstrap over {self.drawn}."
        if self.drawn == "recordings":
            yield "They are too narrow for other speakers: name at least two in the column speaker."
        else:
            yield from rough_in_words(len(self.speakers))
        if self.calibration:
            yield self.calibration.in_words


def report_of(rows: Sequence[Prediction], labels: Sequence[str]) -> EmotionReport:
    """Compute the report of at least one prediction.

    Parameters
    ----------
    labels
        The model's labels.
    """
    predictions = _predictions(rows, labels)
    has_speakers = all(row.speaker for row in rows) and len({row.speaker for row in rows}) > 1
    return EmotionReport(
        metrics=compute_metrics(rows),
        figures=Figures.of(predictions),
        drawn="speakers" if has_speakers else "recordings",
        calibration=_calibration(rows),
        speakers=_subsets(rows, labels, lambda row: row.speaker),
        durations=_subsets(rows, labels, _duration, _DURATIONS),
        conditions=_subsets(rows, labels, lambda row: row.condition),
    )


def compare_models(
    rows: Sequence[Prediction], others: Sequence[Prediction], labels: Sequence[str], model: Model
) -> ModelComparison | None:
    """Compare the predictions of two models for the same recordings; None if they share fewer than two labels.

    Parameters
    ----------
    others
        The predictions of the other model, in any order.
    labels
        The labels of the evaluated model.
    model
        The other model.
    """
    by_recording = {(row.path, row.emotion): row for row in others}
    pairs = [(row, by_recording[row.path, row.emotion]) for row in rows if (row.path, row.emotion) in by_recording]
    if len({row.emotion for row, _ in pairs}) < _MIN_LABELS:
        return None
    own, other = (_predictions([pair[number] for pair in pairs], labels) for number in (0, 1))
    difference = estimate_difference(own.counts(), other.counts(), unweighted_accuracy)[0]
    return ModelComparison(
        model,
        len(pairs),
        Figures.of(own),
        Figures.of(other),
        difference,
        is_more_than_chance=is_more_than_chance(difference, own),
    )


def _predictions(rows: Sequence[Prediction], labels: Sequence[str]) -> Predictions:
    others = (NO_SPEECH, FAILED, OTHER)
    numbers = {name: number for number, name in enumerate((*labels, *others))}
    return Predictions(
        tuple(labels),
        np.array([numbers[row.emotion] for row in rows], np.int64),
        np.array([numbers.get(row.predicted, numbers[OTHER]) for row in rows], np.int64),
        bootstrap_groups([row.speaker for row in rows]),
        others,
    )


def _calibration(rows: Sequence[Prediction]) -> Calibration | None:
    scored = [(row.score, row.predicted == row.emotion) for row in rows if row.score is not None]
    return Calibration.of([score for score, _ in scored], [right for _, right in scored]) if scored else None


def _subsets(
    rows: Sequence[Prediction], labels: Sequence[str], key: Callable[[Prediction], str], order: Sequence[str] = ()
) -> dict[str, Subset]:
    """Return the figures of the recordings with each key; recordings with an empty key belong to none."""
    found: dict[str, list[Prediction]] = {name: [] for name in order}
    for row in rows if order else sorted(rows, key=key):
        found.setdefault(key(row), []).append(row)
    return {name: _subset(part, labels) for name, part in found.items() if name and part}


def _subset(rows: Sequence[Prediction], labels: Sequence[str]) -> Subset:
    accuracy = estimate(_predictions(rows, labels).counts(), unweighted_accuracy)[0]
    calibration = _calibration(rows)
    if not calibration:
        return Subset(len(rows), accuracy, None, None)
    return Subset(len(rows), accuracy, calibration.expected_error, calibration.chance_error)


def _duration(row: Prediction) -> str:
    if row.speech_s is None:
        return ""
    return _DURATIONS[sum(row.speech_s > limit for limit in _DURATION_LIMITS_S)]


def _as_dict(subsets: dict[str, Subset]) -> dict[str, object]:
    return {name: asdict(subset) for name, subset in subsets.items()}
