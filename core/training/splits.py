"""Splits clips into three sets by speaker: to train, to choose the number of steps, and to test."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

from core.evaluation.figures import Indices

FOLDS = 5
_MIN_SPEAKERS = 6
"""Fewer speakers are left out one at a time."""
_MIN_OTHER_SPEAKERS = 2


@dataclass(frozen=True)
class Split:
    """The indices of the clips of each set, sorted. The test set chooses nothing."""

    training: Indices
    validation: Indices
    testing: Indices


def make_splits(targets: Indices, speakers: Sequence[str], seed: int) -> list[Split]:
    """Split clips so that each is tested once, by a network that was trained without its speaker.

    Parameters
    ----------
    targets
        The index of each clip's label.
    speakers
        The speaker of each clip; empty if they are not known. The sets then share speakers.
    """
    groups = np.unique(speakers, return_inverse=True)[1].astype(np.int64) if all(speakers) else None
    clips = np.arange(targets.size)
    splits = []
    for others, testing in _folds(targets, groups, seed):
        inner_groups = groups[others] if groups is not None else None
        if inner_groups is not None and np.unique(inner_groups).size < _MIN_OTHER_SPEAKERS:
            inner_groups = None  # a validation set of the same speaker, because there is no other
        training, validation = _most_complete(targets[others], _folds(targets[others], inner_groups, seed))
        splits.append(Split(clips[others[training]], clips[others[validation]], clips[testing]))
    return splits


def _folds(targets: Indices, groups: Indices | None, seed: int) -> list[tuple[Indices, Indices]]:
    """Return the indices of each fold's other clips and of its own."""
    folds = min(FOLDS, int(np.bincount(targets).max()))
    if folds == 1:  # one clip of each label: there is nothing else to choose with
        return [(np.arange(targets.size), np.arange(targets.size))]
    splitter: Any = StratifiedKFold(folds, shuffle=True, random_state=seed)
    if groups is not None:
        speakers = np.unique(groups).size
        by_speaker = StratifiedGroupKFold(min(folds, speakers), shuffle=True, random_state=seed)
        splitter = LeaveOneGroupOut() if speakers < _MIN_SPEAKERS else by_speaker
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a label with fewer clips than folds: the command notes it
        return list(splitter.split(targets, targets, groups))


def _most_complete(targets: Indices, folds: list[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    """Return the first of the folds with the most labels in its training and its validation set."""

    def labels(fold: tuple[Indices, Indices]) -> tuple[int, int]:
        training, validation = fold
        return np.unique(targets[training]).size, np.unique(targets[validation]).size

    return max(folds, key=labels)
