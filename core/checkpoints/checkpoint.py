"""Reads a checkpoint, and checks its files against each other and its tensors against the network."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from core.checkpoints import funasr
from core.checkpoints.architecture import EMOTION2VEC, Architecture, Encoder, InputMode, Output, Overrides, dense_layers
from core.checkpoints.config import (
    Config,
    check_config,
    network_config,
    numbered_labels,
    read_is_normalised,
    read_labels,
    read_model_type,
    read_output,
    standard_names,
)
from core.checkpoints.files import (
    CONFIG_FILE,
    FUNASR,
    SOURCE_FILE,
    TOKENS_FILE,
    file_names,
    find_layout,
    find_weights,
    read_json,
    read_source,
)
from core.checkpoints.heads import (
    Shapes,
    check_label_count,
    find_encoder,
    find_head,
    inner_size,
    reason_to_ignore,
)
from core.checkpoints.network import SpeechNetwork, build_network
from core.checkpoints.registry import overrides_for
from core.checkpoints.weights import Tensors, fit_tensors, hash_weights, read_weights
from core.errors import CheckpointUnreadable
from core.model.package import MANIFEST_FILE

_OVERRIDES: TypeAdapter[Overrides] = TypeAdapter(Overrides)

_WITHOUT_SPECAUGMENT = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
"""Removes the tensor `masked_spec_embed` from the network, which has an effect in training only."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose network is in evaluation mode.

    Attributes
    ----------
    revision
        The commit on the Hub, or the first digits of the weights' hash.
    weights_sha256
        The hash of the weights' file in hexadecimal.
    demo
        Whether this is the demo model, which was trained on synthetic speech.
    ignored
        Unused tensor of the file -> the reason why it is safe to ignore.
    """

    network: SpeechNetwork
    model_id: str
    revision: str
    weights_sha256: str
    demo: bool
    ignored: dict[str, str]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits, under this project's names."""
        return self.network.architecture.labels


@dataclass(frozen=True)
class _Description:
    """The description of a network in the files of its checkpoint.

    Attributes
    ----------
    architecture
        The steps that the network computes.
    sizes
        The values of the encoder's config by name.
    inner_size
        The number of values between the head's two dense layers, if there are two.
    has_label
        Whether each row of the head's last layer has a label; None if all do.
    name
        The model's name unless source.json has one.
    demo
        Whether this is the demo model.
    """

    architecture: Architecture
    sizes: Mapping[str, Any]
    inner_size: int | None = None
    has_label: list[bool] | None = None
    name: str | None = None
    demo: bool = False


def read_checkpoint(folder: Path, overrides: Overrides | None = None, *, renamed: Collection[str] = ()) -> Checkpoint:
    """Read a folder of Hugging Face (config.json) or FunASR (config.yaml): the config, the labels and the weights.

    Parameters
    ----------
    overrides
        What the files leave open or get wrong. They precede those of source.json, which precede the registry's.
    renamed
        Labels that the caller renames. If all labels of the checkpoint are numbered, such as LABEL_0, and the caller
        renames all, the checkpoint has their numbers for labels instead of being refused.

    Raises
    ------
    CheckpointUnreadable
        If a file is missing or malformed, if the files describe a network that this project does not compute, or if a
        tensor is missing, unexpected, of a wrong shape or not finite.
    """
    source, present = read_source(folder), file_names(folder)
    if not folder.is_dir():
        raise CheckpointUnreadable(f"There is no folder {folder}.")
    if MANIFEST_FILE in present and CONFIG_FILE not in present:
        raise CheckpointUnreadable(f"{folder} is a serving package. Name the checkpoint that it was exported from.")
    layout = find_layout(folder, present)
    config = {} if layout is FUNASR else read_json(folder / CONFIG_FILE)
    recorded = Overrides(labels=numbered_labels(config, renamed))
    recorded = recorded.updated(overrides_for(source.get("id"), config)).updated(_recorded_overrides(folder, source))
    chosen = recorded.updated(overrides) if overrides else recorded
    file = folder / find_weights(folder, layout, present)
    weights = read_weights(file)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if layout is FUNASR:
        described = _describe_funasr(folder, chosen, file.name, shapes)
    else:
        described = _describe_transformers(folder, config, chosen, file.name, shapes)
    network = _network(folder / layout.config, described)
    _keep_rows(weights, described)
    surplus = sorted(weights.keys() - network.state_dict().keys())
    ignored = {name: why for name in surplus if (why := reason_to_ignore(name))}
    network.load_state_dict(fit_tensors(weights, network.state_dict(), file.name, layout.config), assign=True)
    weights_sha256 = hash_weights(file)
    return Checkpoint(
        network=network.eval(),
        model_id=str(source.get("id") or described.name or folder.name),
        revision=str(source.get("revision") or f"sha256:{weights_sha256[:12]}"),
        weights_sha256=weights_sha256,
        demo=described.demo,
        ignored=ignored,
    )


def _describe_transformers(
    folder: Path, config: Config, overrides: Overrides, weights_name: str, shapes: Shapes
) -> _Description:
    architecture = _architecture(folder, config, _feeding(folder, config, overrides), weights_name, shapes)
    return _Description(
        architecture=architecture,
        sizes={**network_config(config), **_WITHOUT_SPECAUGMENT},
        inner_size=inner_size(architecture.head, shapes),
        name=config.get("_name_or_path"),
        demo=bool(config.get("demo", False)),
    )


def _describe_funasr(folder: Path, overrides: Overrides, weights_name: str, shapes: Shapes) -> _Description:
    config, published = funasr.read_config(folder), funasr.read_labels(folder)
    names = tuple(label or "masked" for label in published)
    remedy = f"fetch it and {TOKENS_FILE} from the same commit"
    check_label_count(weights_name, EMOTION2VEC, shapes, names, remedy)
    is_normalised = config.is_normalised if overrides.is_normalised is None else overrides.is_normalised
    architecture = Architecture(
        encoder=Encoder.EMOTION2VEC,
        is_normalised=is_normalised,
        head=EMOTION2VEC,
        labels=standard_names(tuple(label for label in published if label is not None)),
    )
    return _Description(architecture, vars(config.sizes), has_label=[label is not None for label in published])


def _keep_rows(weights: Tensors, described: _Description) -> None:
    """Remove the rows of the head's last layer without a label, because the softmax ignores masked logits."""
    kept = described.has_label
    for name in dense_layers(described.architecture.head)[-1].tensors:
        if kept and name in weights and weights[name].shape[:1] == (len(kept),):
            weights[name] = weights[name][kept]


def _recorded_overrides(folder: Path, source: Mapping[str, Any]) -> Overrides:
    """Return the overrides in source.json."""
    try:
        return _OVERRIDES.validate_python(source.get("overrides", {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("overrides", *first["loc"])))
        raise CheckpointUnreadable(f"{folder / SOURCE_FILE} is malformed: {place}: {first['msg']}.") from error


def _feeding(folder: Path, config: Config, overrides: Overrides) -> Overrides:
    """Check both JSON files, and return the overrides with the input that the files describe."""
    input_mode = overrides.input_mode or InputMode.CLIP
    check_config(folder, config, read_model_type(folder, config), input_mode)
    is_normalised = overrides.is_normalised
    if is_normalised is None:
        is_normalised = read_is_normalised(folder, input_mode)
    return replace(overrides, input_mode=input_mode, is_normalised=is_normalised)


def _architecture(
    folder: Path, config: Config, overrides: Overrides, weights_name: str, shapes: Shapes
) -> Architecture:
    """Return the architecture that the files and the shapes of the tensors describe."""
    encoder = find_encoder(weights_name, shapes, read_model_type(folder, config))
    head = find_head(weights_name, [name for name in shapes if not name.startswith(f"{encoder}.")])
    labels = overrides.labels or read_labels(folder, config)
    if config.get("num_class", len(labels)) != len(labels):
        raise CheckpointUnreadable(f"{folder / CONFIG_FILE} has num_class {config['num_class']}, not {len(labels)}.")
    check_label_count(weights_name, head, shapes, labels)
    output = overrides.output or read_output(folder, config)
    if output is Output.SOFTMAX and len(labels) == 1:
        raise CheckpointUnreadable(
            f"{folder / CONFIG_FILE} has one label, whose softmax is always 1: set problem_type to 'regression' or "
            "'multi_label_classification' in it."
        )
    return Architecture(
        encoder=encoder,
        input_mode=overrides.input_mode or InputMode.CLIP,
        is_normalised=overrides.is_normalised is not False,
        has_weighted_sum=bool(config.get("use_weighted_layer_sum", False)),
        head=head,
        output=output,
        labels=standard_names(labels),
        dimensions_range=overrides.dimensions_range if output is Output.LINEAR else None,
    )


def _network(config_file: Path, described: _Description) -> SpeechNetwork:
    """Build the network without weights, because a random initialisation takes seconds and is replaced later."""
    try:
        with torch.device("meta"):
            return build_network(described.architecture, described.sizes, described.inner_size)
    except Exception as error:  # transformers and PyTorch raise any kind of error for impossible sizes
        last_line = next(reversed(str(error).strip().splitlines()), "no reason given")
        problem = f"{type(error).__name__}: {last_line.strip()}"
        raise CheckpointUnreadable(f"{config_file} does not describe a valid network ({problem}).") from error
