"""The known published checkpoints and their architectures.

To support another checkpoint, add an entry to `CHECKPOINTS`, with another `Head` if its last tensors have other names.
The code for reading, reference, export and serving follows the entry, as `tests/unit/test_registry.py` shows.

Needs neither PyTorch nor transformers, because the command line lists the names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from core.checkpoints.architecture import EHCALABRES, SOXAN, Architecture, Encoder, InputMode


def required_config(architecture: Architecture) -> Mapping[str, object]:
    """Return the values that config.json must have for the serving graph to compute this network."""
    return {"model_type": architecture.encoder.value, **_COMMON_CONFIG, **_CONFIG[architecture.input_mode]}


def required_preprocessor(architecture: Architecture) -> Mapping[str, object]:
    """Return the values that preprocessor_config.json must have."""
    return {
        "do_normalize": architecture.is_normalised,
        "padding_side": "right",
        "padding_value": 0,
        "return_attention_mask": architecture.input_mode is InputMode.CLIP,
        "sampling_rate": 16_000,
    }


def reason_to_ignore(tensor: str) -> str | None:
    """Return the reason why an unused tensor is safe to ignore; None if it is an error."""
    return next((reason for prefix, reason in _IGNORED.items() if tensor.startswith(prefix)), None)


_COMMON_CONFIG: Mapping[str, object] = {
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "conv_pos_batch_norm": False,
    "add_adapter": False,
    "adapter_attn_dim": None,
    "use_weighted_layer_sum": False,
    "pooling_mode": "mean",
}
"""transformers' own defaults, and `pooling_mode`, which transformers does not have but some training programs write."""

_CONFIG: Mapping[InputMode, Mapping[str, object]] = {
    InputMode.PADDED_WINDOW: {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False},
    InputMode.CLIP: {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
}

CONFIG_BY_DEFAULT: Mapping[str, object] = {**_COMMON_CONFIG, **_CONFIG[InputMode.PADDED_WINDOW]}
"""The values of keys that config.json lacks: transformers' defaults, which are those of the base networks."""


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint that `audio-emotion model pull` can fetch by name.

    Attributes
    ----------
    repo_id
        The repository on the Hugging Face Hub.
    licence
        The licence of the weights.
    speech
        The speech that it was trained on.
    architecture
        The network.
    """

    repo_id: str
    licence: str
    speech: str
    architecture: Architecture


_TRAINING_ONLY = "used only in training as a speech recogniser or on unlabelled speech"

_IGNORED: Mapping[str, str] = {
    "lm_head.": _TRAINING_ONLY,
    "quantizer.": _TRAINING_ONLY,
    "project_q.": _TRAINING_ONLY,
    "project_hid.": _TRAINING_ONLY,
    # The network has this tensor if config.json turns SpecAugment on, as the published ones do.
    **{f"{encoder}.masked_spec_embed": "replaces the frames that SpecAugment masks in training" for encoder in Encoder},
}
"""Prefixes of unused tensors that may be present in the file, with the reason each is safe to ignore. Any other tensor
that the network does not have is an error."""

CHECKPOINTS: Mapping[str, PublishedCheckpoint] = {
    "hubert-base-ch": PublishedCheckpoint(
        repo_id="xmj2002/hubert-base-ch-speech-emotion-recognition",
        licence="Apache-2.0",
        speech="acted Mandarin (CASIA)",
        architecture=Architecture(
            encoder=Encoder.HUBERT,
            input_mode=InputMode.PADDED_WINDOW,
            head=SOXAN,
            # From its model card, since its config has none.
            labels=("anger", "fear", "happy", "neutral", "sad", "surprise"),
        ),
    ),
    "wav2vec2-xlsr-en": PublishedCheckpoint(
        repo_id="ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition",
        licence="Apache-2.0",
        speech="acted English (RAVDESS)",
        architecture=Architecture(
            encoder=Encoder.WAV2VEC2,
            head=EHCALABRES,
            labels=("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
        ),
    ),
}

DEFAULT_CHECKPOINT = "hubert-base-ch"


def architectures_for(model_type: object, repo_id: str | None = None) -> list[Architecture]:
    """Return the architecture of a known checkpoint, or all architectures with an unknown checkpoint's encoder."""
    known = [entry.architecture for entry in CHECKPOINTS.values() if entry.repo_id == repo_id]
    if known:
        return known
    found: list[Architecture] = []
    for entry in CHECKPOINTS.values():
        if entry.architecture.encoder == model_type and entry.architecture not in found:
            found.append(entry.architecture)
    return found
