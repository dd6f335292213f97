"""The kinds of network that checkpoints contain, as data: encoder, input, states, head and output.

Sizes, norms and biases are not part of an architecture, because the network's config has them. Needs neither PyTorch
nor transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, ClassVar

from core.results import Output as Output  # noqa: PLC0414 (re-exported)


class Encoder(StrEnum):
    """The encoders. Each value is the prefix of the encoder's tensors."""

    HUBERT = "hubert"
    WAV2VEC2 = "wav2vec2"
    WAVLM = "wavlm"
    EMOTION2VEC = "d2v_model"


TRANSFORMERS_ENCODERS = (Encoder.HUBERT, Encoder.WAV2VEC2, Encoder.WAVLM)
"""The encoders of transformers, whose values are also the `model_type` in config.json."""


class InputMode(StrEnum):
    """The samples that a network computes from an utterance."""

    PADDED_WINDOW = "window"
    """Six seconds, padded or cut, and normalised with the padding, without a mask."""
    CLIP = "clip"
    """The utterance alone, without padding."""


@dataclass(frozen=True)
class Dense:
    """A dense layer.

    Attributes
    ----------
    name
        The layer's name in the checkpoint, without ``.weight``.
    has_bias
        Whether the checkpoint has a bias of the layer too.
    """

    name: str
    has_bias: bool = True

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the layer's tensors, weight first."""
        return (f"{self.name}.weight", f"{self.name}.bias")[: 2 if self.has_bias else 1]


class Operation(StrEnum):
    """A step of a head without tensors."""

    MEAN = "mean"
    """The mean over the frames of the clip, from ``(frames, size)`` to ``(size,)``."""
    TANH = "tanh"


MEAN, TANH = Operation.MEAN, Operation.TANH

Step = Dense | Operation
Head = tuple[Step, ...]
"""The steps from the hidden states to the logits, in order: one or two dense layers, and the mean once."""

STOCK: Head = (Dense("projector"), MEAN, Dense("classifier"))
"""The head of transformers' own `…ForSequenceClassification`."""
SOXAN: Head = (MEAN, Dense("classifier.dense"), TANH, Dense("classifier.out_proj"))
"""The head of `…ForSpeechClassification` in https://github.com/m3hrdadfi/soxan, which many programs copied."""
EHCALABRES: Head = (MEAN, Dense("classifier.dense"), TANH, Dense("classifier.output"))
"""The published files do not name the activation. transformers' own heads of this shape use tanh, and no other
activation is more accurate: docs/decisions/0018-second-checkpoint.md."""
NKULULEKO: Head = (MEAN, Dense("head.dense"), TANH, Dense("head.out_proj"))
"""The head of https://github.com/felixbur/nkululeko's fine-tuned models, and of audEERING's example."""

HEADS: Mapping[str, Head] = {"stock": STOCK, "soxan": SOXAN, "ehcalabres": EHCALABRES, "nkululeko": NKULULEKO}
"""The heads of transformers' encoders."""

EMOTION2VEC: Head = (MEAN, Dense("proj"))
"""The head of emotion2vec+."""


def dense_layers(head: Head) -> tuple[Dense, ...]:
    """Return the dense layers of a head, in order."""
    return tuple(step for step in head if isinstance(step, Dense))


def head_tensors(head: Head) -> tuple[str, ...]:
    """Return the names of a head's tensors."""
    return tuple(name for layer in dense_layers(head) for name in layer.tensors)


LAYER_WEIGHTS = "layer_weights"
"""The tensor with the logarithmic weights of a weighted sum, shape ``(layers + 1,)``."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Values that a checkpoint's files leave open or get wrong; None for the files' own value.

    The registry has those of a repository. source.json has those of one copy, as a JSON object with these keys.

    Attributes
    ----------
    input_mode, is_normalised, output
        As in `Architecture`.
    labels
        The labels in the order of the logits.
    dimensions_range
        Lowest and highest value of a linear output's dimensions in the training data. No file has them.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    input_mode: InputMode | None = None
    is_normalised: bool | None = None
    labels: tuple[str, ...] | None = None
    output: Output | None = None
    dimensions_range: tuple[float, float] | None = None

    def updated(self, other: "Overrides") -> "Overrides":
        """Return these overrides, with those of another that are not None instead."""
        return replace(self, **other.recorded())

    def recorded(self) -> dict[str, Any]:
        """Return the overrides that are not None by name, as in source.json."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The network of a checkpoint, except for the sizes in its config.

    Attributes
    ----------
    encoder
        The encoder.
    input_mode, is_normalised
        The samples that the network computes, and whether they are scaled to zero mean and unit variance first.
    has_weighted_sum
        Whether the head uses a weighted sum of all hidden states instead of the last one. The states are the input of
        the first layer and the output of each layer, the last one after the encoder's final norm, if it has one:
        docs/decisions/0029-weighted-sum.md.
    head
        The steps from the hidden states to the logits.
    output
        The function from the logits to the scores.
    labels
        The labels, or the dimensions of a linear output, in the order of the logits and under this project's names.
    dimensions_range
        Lowest and highest value of a linear output's dimensions in the training data, if it is known.
    """

    encoder: Encoder
    input_mode: InputMode = InputMode.CLIP
    is_normalised: bool = True
    has_weighted_sum: bool = False
    head: Head
    output: Output = Output.SOFTMAX
    labels: tuple[str, ...]
    dimensions_range: tuple[float, float] | None = None
