"""Calibration: whether a score of 0.8 is right in 80 % of the cases.

Guo et al., "On Calibration of Modern Neural Networks" (2017), https://arxiv.org/abs/1706.04599, sections 2 and 3.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.formatting import counted

BINS = 15
"""The number of bins of Guo et al."""

_DRAWS = 2_000
_CHANCE_QUANTILE = 0.95

_SIZE = 300
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 34, 14, 44
"""Sizes of the picture in pixels."""


@dataclass(frozen=True)
class Bin:
    """The clips whose scores are within a bin.

    Attributes
    ----------
    low, high
        The limits of the bin. A score equal to `low` belongs to the bin below.
    score
        The mean score of the classified label.
    accuracy
        The share of the clips that are correct.
    """

    low: float
    high: float
    clips: int
    score: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """The agreement of scores with accuracy.

    Attributes
    ----------
    clips
        The number of clips with a score.
    expected_error
        The expected calibration error: the mean difference of a bin's accuracy and mean score, weighted by its clips.
    chance_error
        The error that 95 % of calibrated models with these scores stay below. Fewer clips raise it.
    bins
        The bins that have clips, in equal steps of the score.
    """

    clips: int
    expected_error: float
    chance_error: float
    bins: tuple[Bin, ...]

    @classmethod
    def of(cls, scores: npt.ArrayLike, is_correct: npt.ArrayLike) -> "Calibration":
        """Compute the calibration of at least one clip.

        Parameters
        ----------
        scores
            The score of the classified label, shape ``(n,)``, from 0 to 1.
        is_correct
            Whether that label is the clip's, shape ``(n,)``.
        """
        known, correct = np.asarray(scores, np.float64), np.asarray(is_correct, np.bool_)
        numbers = np.clip(np.ceil(known * BINS).astype(np.int64) - 1, 0, BINS - 1)
        bins = tuple(
            Bin(
                number / BINS,
                (number + 1) / BINS,
                int(inside.sum()),
                float(known[inside].mean()),
                float(correct[inside].mean()),
            )
            for number in np.unique(numbers).tolist()
            for inside in [numbers == number]
        )
        error = sum(each.clips * abs(each.accuracy - each.score) for each in bins) / known.size
        return cls(known.size, float(error), _chance_error(known, numbers), bins)

    @property
    def in_words(self) -> str:
        """The error as a sentence, with its direction."""
        bias = sum(each.clips * (each.score - each.accuracy) for each in self.bins) / self.clips
        direction = "too high" if bias > 0 else "too low"
        return (
            f"Expected calibration error {self.expected_error:.3f}: scores are {abs(bias):.3f} {direction} on average. "
            f"{self.chance_in_words}"
        )

    @property
    def chance_in_words(self) -> str:
        """The error by chance as a sentence."""
        return f"With {counted(self.clips, 'clip')}, a calibrated model has up to {self.chance_error:.3f} by chance."


def reliability_diagram_svg(calibration: Calibration) -> str:
    """Draw the accuracy of each bin over its scores as SVG. Bars of a calibrated model reach the diagonal."""
    width, height = _LEFT + _SIZE + _RIGHT, _TOP + _SIZE + _BOTTOM
    title = f"Reliability diagram of {calibration.clips:,} clips, error {calibration.expected_error:.3f}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13" role="img"><title>{title}</title>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/><text x="{_LEFT}" y="20">{title}</text>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIZE}" height="{_SIZE}" fill="none" stroke="#999"/>',
        *_axes(),
        *(_bar(each) for each in calibration.bins),
        f'<path d="M{_x(0):g} {_y(0):g}L{_x(1):g} {_y(1):g}" stroke="#111" stroke-dasharray="5 4"/>',
    ]
    return "".join(parts) + "</svg>\n"


def _chance_error(scores: npt.NDArray[np.float64], numbers: npt.NDArray[np.int64]) -> float:
    """Draw the errors of calibrated models, whose clips are correct with the probability of their score.

    The accuracy of each bin is drawn from a normal distribution.
    """
    variances = np.bincount(numbers, scores * (1 - scores), BINS)
    draws = np.random.default_rng(0).standard_normal((_DRAWS, BINS)) * np.sqrt(variances)
    return float(np.quantile(np.abs(draws).sum(axis=1) / scores.size, _CHANCE_QUANTILE))


def _bar(found: Bin) -> str:
    """Return the bar of a bin up to its accuracy, with a point at its mean score and its counts as a tooltip."""
    x, y = _x(found.low), _y(found.accuracy)
    described = f"{found.clips:,} clips, mean score {found.score:.2f}, {found.accuracy:.0%} correct"
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{_x(found.high) - x:.1f}" height="{_y(0) - y:.1f}" '
        f'fill="#0072b2" fill-opacity="0.7" stroke="#fff"><title>{described}</title></rect>'
        f'<circle cx="{_x(found.score):.1f}" cy="{y:.1f}" r="3.5" fill="#d55e00"/>'
    )


def _axes() -> Iterator[str]:
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        yield f'<text x="{_x(tick):g}" y="{_TOP + _SIZE + 17}" text-anchor="middle" fill="#555">{tick:g}</text>'
        yield f'<text x="{_LEFT - 8}" y="{_y(tick) + 4:g}" text-anchor="end" fill="#555">{tick:.0%}</text>'
    yield f'<text x="{_x(0.5):g}" y="{_TOP + _SIZE + 36}" text-anchor="middle" fill="#555">score</text>'
    yield (
        f'<text transform="translate(12 {_y(0.5):g}) rotate(-90)" text-anchor="middle" fill="#555">'
        "share that is correct</text>"
    )


def _x(score: float) -> float:
    return _LEFT + _SIZE * score


def _y(accuracy: float) -> float:
    return _TOP + _SIZE * (1 - accuracy)
