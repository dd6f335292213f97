"""Reads what a checkpoint's JSON files say of its network, and refuses what this project does not compute.

Needs neither PyTorch nor transformers.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.audio.waveform import SAMPLE_RATE_HZ
from core.checkpoints.architecture import TRANSFORMERS_ENCODERS, Encoder, InputMode, Output
from core.checkpoints.files import CONFIG_FILE, PREPROCESSOR_FILE, PROCESSOR_FILE, read_json
from core.emotions import standard_name
from core.errors import CheckpointUnreadable

Config = Mapping[str, Any]
"""The content of config.json."""

_NETWORK_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "layer_norm_eps",
    "feat_extract_norm",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "conv_bias",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "do_stable_layer_norm",
    "feat_proj_layer_norm",
    "num_buckets",
    "max_bucket_distance",
)
"""The keys that change scores and may have any value. The others are checked, or have an effect in training only."""

_SUPPORTED: Mapping[str, tuple[object, ...]] = {
    "feat_extract_norm": ("group", "layer"),
    "feat_extract_activation": ("gelu",),
    "hidden_act": ("gelu",),
    "conv_pos_batch_norm": (False,),
    "add_adapter": (False,),
    "adapter_attn_dim": (None,),
    "tie_last_hidden_states": (True,),
    # transformers does not have this key, but some training programs write it.
    "pooling_mode": ("mean",),
}
"""Keys that change scores -> the values that this project computes. transformers' defaults are among them, so a config
may lack the key."""

_SUPPORTED_IN_A_WINDOW: Mapping[str, tuple[object, ...]] = {
    "feat_extract_norm": ("group",),
    "do_stable_layer_norm": (False,),
    "conv_bias": (False,),
}

_PREPROCESSOR: Mapping[str, tuple[object, ...]] = {
    "feature_extractor_type": ("Wav2Vec2FeatureExtractor",),
    "feature_size": (1,),
    "sampling_rate": (SAMPLE_RATE_HZ,),
    "do_normalize": (True, False),
}

_PREPROCESSOR_OF_A_WINDOW: Mapping[str, tuple[object, ...]] = {
    "do_normalize": (True,),
    "padding_side": ("right",),
    "padding_value": (0,),
    "return_attention_mask": (False,),
}
"""Without a window, padding and mask have an effect in batches only."""

_OUTPUTS: Mapping[object, Output] = {
    None: Output.SOFTMAX,
    "single_label_classification": Output.SOFTMAX,
    "multi_label_classification": Output.SIGMOID,
    "regression": Output.LINEAR,
}
"""`problem_type` in config.json -> the function that transformers' pipeline applies."""

_NAMELESS = re.compile(r"(LABEL_)?\d+")
"""transformers' names for labels without a name."""


def network_config(config: Config) -> dict[str, Any]:
    """Return the part of a config that describes the encoder's network."""
    return {key: config[key] for key in _NETWORK_KEYS if key in config}


def check_config(folder: Path, config: Config, encoder: Encoder, input_mode: InputMode) -> None:
    """Check that this project computes the network of a config.

    Raises
    ------
    CheckpointUnreadable
        If a key has a value that would change the scores; the error names both.
    """
    supported = dict(_SUPPORTED)
    if input_mode is InputMode.PADDED_WINDOW:
        if encoder is Encoder.WAVLM:
            raise CheckpointUnreadable(f"{folder} has a WavLM network, which cannot classify a padded window.")
        supported.update(_SUPPORTED_IN_A_WINDOW)
    check_values(folder / CONFIG_FILE, config, supported)


def read_model_type(folder: Path, config: Config) -> Encoder:
    """Return the encoder that config.json names.

    Raises
    ------
    CheckpointUnreadable
        If the encoder is not supported.
    """
    model_type = config.get("model_type")
    if model_type in TRANSFORMERS_ENCODERS:
        return Encoder(model_type)
    *others, last = (repr(encoder.value) for encoder in TRANSFORMERS_ENCODERS)
    raise CheckpointUnreadable(
        f"{folder / CONFIG_FILE} has the model type {model_type!r}; only {', '.join(others)} and {last} are supported."
    )


def read_output(folder: Path, config: Config) -> Output:
    """Return the output that config.json names.

    Raises
    ------
    CheckpointUnreadable
        If the problem type is unknown.
    """
    problem_type = config.get("problem_type")
    if problem_type is None and config.get("is_classifier") is False:
        return Output.LINEAR  # nkululeko's key
    if problem_type not in _OUTPUTS:
        known = ", ".join(repr(name) for name in _OUTPUTS if name)
        raise CheckpointUnreadable(
            f"{folder / CONFIG_FILE} has the problem type {problem_type!r}; only {known} are supported."
        )
    return _OUTPUTS[problem_type]


def read_is_normalised(folder: Path, input_mode: InputMode) -> bool:
    """Return whether the feature extractor normalises a clip.

    Raises
    ------
    CheckpointUnreadable
        If there is no preprocessor file, or the extractor does more than to normalise speech at 16 kHz.
    """
    file, values = _preprocessor(folder)
    supported = dict(_PREPROCESSOR)
    if input_mode is InputMode.PADDED_WINDOW:
        supported.update(_PREPROCESSOR_OF_A_WINDOW)
    check_values(file, values, supported)
    return bool(values.get("do_normalize", True))  # transformers' default


def _preprocessor(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """Return the file with the feature extractor's values, and the values."""
    file = folder / PREPROCESSOR_FILE
    if file.exists():
        return file, read_json(file)
    # Processors, which contain an extractor and a tokenizer, have their own file since transformers 5.
    file = folder / PROCESSOR_FILE
    extractor = read_json(file).get("feature_extractor") if file.exists() else None
    if isinstance(extractor, dict):
        return file, extractor
    raise CheckpointUnreadable(
        f"{folder} has no {PREPROCESSOR_FILE}: copy the file from the base model, or fetch the checkpoint with "
        "--normalise clip or --normalise none."
    )


def read_labels(folder: Path, config: Config) -> tuple[str, ...]:
    """Return the labels of a config in the order of the logits, as published.

    Raises
    ------
    CheckpointUnreadable
        If there are no labels, or they are numbered rather than named.
    """
    id2label = config.get("id2label")
    if not id2label:
        raise CheckpointUnreadable(f"{folder / CONFIG_FILE} has no id2label: name the labels in it, or with --labels.")
    try:
        by_number = {int(key): str(label) for key, label in id2label.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointUnreadable(f"{folder / CONFIG_FILE} has an id2label whose keys are not numbers.") from error
    if sorted(by_number) != list(range(len(by_number))) or len(set(by_number.values())) < len(by_number):
        raise CheckpointUnreadable(f"{folder / CONFIG_FILE} has an id2label with a missing number or a repeated label.")
    labels = tuple(by_number[number] for number in range(len(by_number)))
    if nameless := next((label for label in labels if _NAMELESS.fullmatch(label)), None):
        raise CheckpointUnreadable(
            f"{folder / CONFIG_FILE} has the label {nameless} instead of a name: name the labels in id2label, or with "
            "--labels."
        )
    return labels


def numbered_labels(config: Config, renamed: Collection[str]) -> tuple[str, ...] | None:
    """Return the numbers in place of the labels of a config without names, if all of them will be renamed.

    Parameters
    ----------
    config
        The content of config.json. Without id2label, the number of labels is that of the names.
    renamed
        The labels that will be renamed, such as LABEL_0.
    """
    published = config.get("id2label") or {str(number): f"LABEL_{number}" for number in range(len(renamed))}
    if not isinstance(published, dict):
        return None
    labels = tuple(str(published.get(str(number))) for number in range(len(published)))
    return labels if labels and set(labels) <= set(renamed) and all(map(_NAMELESS.fullmatch, labels)) else None


def standard_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return labels under this project's names, unless two labels would be equal."""
    renamed = tuple(standard_name(label) for label in labels)
    return renamed if len(set(renamed)) == len(renamed) else labels


def check_values(file: Path, found: Mapping[str, Any], supported: Mapping[str, tuple[object, ...]]) -> None:
    """Check that the values of a file are supported. A key may be missing.

    Raises
    ------
    CheckpointUnreadable
        If one is not; the error names it and the values that are.
    """
    for problem in _differences(file, found, supported):
        raise CheckpointUnreadable(problem)


def _differences(file: Path, found: Mapping[str, Any], supported: Mapping[str, tuple[object, ...]]) -> Iterator[str]:
    for name, values in supported.items():
        if name in found and found[name] not in values:
            known = " and ".join(map(repr, values))
            yield f"{file} has {name} {found[name]!r}; only {known} {'is' if len(values) == 1 else 'are'} supported."
