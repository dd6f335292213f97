"""The PyTorch network of the published checkpoint: the reference that everything faster is measured against.

`transformers` has no class with this head. Its `HubertForSequenceClassification` expects `projector` and `classifier`,
would load the published checkpoint without complaint, and would answer from a random head. So the network is spelled
out here, with the published parameter names, and `core.model.checkpoint` reads it strictly.

Needs PyTorch and transformers, which the Lambda function does not have.
"""

from typing import cast

import torch
from torch import nn
from transformers import HubertConfig, HubertModel, HubertPreTrainedModel


class ClassificationHead(nn.Module):
    """Dense, tanh, dropout, projection; from the mean of the hidden states to the logits."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_class)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Shape ``(batch, hidden)`` in, logits of shape ``(batch, labels)`` out."""
        return cast(torch.Tensor, self.out_proj(self.dropout(torch.tanh(self.dense(pooled)))))


class HubertForSpeechClassification(HubertPreTrainedModel):  # type: ignore[misc] # transformers is not typed
    """The published network: HuBERT, the mean over time, the head.

    Always in evaluation mode unless somebody trains it: the published config leaves SpecAugment and layerdrop on.
    """

    def __init__(self, config: HubertConfig) -> None:
        super().__init__(config)
        self.hubert = HubertModel(config)
        self.classifier = ClassificationHead(config)
        # Not init_weights(): transformers 5 sets up its bookkeeping of tied and loaded parameters in post_init().
        self.post_init()

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Classify normalised windows.

        Parameters
        ----------
        input_values
            Shape ``(batch, 96_000)``, float32, as `core.model.preprocessing.normalise` makes them. There is no
            attention mask: the padding is part of what the network was trained on.

        Returns
        -------
        Logits, shape ``(batch, labels)``.
        """
        hidden_states = self.hubert(input_values).last_hidden_state
        return cast(torch.Tensor, self.classifier(hidden_states.mean(dim=1)))
