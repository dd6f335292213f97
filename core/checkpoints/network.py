"""The PyTorch networks of the published checkpoints: the reference for every faster form.

transformers has no class with these heads. Its `…ForSequenceClassification` expects `projector` and `classifier`. It
loads the published checkpoints without an error, but then classifies with a random head. The networks here have the
published parameter names, and `core.checkpoints.checkpoint` requires every parameter.
"""

from typing import Any, cast

import torch
from torch import nn
from transformers import (
    HubertConfig,
    HubertModel,
    HubertPreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    Wav2Vec2PreTrainedModel,
)

from core.checkpoints.registry import CHECKPOINTS, Architecture

_HUBERT = CHECKPOINTS["hubert-base-ch"].architecture
_WAV2VEC2 = CHECKPOINTS["wav2vec2-xlsr-en"].architecture


class _HeadOnTop:
    """A mixin that adds the mean over time and the head to an encoder of transformers.

    Use it in evaluation mode except for training: the published configs turn SpecAugment and layerdrop on.
    """

    architecture: Architecture

    def _add_head(self, architecture: Architecture, config: Any) -> None:
        self.architecture = architecture
        sizes = {architecture.head.dense: config.hidden_size, architecture.head.output: config.num_class}
        for name, outputs in sizes.items():
            *path, last = name.split(".")
            module = cast(nn.Module, self)
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.add_module(last, nn.Linear(config.hidden_size, outputs))

    def forward(self: Any, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the logits of audio that `core.model.preprocessing` has normalised.

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
        hidden_states = self.base_model(input_values, attention_mask=attention_mask).last_hidden_state
        if attention_mask is None:
            pooled = hidden_states.mean(dim=1)
        else:
            frames = self._get_feature_vector_attention_mask(hidden_states.shape[1], attention_mask)
            pooled = (hidden_states * frames[..., None]).sum(dim=1) / frames.sum(dim=1, keepdim=True)
        head = self.architecture.head
        inner = self.get_submodule(head.dense)(pooled)
        if head.activation == "tanh":
            inner = torch.tanh(inner)
        dropped = nn.functional.dropout(inner, getattr(self.config, "classifier_dropout", 0.0), self.training)
        return cast(torch.Tensor, self.get_submodule(head.output)(dropped))


class HubertForSpeechClassification(_HeadOnTop, HubertPreTrainedModel):  # type: ignore[misc] # transformers is not typed
    """HuBERT, the mean over time, and a head."""

    def __init__(self, config: HubertConfig, architecture: Architecture = _HUBERT) -> None:
        super().__init__(config)
        self.hubert = HubertModel(config)
        self._add_head(architecture, config)
        # Not init_weights(): transformers 5 initialises its records of tied and loaded parameters in post_init().
        self.post_init()


class Wav2Vec2ForSpeechClassification(_HeadOnTop, Wav2Vec2PreTrainedModel):  # type: ignore[misc] # likewise
    """wav2vec 2.0, the mean over time, and a head."""

    def __init__(self, config: Wav2Vec2Config, architecture: Architecture = _WAV2VEC2) -> None:
        super().__init__(config)
        self.wav2vec2 = Wav2Vec2Model(config)
        self._add_head(architecture, config)
        self.post_init()


SpeechNetwork = HubertForSpeechClassification | Wav2Vec2ForSpeechClassification


def build_network(architecture: Architecture, config: dict[str, Any]) -> SpeechNetwork:
    """Build a network of an architecture, with random weights.

    Parameters
    ----------
    config
        The content of config.json, and ``num_class``.
    """
    if architecture.model_type == "hubert":
        return HubertForSpeechClassification(HubertConfig(**config), architecture)
    return Wav2Vec2ForSpeechClassification(Wav2Vec2Config(**config), architecture)
