"""Concordance on recordings with known values of dimensions: the manifest and the metrics."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from core.concordance import concordance, correlation
from core.errors import ManifestUnreadable
from core.evaluation import read_columns


@dataclass(frozen=True)
class RatedRecording:
    """A recording and its known values, by dimension."""

    path: Path
    values: Mapping[str, float]


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


def read_rated_manifest(manifest: Path, dimensions: Sequence[str]) -> tuple[list[RatedRecording], bool]:
    """Read a CSV file with the column ``path`` and a column of numbers for at least one dimension.

    An empty cell means that the value is not known.

    Parameters
    ----------
    manifest
        The file. Relative paths start at its folder.
    dimensions
        The model's dimensions.

    Returns
    -------
    The recordings with at least one known value, and whether the file has emotions too.

    Raises
    ------
    ManifestUnreadable
        If the file or the columns are missing, or a cell is not a number.
    """
    header, rows = read_columns(manifest)
    columns = {name: column for name in dimensions for column in header if column.strip().lower() == name.lower()}
    if "path" not in header or not columns:
        raise ManifestUnreadable(
            f"{manifest} needs a header with the column path and at least one of {', '.join(dimensions)}, because the "
            "model returns values instead of emotions."
        )
    rated = [
        RatedRecording(manifest.parent / (row["path"] or ""), values)
        for line, row in rows
        if (values := dict(_values(manifest, line, row, columns)))
    ]
    if not rated:
        raise ManifestUnreadable(f"The columns {', '.join(columns)} in {manifest} have no values.")
    return rated, "emotion" in header


def _values(
    manifest: Path, line: int, row: Mapping[str, str | None], columns: Mapping[str, str]
) -> Iterator[tuple[str, float]]:
    for name, column in columns.items():
        text = (row[column] or "").strip()
        if not text:
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ManifestUnreadable(f"Line {line} of {manifest} has {text!r} in the column {column}, not a number.")
        yield name, value


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
