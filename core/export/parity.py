"""The parity gate: how a serving package compares with the reference, and whether that is close enough."""

from collections.abc import Iterable

import numpy as np

from core.model.classifier import Logits, softmax
from core.model.package import ParityReport

MIN_AGREEMENT = 0.99

MAX_MEAN_SCORE_CHANGE = 0.005

MIN_CLIPS = 50
"""With fewer, one clip on the border between two emotions decides whether the bound is met."""


def meets_bound(parity: ParityReport) -> bool:
    """Whether a package may stand in for the reference."""
    return parity.agreement >= MIN_AGREEMENT and parity.mean_score_change <= MAX_MEAN_SCORE_CHANGE


def compare(reference: Iterable[Logits], candidate: Iterable[Logits]) -> ParityReport:
    """Compare logits of the same clips, each of shape ``(labels,)``."""
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
