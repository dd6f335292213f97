"""Which published checkpoints are known, and how each is laid out: all that tells one from another.

A third checkpoint is one more entry of `CHECKPOINTS` and, if its last tensors have names that no other has, one more
`Head`. Reading, reference, export and serving follow from the entry; `tests/unit/test_registry.py` adds one to show it.

Needs neither PyTorch nor transformers: the command line lists the names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class InputMode(StrEnum):
    """What of a recording the network sees, which follows from how its feature encoder normalises."""

    PADDED_WINDOW = "window"
    """Six seconds, padded or cut, normalised with the padding and without a mask: a group norm over time sees all."""
    CLIP = "clip"
    """The clip alone, normalised over itself: layer norms see one frame each, and batches were padded under a mask."""


@dataclass(frozen=True)
class Head:
    """From the mean of the last hidden states to the logits: two dense layers, by their names in a checkpoint.

    Attributes
    ----------
    dense, output
        The first one keeps the size of the hidden states, the second makes a logit for each label.
    activation
        Between them.
    """

    dense: str
    output: str
    activation: Literal["tanh", "none"] = "tanh"

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of its tensors."""
        return tuple(f"{layer}.{part}" for layer in (self.dense, self.output) for part in ("weight", "bias"))


@dataclass(frozen=True)
class Architecture:
    """How a kind of checkpoint is laid out.

    Attributes
    ----------
    model_type
        As config.json names it: which of transformers' encoders lies under the head.
    input_mode
        How it is fed.
    head
        What lies on top, which transformers' own classes for this task do not have.
    labels
        In the order of the logits, where config.json names none.
    ignored
        Beginnings of tensor names that the file may hold beyond the network's, and why they say nothing here. Any
        other tensor that the network does not have is an error.
    """

    model_type: Literal["hubert", "wav2vec2"]
    input_mode: InputMode
    head: Head
    labels: tuple[str, ...]
    ignored: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Mapping[str, object]:
        """What config.json must say for the serving graph to be this network."""
        return {**_COMMON_CONFIG, **_CONFIG[self.input_mode]}

    @property
    def preprocessor(self) -> Mapping[str, object]:
        """What preprocessor_config.json must say: anything else is another model."""
        return {
            "do_normalize": True,
            "padding_side": "right",
            "padding_value": 0,
            "return_attention_mask": self.input_mode is InputMode.CLIP,
            "sampling_rate": 16_000,
        }

    def reason_to_ignore(self, tensor: str) -> str | None:
        """Why a tensor that the network does not have may be left in the file; None if it may not."""
        return next((why for beginning, why in self.ignored.items() if tensor.startswith(beginning)), None)


_COMMON_CONFIG: Mapping[str, object] = {
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "conv_pos_batch_norm": False,
    "add_adapter": False,
    "adapter_attn_dim": None,
    "use_weighted_layer_sum": False,
    "pooling_mode": "mean",
}
"""Each of these is what transformers takes it to be where config.json is silent, but for `pooling_mode`, which it does
not know: the programs that some checkpoints were trained with write it."""

_CONFIG: Mapping[InputMode, Mapping[str, object]] = {
    InputMode.PADDED_WINDOW: {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False},
    InputMode.CLIP: {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
}

CONFIG_BY_DEFAULT: Mapping[str, object] = {**_COMMON_CONFIG, **_CONFIG[InputMode.PADDED_WINDOW]}
"""What a line that config.json lacks means: transformers' own defaults are those of the base networks."""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint that `audio-emotion model pull` knows by name.

    Attributes
    ----------
    repo_id
        On the Hugging Face Hub.
    licence
        Of the weights.
    speech
        What it was trained on.
    layout
        How to read it.
    """

    repo_id: str
    licence: str
    speech: str
    architecture: Architecture


_OF_TRAINING = "left over from training as a speech recogniser or on unlabelled speech; nothing above the encoder"

CHECKPOINTS: Mapping[str, PublishedCheckpoint] = {
    "hubert-base-ch": PublishedCheckpoint(
        repo_id="xmj2002/hubert-base-ch-speech-emotion-recognition",
        licence="Apache-2.0",
        speech="acted Mandarin (CASIA)",
        architecture=Architecture(
            model_type="hubert",
            input_mode=InputMode.PADDED_WINDOW,
            head=Head("classifier.dense", "classifier.out_proj"),
            # Its config names none; its model card writes "angry".
            labels=("anger", "fear", "happy", "neutral", "sad", "surprise"),
        ),
    ),
    "wav2vec2-xlsr-en": PublishedCheckpoint(
        repo_id="ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition",
        licence="Apache-2.0",
        speech="acted English (RAVDESS)",
        architecture=Architecture(
            model_type="wav2vec2",
            input_mode=InputMode.CLIP,
            # The activation is recorded nowhere; on 480 clips of RAVDESS none, tanh and ReLU give 92.5, 92.3 and
            # 92.1 %. Tanh is what transformers' own heads of this shape have.
            head=Head("classifier.dense", "classifier.output", activation="tanh"),
            labels=("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
            ignored={
                "lm_head.": _OF_TRAINING,
                "quantizer.": _OF_TRAINING,
                "project_q.": _OF_TRAINING,
                "project_hid.": _OF_TRAINING,
                # The network has it too wherever config.json turns SpecAugment on, as the published one does.
                "wav2vec2.masked_spec_embed": "what SpecAugment puts in place of masked frames, in training only",
            },
        ),
    ),
}

DEFAULT_CHECKPOINT = "hubert-base-ch"


def architectures_for(model_type: object, repo_id: str | None = None) -> list[Architecture]:
    """Return the architectures that a checkpoint may have: its own if it is known, else all with its encoder."""
    known = [entry.architecture for entry in CHECKPOINTS.values() if entry.repo_id == repo_id]
    if known:
        return known
    found: list[Architecture] = []
    for entry in CHECKPOINTS.values():
        if entry.architecture.model_type == model_type and entry.architecture not in found:
            found.append(entry.architecture)
    return found
