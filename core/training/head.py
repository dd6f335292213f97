"""Trains transformers' own head on the means of the hidden states.

The weighted sum, the projector, the mean over time and the classifier are all affine, so the mean may come first: the
logits of the means are those of the clip. An epoch over a thousand clips then takes milliseconds, and the encoder
computes each clip once.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from core.checkpoints.network import SpeechNetwork
from core.evaluation.figures import Indices, count, unweighted_accuracy
from core.training.cache import Array

_MAX_STEPS = 600
_STEPS_PER_CHECK = 10
_PATIENCE = 12
"""Checks without a better network after which the training ends."""
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 0.02
_MIN_SPREAD = 1e-3


@dataclass(frozen=True)
class Examples:
    """Utterances with their labels.

    Attributes
    ----------
    means
        Shape ``(n, layers + 1, hidden)``.
    targets
        Shape ``(n,)``.
    """

    means: Array
    targets: Indices

    @classmethod
    def of(cls, means: Sequence[Array], targets: Indices, indices: Indices) -> "Examples":
        """Select clips, each of which has one or more utterances."""
        chosen = [means[index] for index in indices]
        repeated = np.repeat(targets[indices], [rows.shape[0] for rows in chosen])
        return cls(np.concatenate(chosen), repeated)

    @classmethod
    def joined(cls, examples: Sequence["Examples"]) -> "Examples":
        """Return the utterances of several sets."""
        return cls(
            np.concatenate([each.means for each in examples]), np.concatenate([each.targets for each in examples])
        )


def class_weights(targets: Indices, labels: int) -> torch.Tensor:
    """Return weights with which each label has the same share of the loss; their mean over the examples is 1."""
    counts = np.bincount(targets, minlength=labels)
    weights = targets.size / np.maximum(counts, 1) / np.count_nonzero(counts)
    return torch.from_numpy(weights.astype(np.float32))


def logits_of_means(network: SpeechNetwork, means: torch.Tensor) -> torch.Tensor:
    """Compute the logits, shape ``(n, labels)``, of means of shape ``(n, layers + 1, hidden)``."""
    pooled = torch.einsum("nlh,l->nh", means, network.layer_weights.softmax(dim=-1))
    logits: torch.Tensor = network.get_submodule("classifier")(network.get_submodule("projector")(pooled))
    return logits


def head_logits(network: SpeechNetwork, means: Array) -> Array:
    """Compute the logits of a clip, shape ``(utterances, labels)``, from its means."""
    with torch.inference_mode():
        logits: Array = logits_of_means(network, torch.from_numpy(means)).numpy()
    return logits


def fit_head(network: SpeechNetwork, training: Examples, validation: Examples | None, steps: int = _MAX_STEPS) -> int:
    """Train the head of a network in place.

    Parameters
    ----------
    validation
        The examples whose unweighted accuracy chooses the number of steps; None for exactly `steps`.

    Returns
    -------
    The number of steps of the chosen head.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the products are small: threads would wait for each other
    try:
        return _fit(network, training, validation, steps)
    finally:
        torch.set_num_threads(threads)


def _fit(network: SpeechNetwork, training: Examples, validation: Examples | None, steps: int) -> int:
    head = _StandardisedHead(network, torch.from_numpy(training.means))
    targets = torch.from_numpy(training.targets)
    weights = class_weights(training.targets, len(network.architecture.labels))
    optimiser = torch.optim.AdamW(head.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    means = torch.from_numpy(training.means)
    best_score, best_step, best_state = (-1.0, 0.0), 0, copy.deepcopy(head.state_dict())
    for step in range(1, steps + 1):
        loss = nn.functional.cross_entropy(head(means), targets, weights)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if validation is None:
            best_step = step
        elif step % _STEPS_PER_CHECK == 0:
            score = _score(head, validation, weights)
            if score > best_score:
                best_score, best_step, best_state = score, step, copy.deepcopy(head.state_dict())
            elif step - best_step >= _PATIENCE * _STEPS_PER_CHECK:
                break
    if validation is not None:
        head.load_state_dict(best_state)
    head.write_to(network)
    return best_step


def _score(head: "_StandardisedHead", examples: Examples, weights: torch.Tensor) -> tuple[float, float]:
    """Return the unweighted accuracy, and the negative loss for equal accuracies."""
    with torch.no_grad():
        logits = head(torch.from_numpy(examples.means))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(examples.targets), weights)
    counts = count(examples.targets, logits.argmax(dim=1).numpy(), np.zeros_like(examples.targets), logits.shape[1])
    return float(unweighted_accuracy(counts[0])), -float(loss)


def _copy_of(layer: nn.Module) -> nn.Linear:
    copied = copy.deepcopy(layer)
    assert isinstance(copied, nn.Linear)
    return copied


class _StandardisedHead(nn.Module):
    """The head of a network on states with zero mean and unit variance, which train faster.

    `write_to` folds the scaling into the projector.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: SpeechNetwork, means: torch.Tensor) -> None:
        super().__init__()
        pooled = means.mean(dim=1)
        self.register_buffer("centre", pooled.mean(dim=0))
        # One scale for all dimensions: small ones are noise, which a scale of their own would amplify.
        self.register_buffer("scale", pooled.std(dim=0, correction=0).mean().clamp_min(_MIN_SPREAD))
        self.layer_weights = nn.Parameter(torch.zeros_like(network.layer_weights))
        self.projector = _copy_of(network.get_submodule("projector"))
        self.classifier = _copy_of(network.get_submodule("classifier"))

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        pooled = torch.einsum("nlh,l->nh", means, self.layer_weights.softmax(dim=-1))
        logits: torch.Tensor = self.classifier(self.projector((pooled - self.centre) / self.scale))
        return logits

    @torch.no_grad()
    def write_to(self, network: SpeechNetwork) -> None:
        """Copy the tensors to the network's head."""
        projector = network.get_submodule("projector")
        weight = self.projector.weight / self.scale
        projector.load_state_dict({"weight": weight, "bias": self.projector.bias - weight @ self.centre})
        network.get_submodule("classifier").load_state_dict(self.classifier.state_dict())
        network.layer_weights.copy_(self.layer_weights)
