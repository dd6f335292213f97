"""The networks' values for each utterance, kept in the cache: the means of the hidden states, and logits."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from core.audio.waveform import Waveform
from core.checkpoints.checkpoint import Checkpoint
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.checkpoints.reference import ReferenceNetwork
from core.training.augmentation import CLEAN, Copy
from core.training.cache import Array, ArrayCache, hash_of
from core.training.speech import LabelledSpeech, Track, untracked

_VERSION = 2
"""Raised when the same network gives other states, so that the cache is not used."""


def mean_states(
    start: Checkpoint,
    network: SpeechNetwork,
    speech: Sequence[LabelledSpeech],
    cache: ArrayCache,
    track: Track = untracked,
    copy: Copy = CLEAN,
) -> list[Array]:
    """Compute the mean over time of every hidden state of a network's encoder.

    Parameters
    ----------
    start
        The checkpoint with that encoder, whose hash identifies it.
    copy
        The copy of each utterance to compute.

    Returns
    -------
    For each clip, shape ``(utterances, layers + 1, hidden)``.
    """
    geometry = geometry_of(network)

    def compute(waveform: Waveform) -> Array:
        samples = torch.from_numpy(geometry.network_input(waveform))[None]
        states = network.base_model(samples, output_hidden_states=True).hidden_states
        return np.stack([state[0].mean(dim=0).numpy() for state in states])

    architecture = network.architecture
    identity = ("states", _VERSION, start.weights_sha256, architecture.is_normalised, architecture.input_mode)
    return _each("Computing states", compute, identity, speech, cache, track, copy)


def start_logits(
    start: Checkpoint,
    speech: Sequence[LabelledSpeech],
    cache: ArrayCache,
    track: Track = untracked,
    copy: Copy = CLEAN,
) -> list[Array]:
    """Compute the logits of the start checkpoint itself: for each clip, shape ``(utterances, labels)``."""
    identity = ("logits", _VERSION, start.weights_sha256, str(start.network.architecture))
    return _each("Classifying with the start", ReferenceNetwork(start).logits, identity, speech, cache, track, copy)


def network_logits(network: SpeechNetwork, speech: LabelledSpeech, cache: ArrayCache, copy: Copy = CLEAN) -> Array:
    """Compute the logits of a clip, shape ``(utterances, labels)``."""
    geometry = geometry_of(network)
    with torch.inference_mode():
        rows = [
            network(torch.from_numpy(geometry.network_input(waveform))[None].to(network.layer_weights.device))[0]
            for waveform in speech.waveforms(cache, copy)
        ]
    return torch.stack(rows).float().cpu().numpy()


def _each(
    description: str,
    compute: Callable[[Waveform], Array],
    identity: tuple[object, ...],
    speech: Sequence[LabelledSpeech],
    cache: ArrayCache,
    track: Track,
    copy: Copy,
) -> list[Array]:
    results = []
    for item in track(speech, description, len(speech)):
        key = hash_of(item.key, identity + copy.identity)
        if key not in cache:
            with torch.inference_mode():
                cache.write(key, [np.stack([compute(waveform) for waveform in item.waveforms(cache, copy)])])
        results += cache.read(key)
    return results
