"""The PyTorch network of any supported checkpoint: the reference for every faster form.

transformers' own classes have one kind of head. They load a checkpoint with another head without an error, but then
classify with a random head. The network here has the tensor names of the checkpoint, and `core.checkpoints.checkpoint`
requires every tensor.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

from core.checkpoints.architecture import MEAN, Architecture, Dense, Encoder, dense_layers
from core.checkpoints.emotion2vec import Emotion2vecConfig, Emotion2vecEncoder

_CLASSES: Mapping[Encoder, tuple[Any, Any]] = {
    Encoder.HUBERT: (HubertConfig, HubertModel),
    Encoder.WAV2VEC2: (Wav2Vec2Config, Wav2Vec2Model),
    Encoder.WAVLM: (WavLMConfig, WavLMModel),
    Encoder.EMOTION2VEC: (Emotion2vecConfig, Emotion2vecEncoder),
}


class SpeechNetwork(nn.Module):
    """An encoder of transformers, or emotion2vec's, and a head.

    Use it in evaluation mode except for training: the published configs turn SpecAugment and layerdrop on.

    Attributes
    ----------
    architecture
        The steps that the network computes.
    config
        The config of the encoder, with the network's sizes: transformers', or `Emotion2vecConfig`.
    base_model_prefix
        The name of the encoder's module, with which the names of its tensors start.
    """

    def __init__(self, architecture: Architecture, config: Any, inner_size: int | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.config = config
        self.base_model_prefix = architecture.encoder.value
        # Otherwise, transformers 5.23 takes the last state of a weighted sum before the encoder's final norm:
        # docs/decisions/0029-weighted-sum.md.
        config.tie_last_hidden_states = True
        self.add_module(self.base_model_prefix, _CLASSES[architecture.encoder][1](config))
        if architecture.has_weighted_sum:
            states = config.num_hidden_layers + 1
            self.layer_weights = nn.Parameter(torch.ones(states) / states)
        *inner, last = dense_layers(architecture.head)
        size = config.hidden_size
        for layer in inner:
            self._add_dense(layer, size, inner_size or size)
            size = inner_size or size
        self._add_dense(last, size, len(architecture.labels))

    @property
    def base_model(self) -> Any:
        """The encoder."""
        return self.get_submodule(self.base_model_prefix)

    def _add_dense(self, layer: Dense, inputs: int, outputs: int) -> None:
        """Add a dense layer under its dotted name, with transformers' initialisation."""
        *path, last = layer.name.split(".")
        module: nn.Module = self
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        linear = nn.Linear(inputs, outputs, bias=layer.has_bias)
        nn.init.normal_(linear.weight, std=self.config.initializer_range)
        if layer.has_bias:
            nn.init.zeros_(linear.bias)
        module.add_module(last, linear)

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the logits of audio that `core.model.preprocessing` has prepared.

        Parameters
        ----------
        input_values
            Shape ``(batch, samples)``, float32.
        attention_mask
            Shape ``(batch, samples)``, 1 for audio and 0 for padding. Needed only for the input mode ``CLIP`` and a
            batch of padded clips. With ``PADDED_WINDOW``, the network was trained on the padding.

        Returns
        -------
        Logits, shape ``(batch, labels)``.
        """
        value = self._states(input_values, attention_mask)
        for step in self.architecture.head:
            if isinstance(step, Dense):
                value = self.get_submodule(step.name)(value)
            elif step is MEAN:
                value = self._mean(value, attention_mask)
            else:
                dropout = getattr(self.config, "classifier_dropout", 0.0)
                value = nn.functional.dropout(torch.tanh(value), dropout, self.training)
        return value

    def _states(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the last hidden states or the weighted sum of all, shape ``(batch, frames, hidden)``."""
        is_weighted = self.architecture.has_weighted_sum
        outputs = self.base_model(input_values, attention_mask=attention_mask, output_hidden_states=is_weighted)
        last: torch.Tensor = outputs.last_hidden_state
        if not is_weighted:
            return last
        weights = self.layer_weights.softmax(dim=-1)
        return (torch.stack(outputs.hidden_states, dim=-1) * weights).sum(dim=-1)

    def _mean(self, states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Return the mean over the frames that are not padding, shape ``(batch, size)``."""
        if attention_mask is None:
            return states.mean(dim=1)
        frames = self.base_model._get_feature_vector_attention_mask(states.shape[1], attention_mask)
        mean: torch.Tensor = (states * frames[..., None]).sum(dim=1) / frames.sum(dim=1, keepdim=True)
        return mean


def build_network(
    architecture: Architecture, config: Mapping[str, Any], inner_size: int | None = None
) -> SpeechNetwork:
    """Build a network of an architecture, with random weights.

    Parameters
    ----------
    config
        The content of config.json, or the values of `Emotion2vecConfig` by name.
    inner_size
        The number of values between the head's two dense layers; None for the size of the hidden states.
    """
    return SpeechNetwork(architecture, _CLASSES[architecture.encoder][0](**config), inner_size)
