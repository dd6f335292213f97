"""The parity bound: how close a serving package must be to its reference."""

from collections.abc import Iterable

import numpy as np

from core.model.classifier import Logits, softmax
from core.model.package import ParityReport

MIN_AGREEMENT = 0.99
MAX_MEAN_SCORE_CHANGE = 0.005

_TIE = 0.01
"""Emotions whose scores are closer than this in the reference are equally right."""


def meets_bound(parity: ParityReport) -> bool:
    """Return whether a package may replace the reference."""
    return parity.agreement >= MIN_AGREEMENT and parity.mean_score_change <= MAX_MEAN_SCORE_CHANGE


def compare(reference: Iterable[Logits], candidate: Iterable[Logits]) -> ParityReport:
    """Compare two networks' logits of the same clips, each of shape ``(labels,)``.

    The networks agree on a clip if the candidate's emotion has the reference's best score, or one closer than 0.01.
    """
    left, right = np.stack(list(reference)), np.stack(list(candidate))
    scores = np.stack([softmax(row) for row in left]), np.stack([softmax(row) for row in right])
    chosen = np.take_along_axis(scores[0], right.argmax(axis=1)[:, None], axis=1)[:, 0]
    changes = np.abs(scores[0] - scores[1])
    return ParityReport(
        clips=len(left),
        agreement=float((scores[0].max(axis=1) - chosen < _TIE).mean()),
        mean_score_change=float(changes.mean()),
        largest_score_change=float(changes.max()),
        largest_logit_change=float(np.abs(left - right).max()),
    )
