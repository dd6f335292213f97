"""The clips that layers are trained and chosen with, and the batches of a network's inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from core.audio.waveform import Waveform
from core.evaluation.figures import Indices
from core.model.clip_inputs import ClipGeometry
from core.model.inputs import Geometry
from core.training.augmentation import Augmentation, Copy
from core.training.cache import ArrayCache
from core.training.speech import LabelledSpeech


@dataclass(frozen=True)
class LabelledClips:
    """Clips to train or to choose with.

    Attributes
    ----------
    targets
        The index of each clip's label.
    """

    speech: Sequence[LabelledSpeech]
    targets: Indices

    def identity(self) -> list[tuple[str, int]]:
        """Return what the network learns from these clips, for the key in the cache."""
        return [(item.key, int(target)) for item, target in zip(self.speech, self.targets, strict=True)]

    def utterances(self) -> list[tuple[LabelledSpeech, int, int]]:
        """Return the clip, the number in the clip and the index of the label of each utterance."""
        return [
            (item, number, int(target))
            for item, target in zip(self.speech, self.targets, strict=True)
            for number in range(len(item.durations_s))
        ]


class ChangedUtterances(Dataset[tuple[Waveform, int]]):
    """The utterances of clips, changed at random, each with the index of its label."""

    def __init__(self, examples: LabelledClips, cache: ArrayCache, augmentation: Augmentation) -> None:
        self._rows = examples.utterances()
        self._cache = cache
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Waveform, int]:
        item, number, target = self._rows[index]
        # PyTorch's random numbers, because the Trainer saves their state.
        random = np.random.default_rng(int(torch.randint(2**62, ())))
        return self._augmentation.apply(item.waveforms(self._cache)[number], random), target


class Copies(Dataset[tuple[Waveform, int]]):
    """The utterances of clips in several conditions, each with the index of its label."""

    def __init__(self, examples: LabelledClips, cache: ArrayCache, copies: Sequence[Copy]) -> None:
        self._rows = [(*row, copy) for copy in copies for row in examples.utterances()]
        self._cache = cache

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Waveform, int]:
        item, number, target, copy = self._rows[index]
        return item.waveforms(self._cache, copy)[number], target


class Collator:
    """Makes a batch of padded windows, or of clips of one length, the median.

    Longer clips are cut at random, and shorter ones repeated.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry

    def __call__(self, rows: Sequence[tuple[Waveform, int]]) -> dict[str, torch.Tensor]:
        """Return the inputs, shape ``(rows, samples)``, and the indices of the labels, shape ``(rows,)``."""
        waveforms = [waveform for waveform, _ in rows]
        if isinstance(self._geometry, ClipGeometry):
            length = int(np.median([waveform.size for waveform in waveforms]))
            waveforms = [_of_length(waveform, length) for waveform in waveforms]
        inputs = [self._geometry.network_input(waveform) for waveform in waveforms]
        targets = torch.tensor([target for _, target in rows])
        return {"input_values": torch.from_numpy(np.stack(inputs)), "labels": targets}


def _of_length(waveform: Waveform, length: int) -> Waveform:
    # PyTorch's random numbers, because the Trainer saves their state.
    first = int(torch.randint(max(1, waveform.size - length + 1), ()))
    return np.resize(waveform[first : first + length], length)
