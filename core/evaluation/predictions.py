"""Predictions of a model for clips, and their figures with 95 % intervals, for `evaluate` and `train`."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from core.evaluation.emotions import NO_ANSWERS
from core.evaluation.figures import Counts, Estimate, Indices, count, estimate, macro_f1, recalls, unweighted_accuracy

OTHER = "other label"
"""The prediction of a label that the manifest does not have."""
_ROUGH_SPEAKERS = 10
"""With fewer speakers, the interval of a bootstrap is rough and usually too narrow."""
_MIN_SPEAKERS = 6
"""With five, differences of the same sign for each speaker happen in 2 of 2 ** 5 cases, more than 5 %, by chance."""


def bootstrap_groups(speakers: Sequence[Hashable]) -> Indices:
    """Return what the bootstrap draws: the index of each clip's speaker, or of the clip if only one speaker is known.

    Parameters
    ----------
    speakers
        The speaker of each clip. Empty text and None are not known.
    """
    numbers = {speaker: number for number, speaker in enumerate(dict.fromkeys(speakers))}
    if len(numbers) <= 1 or numbers.keys() & {"", None}:
        return np.arange(len(speakers))
    return np.array([numbers[speaker] for speaker in speakers], np.int64)


@dataclass(frozen=True)
class Predictions:
    """The predictions of one model for clips.

    Attributes
    ----------
    targets, predicted
        Indices of labels, shape ``(n,)``. A prediction may be ``len(labels)`` or more, which stands for one of the
        others.
    groups
        The index of each clip's speaker; without speakers, of the clip.
    others
        The predictions that are no label.
    """

    labels: tuple[str, ...]
    targets: Indices
    predicted: Indices
    groups: Indices
    others: tuple[str, ...] = (OTHER,)

    def only(self, labels: Sequence[str]) -> "Predictions":
        """Return the predictions for the clips with some of the labels."""
        return self.where(np.isin(self.targets, [self.labels.index(label) for label in labels]))

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Predictions":
        """Return the predictions for some of the clips; those of one speaker count as clips."""
        groups = bootstrap_groups(self.groups[chosen].tolist())
        return replace(self, targets=self.targets[chosen], predicted=self.predicted[chosen], groups=groups)

    def counts(self) -> Counts:
        """Count the predictions, shape ``(groups, labels, labels + others)``."""
        predictions = len(self.labels) + len(self.others)
        return count(self.targets, self.predicted, self.groups, len(self.labels), predictions)


@dataclass(frozen=True)
class Figures:
    """The figures of one model, each with its 95 % interval.

    Attributes
    ----------
    confusion
        Label -> prediction -> number of clips.
    """

    clips: int
    unweighted_accuracy: Estimate
    macro_f1: Estimate
    recall: dict[str, Estimate]
    confusion: dict[str, dict[str, int]]

    @classmethod
    def of(cls, predictions: Predictions) -> "Figures":
        """Compute the figures of predictions."""
        counts, labels = predictions.counts(), predictions.labels
        total = counts.sum(axis=0)
        names = (*labels, *predictions.others)
        present = [number for number in range(len(labels)) if total[number].any()]
        recall = dict(zip(present, estimate(counts, lambda drawn: recalls(drawn)[..., present]), strict=True))
        return cls(
            clips=int(total.sum()),
            unweighted_accuracy=estimate(counts, unweighted_accuracy)[0],
            macro_f1=estimate(counts, macro_f1)[0],
            recall={labels[number]: recall[number] for number in present},
            confusion={
                labels[number]: {name: int(n) for name, n in zip(names, total[number], strict=True) if n}
                for number in present
            },
        )


def is_more_than_chance(difference: Estimate, predictions: Predictions) -> bool:
    """Return whether the interval of a difference excludes zero, and has speakers enough to mean that."""
    return difference.is_clear and int(predictions.groups.max(initial=-1)) + 1 >= _MIN_SPEAKERS


def chance_in_words(difference: Estimate, *, is_more: bool) -> str:
    """Return whether a difference is more than chance, in words."""
    if not is_more and difference.is_clear:
        return "from too few speakers to be more than chance"
    return "more than chance" if is_more else "not more than chance"


def outside_in_words(model_id: str, compared: Sequence[Figures]) -> list[str]:
    """Return how many answers of a model are labels that the clips do not have, as a sentence; nothing for none."""
    answers = [
        (count, name not in figures.confusion and name not in NO_ANSWERS)
        for figures in compared
        for row in figures.confusion.values()
        for name, count in row.items()
    ]
    outside = sum(count for count, is_outside in answers if is_outside)
    if not outside:
        return []
    return [
        f"{outside:,} of {sum(count for count, _ in answers):,} answers of {model_id} are labels that no compared clip "
        "has, and count as wrong. `model export --only` makes a package without such labels."
    ]


def rough_in_words(speakers: int) -> list[str]:
    """Return what few speakers mean for the intervals, as a sentence; nothing for many, or for one or none."""
    if not 1 < speakers < _ROUGH_SPEAKERS:
        return []
    few = ", and show no difference as more than chance" if speakers < _MIN_SPEAKERS else ""
    return [f"Intervals over {speakers} speakers are rough, usually too narrow{few}."]


def percent(value: Estimate | float) -> str:
    """Format a share in percent, with its interval if it has one: "71.2 % (64.0 to 77.9)"."""
    if isinstance(value, Estimate) and value.low < value.high:
        return f"{100 * value.value:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"
    return f"{100 * (value.value if isinstance(value, Estimate) else value):.1f} %"


def points(difference: Estimate) -> str:
    """Format a difference of shares in percentage points, with its interval: "+4.1 points (+0.2 to +8.9)"."""
    interval = f" ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    return f"{100 * difference.value:+.1f} points{interval if difference.low < difference.high else ''}"
