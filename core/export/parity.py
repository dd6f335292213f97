"""The parity bound: how close a serving package must be to its reference."""

from collections.abc import Iterable

import numpy as np

from core.model.classifier import Logits, softmax
from core.model.package import ParityReport

MIN_AGREEMENT = 0.99
MAX_MEAN_SCORE_CHANGE = 0.005

MIN_CLIPS = 50
"""With fewer clips, a single ambiguous clip decides whether a package meets the bound."""


def meets_bound(parity: ParityReport) -> bool:
    """Return whether a package may replace the reference."""
    return parity.agreement >= MIN_AGREEMENT and parity.mean_score_change <= MAX_MEAN_SCORE_CHANGE


def compare(reference: Iterable[Logits], candidate: Iterable[Logits]) -> ParityReport:
    """Compare two networks' logits of the same clips, each of shape ``(labels,)``."""
    left, right = np.stack(list(reference)), np.stack(list(candidate))
    scores = np.stack([softmax(row) for row in left]), np.stack([softmax(row) for row in right])
    changes = np.abs(scores[0] - scores[1])
    return ParityReport(
        clips=len(left),
        agreement=float((left.argmax(axis=1) == right.argmax(axis=1)).mean()),
        mean_score_change=float(changes.mean()),
        largest_score_change=float(changes.max()),
        largest_logit_change=float(np.abs(left - right).max()),
    )
