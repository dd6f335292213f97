"""The metrics on recordings with known values of dimensions: concordance and correlation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from core.evaluation.concordance import concordance, correlation
from core.evaluation.manifest import RatedRecording


@dataclass(frozen=True)
class RatedPrediction:
    """The model's values for a rated recording; empty without speech or if the recording failed."""

    truth: Mapping[str, float]
    predicted: Mapping[str, float]


@dataclass(frozen=True)
class DimensionMetrics:
    """The agreement on one dimension.

    Attributes
    ----------
    recordings
        The number of recordings with a known and a predicted value.
    concordance
        Lin's concordance correlation coefficient; None if it is not defined.
    correlation
        Pearson's correlation coefficient; None if it is not defined.
    """

    recordings: int
    concordance: float | None
    correlation: float | None


@dataclass(frozen=True)
class DimensionsReport:
    """The metrics of an evaluation.

    Attributes
    ----------
    recordings
        The number of recordings.
    without_values
        The number of recordings without a prediction: they contain no speech, or failed.
    """

    recordings: int
    without_values: int
    dimensions: dict[str, DimensionMetrics]

    def to_json(self) -> str:
        """Format the metrics as a JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def values_beyond(rated: Iterable[RatedRecording], limits: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest known value of each dimension that exceeds the limits."""
    known: dict[str, list[float]] = {}
    for item in rated:
        for name, value in item.values.items():
            known.setdefault(name, []).append(value)
    ranges = {name: (min(values), max(values)) for name, values in known.items()}
    return {name: (low, high) for name, (low, high) in ranges.items() if low < limits[0] or high > limits[1]}


def compute_dimension_metrics(rows: Sequence[RatedPrediction]) -> DimensionsReport:
    """Compute the metrics of each dimension that has a known value."""
    names = dict.fromkeys(name for row in rows for name in row.truth)
    return DimensionsReport(
        recordings=len(rows),
        without_values=sum(not row.predicted for row in rows),
        dimensions={name: _metrics(rows, name) for name in names},
    )


def _metrics(rows: Iterable[RatedPrediction], name: str) -> DimensionMetrics:
    pairs = [(row.truth[name], row.predicted[name]) for row in rows if name in row.truth and name in row.predicted]
    truth, predicted = np.array(pairs, np.float64).reshape(-1, 2).T
    return DimensionMetrics(len(pairs), concordance(truth, predicted), correlation(truth, predicted))
