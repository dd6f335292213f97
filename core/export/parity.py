"""The parity bound: how close a serving package must be to its reference."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from core.evaluation.concordance import concordance
from core.model.output import Logits, output_values
from core.model.package import ParityReport
from core.results import Output

MIN_AGREEMENT = 0.99
MIN_CONCORDANCE = 0.99
"""Of each dimension of a linear output: docs/decisions/0033-gate-of-dimensions.md."""
MAX_MEAN_SCORE_CHANGE = 0.005
"""Of a score, or of a dimension as a share of its range."""

_TIE = 0.01
"""Emotions whose scores are closer than this in the reference are equally right."""

_Scores = npt.NDArray[np.float64]
"""Shape ``(clips, labels)``."""


def meets_bound(parity: ParityReport) -> bool:
    """Return whether a package may replace the reference."""
    return parity.mean_score_change <= MAX_MEAN_SCORE_CHANGE and (
        (parity.agreement is not None and parity.agreement >= MIN_AGREEMENT)
        or (parity.concordance is not None and parity.concordance >= MIN_CONCORDANCE)
    )


def describe(parity: ParityReport) -> str:
    """Return the measured values and the bound as a sentence."""
    change = f"{parity.mean_score_change:.4f} (maximum {MAX_MEAN_SCORE_CHANGE})"
    if parity.agreement is not None:
        return (
            f"The package agrees with the reference on {parity.agreement:.1%} of {parity.clips} clips (minimum "
            f"{MIN_AGREEMENT:.0%}) with a mean score change of {change}."
        )
    lowest = "not defined" if parity.concordance is None else f"{parity.concordance:.4f}"
    return (
        f"The package's lowest concordance with the reference on {parity.clips} clips is {lowest} (minimum "
        f"{MIN_CONCORDANCE}) with a mean change of {change} of the range."
    )


def compare(
    reference: Iterable[Logits],
    candidate: Iterable[Logits],
    output: Output = Output.SOFTMAX,
    dimensions_range: tuple[float, float] | None = None,
) -> ParityReport:
    """Compare two networks' logits of the same clips, each of shape ``(labels,)``.

    The networks agree on a clip if the candidate's emotion has the reference's best score, or one closer than 0.01. For
    a linear output, agreement is not defined: concordance takes its place, and changes are shares of the range.

    Parameters
    ----------
    dimensions_range
        Lowest and highest value of a linear output's dimensions. Without it, each dimension has the range of the
        reference's values.
    """
    left, right = np.stack(list(reference)), np.stack(list(candidate))
    scores, others = (np.stack([output_values(row, output) for row in rows]) for rows in (left, right))
    is_linear = output is Output.LINEAR
    changes = np.abs(scores - others)
    if is_linear:
        spread = np.maximum(np.ptp(scores, axis=0), np.finfo(np.float32).tiny)
        changes /= spread if dimensions_range is None else dimensions_range[1] - dimensions_range[0]
    return ParityReport(
        clips=len(left),
        agreement=None if is_linear else _agreement(scores, others),
        concordance=_lowest_concordance(scores, others) if is_linear else None,
        mean_score_change=float(changes.mean(axis=0).max() if is_linear else changes.mean()),
        largest_score_change=float(changes.max()),
        largest_logit_change=float(np.abs(left - right).max()),
    )


def _agreement(scores: _Scores, others: _Scores) -> float:
    chosen = np.take_along_axis(scores, others.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float((scores.max(axis=1) - chosen < _TIE).mean())


def _lowest_concordance(scores: _Scores, others: _Scores) -> float | None:
    coefficients = [concordance(*columns) for columns in zip(scores.T, others.T, strict=True)]
    defined = [coefficient for coefficient in coefficients if coefficient is not None]
    return min(defined) if len(defined) == len(coefficients) else None
