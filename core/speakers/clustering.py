"""Separates the utterances of one channel into two voices by their embeddings.

Every candidate split is refined by 2-means, and the best score wins. The score allows for unequal shares: in many
calls, one voice talks most of the time. See docs/decisions/0045-two-voices.md.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]
"""Candidate splits, shape ``(splits, utterances)``: True for one voice, False for the other."""

Mode = Literal["2", "auto"]

MAX_DECIDING = 256
"""The longest utterances decide, so that the time and the memory of long recordings stay small."""

_ENTROPY_WEIGHT = 0.2
"""Per bit: two voices with equal shares gain 0.2."""
_MIN_UTTERANCES = 2
_MIN_TIME_S = 2.0
"""Two utterances of a second or less are often far from all others, although their speaker is the same."""
_MIN_TIME_SHARE = 0.03
_MAX_SIMILARITY = 0.50
_MAX_SIMILARITY_TO_WITHIN = 0.75
_REFINEMENTS = (2, 18)
"""Iterations of 2-means before the first candidates, and before the second ones."""


@dataclass(frozen=True)
class Voices:
    """How a channel's utterances are divided into voices.

    Attributes
    ----------
    labels
        0 or 1 for each utterance, shape ``(n,)``, numbered in order of first appearance; None for one voice.
    similarity
        Cosine between the mean embeddings of the best split, accepted or not; None if there is no split.
    """

    labels: npt.NDArray[np.int64] | None
    similarity: float | None


@dataclass(frozen=True)
class _Scored:
    masks: Masks
    means: Floats
    """Unit means of both sides, shape ``(2, splits, features)``."""
    scores: Floats


def split(embeddings: Floats, durations_s: npt.ArrayLike, mode: Mode) -> Voices:
    """Divide the utterances of one channel into two voices.

    The labels do not depend on the order of the utterances, except for the voices' numbers.

    Parameters
    ----------
    embeddings
        Unit vectors, shape ``(n, features)``.
    durations_s
        Duration of each utterance, shape ``(n,)``.
    mode
        ``"2"`` splits whenever two embeddings differ. ``"auto"`` splits only if the voices are clearly different.
    """
    durations = np.asarray(durations_s, np.float32)
    # In a fixed order, rounding and ties are the same for every order of the utterances.
    order = np.lexsort((*embeddings.T[:2], -durations))
    deciding = order[:MAX_DECIDING]
    best = _best_split(embeddings[deciding], durations[deciding], mode)
    if best is None:
        return Voices(None, None)
    first, second = best.means[:, 0]
    similarity = float(first @ second)
    if mode == "auto":
        within = _cosine_within(best.masks[0], embeddings[deciding])
        if similarity >= min(_MAX_SIMILARITY, _MAX_SIMILARITY_TO_WITHIN * within):
            return Voices(None, similarity)
    is_first = embeddings @ first > embeddings @ second
    is_first[deciding] = best.masks[0]
    return Voices((is_first != is_first[0]).astype(np.int64), similarity)


def _best_split(embeddings: Floats, durations: Floats, mode: Mode) -> _Scored | None:
    """Return the split with the highest score; None if no split has enough speech on each side."""
    if len(durations) <= 1:
        return None
    scored = _score(_candidates(embeddings), embeddings, durations)
    is_eligible = _has_enough_speech(scored.masks, durations)
    if mode == "2" and not is_eligible.any():
        is_eligible = np.asarray(scored.masks.any(axis=1) & ~scored.masks.all(axis=1))
    if not is_eligible.any():
        return None
    best = [int(np.where(is_eligible, scored.scores, -np.inf).argmax())]
    return _Scored(scored.masks[best], scored.means[:, best], scored.scores[best])


def _candidates(embeddings: Floats) -> Masks:
    """Return refined splits: each cluster of average linkage against the rest, and three starts of 2-means."""
    cosines = embeddings @ embeddings.T
    masks = np.concatenate([_linkage(cosines), _starts(embeddings, cosines)])
    refined = []
    for iterations in _REFINEMENTS:
        for _ in range(iterations):
            masks = _refine(masks, embeddings)
        masks = np.unique(masks, axis=0)
        refined.append(masks)
    return np.concatenate(refined)


def _linkage(cosines: Floats) -> Masks:
    """Return each cluster of agglomerative clustering with average linkage, except the one of all utterances."""
    count = len(cosines)
    members = np.eye(count, dtype=np.bool_)
    found = [members.copy()]
    sizes = np.ones(count, np.float32)
    links = cosines.copy()
    np.fill_diagonal(links, -np.inf)
    for _ in range(count - 2):
        kept, merged = divmod(int(links.argmax()), count)
        average = (sizes[kept] * links[kept] + sizes[merged] * links[merged]) / (sizes[kept] + sizes[merged])
        links[kept] = links[:, kept] = average
        links[merged] = links[:, merged] = -np.inf
        links[kept, kept] = -np.inf
        sizes[kept] += sizes[merged]
        members[kept] |= members[merged]
        found.append(members[[kept]])
    return np.concatenate(found)


def _starts(embeddings: Floats, cosines: Floats) -> Masks:
    """Return three starts of 2-means: both sides of the principal axis, and the nearest to each of two extremes."""
    centred = embeddings - embeddings.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    farthest = divmod(int(cosines.argmin()), len(cosines))
    pairs = [farthest, (0, int(cosines[0].argmin()))]
    return np.stack([centred @ axis > 0, *(cosines[one] > cosines[other] for one, other in pairs)])


def _refine(masks: Masks, embeddings: Floats) -> Masks:
    """Return one iteration of 2-means on the sphere."""
    first, second = _means(masks, embeddings)
    return np.asarray(first @ embeddings.T > second @ embeddings.T)


def _means(masks: Masks, embeddings: Floats) -> Floats:
    """Return the unit means of both sides, shape ``(2, splits, features)``; zeros for an empty side."""
    sides = np.stack([masks, ~masks]).astype(np.float32)
    sums = sides @ embeddings
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=-1, keepdims=True), 1e-6), np.float32)


def _score(masks: Masks, embeddings: Floats, durations: Floats) -> _Scored:
    """Return the splits with their scores: how much nearer utterances are to their own mean, plus an entropy.

    The entropy of the time shares favours equal shares a little, because a few odd utterances of one voice are often
    farther from the rest than two voices are from each other.
    """
    means = _means(masks, embeddings)
    to_first, to_second = means @ embeddings.T
    own, other = np.where(masks, to_first, to_second), np.where(masks, to_second, to_first)
    share = np.clip(masks @ durations / max(float(durations.sum()), 1e-6), 1e-6, 1 - 1e-6)
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    return _Scored(masks, means, (own - other).mean(axis=1) + _ENTROPY_WEIGHT * entropy)


def _cosine_within(is_first: npt.NDArray[np.bool_], embeddings: Floats) -> float:
    """Return the mean cosine between two utterances of the same side."""
    is_pair = is_first[:, None] == is_first[None]
    np.fill_diagonal(is_pair, False)
    return float((embeddings @ embeddings.T)[is_pair].mean())


def _has_enough_speech(masks: Masks, durations: Floats) -> npt.NDArray[np.bool_]:
    sides = np.stack([masks, ~masks])
    times = sides @ durations
    min_time = max(_MIN_TIME_S, _MIN_TIME_SHARE * float(durations.sum()))
    return np.asarray(((sides.sum(axis=-1) >= _MIN_UTTERANCES) & (times >= min_time)).all(axis=0))
