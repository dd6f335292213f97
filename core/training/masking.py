"""SpecAugment in time: spans of an utterance's features are masked, so that no single moment decides.

Park et al., "SpecAugment" (2019), https://arxiv.org/abs/1904.08779, as transformers applies it to wav2vec 2.0. Its code
is not used, because it refuses clips shorter than a span and adds a tensor to the checkpoint.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from core.checkpoints.network import SpeechNetwork

_SPAN_FRAMES = 10
"""A fifth of a second, as in transformers."""
_MASKED_SHARE = 0.15
"""The share of the frames that spans begin to cover, before they overlap."""


@contextmanager
def masked_spans(network: SpeechNetwork) -> Iterator[None]:
    """Let the encoder of a network mask spans while the network is in training mode."""
    hook = network.base_model.feature_projection.dropout.register_forward_hook(_mask)
    try:
        yield
    finally:
        hook.remove()


def _mask(module: nn.Module, _inputs: tuple[torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """Set spans of features, shape ``(batch, frames, hidden)``, to zero. They are drawn for each row."""
    if not module.training:
        return features
    # PyTorch's random numbers, because the Trainer saves their state.
    begins = torch.rand(features.shape[:2]) < _MASKED_SHARE / _SPAN_FRAMES
    reached = nn.functional.pad(begins.float(), (_SPAN_FRAMES - 1, 0))
    is_masked = nn.functional.max_pool1d(reached, _SPAN_FRAMES, stride=1) > 0
    return features.masked_fill(is_masked.to(features.device)[..., None], 0.0)
