"""Figures of predictions with confidence intervals from a bootstrap over speakers.

Clips of one speaker resemble each other, so the bootstrap draws speakers instead of clips. Without speakers, each clip
counts as its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
"""Shape ``(n,)``."""
Counts = npt.NDArray[np.int64]
"""Confusion matrices, shape ``(..., labels, predictions)``. The first predictions are the labels."""
Values = npt.NDArray[np.float64]

_DRAWS = 2000
_PERCENTILES = (2.5, 97.5)
_SEED = 1


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def count(truth: Indices, predicted: Indices, groups: Indices, labels: int, predictions: int | None = None) -> Counts:
    """Count the predictions of each group, shape ``(groups, labels, predictions)``.

    Parameters
    ----------
    groups
        The index of each clip's speaker.
    predictions
        The number of possible predictions, by default that of the labels.
    """
    counts = np.zeros((groups.max(initial=-1) + 1, labels, predictions or labels), np.int64)
    np.add.at(counts, (groups, truth, predicted), 1)
    return counts


def recalls(counts: Counts) -> Values:
    """Return the share of each label's clips that are correct, shape ``(..., labels)``; NaN without clips."""
    correct, clips = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1)
    shares: Values = np.divide(correct, clips, out=np.full(clips.shape, np.nan), where=clips > 0)
    return shares


def unweighted_accuracy(counts: Counts) -> Values:
    """Return the mean of the recalls, over the labels that have clips."""
    return _mean(recalls(counts), counts)


def macro_f1(counts: Counts) -> Values:
    """Return the mean F1 score of the labels that have clips."""
    correct, clips = np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1)
    predicted = counts.sum(axis=-2)[..., : clips.shape[-1]]
    scores = np.divide(2.0 * correct, clips + predicted, out=np.zeros(clips.shape), where=clips + predicted > 0)
    return _mean(scores, counts)


def _mean(values: Values, counts: Counts) -> Values:
    has_clips = counts.sum(axis=-1) > 0
    total = np.where(has_clips, values, 0.0).sum(axis=-1)
    mean: Values = total / np.maximum(has_clips.sum(axis=-1), 1)
    return mean


def estimate(counts: Counts, figure: Callable[[Counts], Values]) -> list[Estimate]:
    """Compute a figure and its interval.

    Parameters
    ----------
    counts
        Shape ``(groups, labels, predictions)``.
    figure
        A function of this module.

    Returns
    -------
    One estimate, or one for each label.
    """
    return _estimates(figure(counts.sum(axis=0)), figure(_redrawn(counts)))


def estimate_difference(counts: Counts, others: Counts, figure: Callable[[Counts], Values]) -> list[Estimate]:
    """Compute the difference of a figure between two models on the same clips, with its paired interval."""
    value = figure(counts.sum(axis=0)) - figure(others.sum(axis=0))
    return _estimates(value, figure(_redrawn(counts)) - figure(_redrawn(others)))


def _redrawn(counts: Counts) -> Counts:
    """Return the counts of each draw of the bootstrap, shape ``(draws, labels, predictions)``."""
    groups = counts.shape[0]
    drawn = np.random.default_rng(_SEED).multinomial(groups, np.full(groups, 1 / groups), _DRAWS)
    redrawn: Counts = np.tensordot(drawn, counts, axes=1)
    return redrawn


def _estimates(value: Values, drawn: Values) -> list[Estimate]:
    low, high = np.nanpercentile(drawn, _PERCENTILES, axis=0)
    rows: Sequence[Values] = [np.atleast_1d(part) for part in (value, low, high)]
    return [Estimate(*map(float, row)) for row in zip(*rows, strict=True)]
