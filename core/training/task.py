"""The clips of a training, and the networks that are trained on parts of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from core.checkpoints.checkpoint import Checkpoint
from core.checkpoints.network import SpeechNetwork
from core.evaluation.figures import Indices
from core.training.augmentation import CLEAN_NAME, Copy
from core.training.batches import LabelledClips
from core.training.cache import Array, ArrayCache
from core.training.head import Examples, fit_head, head_logits
from core.training.network import start_network
from core.training.speech import LabelledSpeech, Track
from core.training.splits import Split
from core.training.states import network_logits
from core.training.temperature import fit_temperature
from core.training.tuning import Tuner


@dataclass(frozen=True)
class Task:
    """The clips, as every step needs them.

    Attributes
    ----------
    conditions
        The conditions of the test, by name.
    means
        The means of the states in each condition, for each clip.
    changed
        The same of randomly changed copies, to train the head with; empty without augmentation.
    """

    start: Checkpoint
    labels: tuple[str, ...]
    speech: Sequence[LabelledSpeech]
    targets: Indices
    groups: Indices
    splits: Sequence[Split]
    conditions: Mapping[str, Copy]
    means: Mapping[str, Sequence[Array]]
    changed: Sequence[Array]
    tuner: Tuner | None
    cache: ArrayCache
    seed: int

    def fit(self, split: Split, track: Track) -> tuple[SpeechNetwork, int]:
        """Train a network on the training set of a split, and return the steps of the head.

        The validation set chooses these steps and the epoch of the layers.
        """
        network = start_network(self.start, self.labels, self.seed)
        steps = fit_head(network, self._examples(split.training), self._validation(split.validation))
        if self.tuner:
            self.tuner.tune(network, self._clips(split.training), self._clips(split.validation), track)
        return network, steps

    def fit_all(self, steps: int, track: Track) -> SpeechNetwork:
        """Train a network on all clips, the layers for all epochs."""
        network, everything = start_network(self.start, self.labels, self.seed), np.arange(self.targets.size)
        fit_head(network, self._examples(everything), None, steps)
        if self.tuner:
            self.tuner.tune(network, self._clips(everything), None, track)
        return network

    def logits(self, network: SpeechNetwork, index: int, condition: str) -> Array:
        """Compute the logits of a clip in a condition, shape ``(utterances, labels)``."""
        if self.tuner:
            return network_logits(network, self.speech[index], self.cache, self.conditions[condition])
        return head_logits(network, self.means[condition][index])

    def temperature(self, network: SpeechNetwork, validation: Indices) -> float:
        """Fit the temperature of a network on its validation set.

        A head alone learns little from changed copies, and the temperature that they need makes the scores of clean
        clips far too low: docs/decisions/0042-training.md.
        """
        logits, targets = [], []
        conditions = self._validated if self.tuner else [CLEAN_NAME]
        for condition, index in product(conditions, validation.tolist()):
            logits.append(self.logits(network, index, condition))
            targets += [self.targets[index]] * len(logits[-1])
        return fit_temperature(np.concatenate(logits), np.array(targets, np.int64))

    @property
    def _validated(self) -> list[str]:
        """All conditions, or only the clean one without augmentation."""
        return list(self.conditions) if self.changed else [CLEAN_NAME]

    def _examples(self, indices: Indices) -> Examples:
        means = [self.means[CLEAN_NAME], *([self.changed] if self.changed else [])]
        return Examples.joined([Examples.of(each, self.targets, indices) for each in means])

    def _validation(self, indices: Indices) -> Examples:
        """Return the clips in the validated conditions."""
        means = [self.means[condition] for condition in self._validated]
        return Examples.joined([Examples.of(each, self.targets, indices) for each in means])

    def _clips(self, indices: Indices) -> LabelledClips:
        return LabelledClips([self.speech[index] for index in indices], self.targets[indices])
