"""Reads a checkpoint, and checks its config against its architecture and its tensors against the network."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.checkpoints.architecture import Architecture, head_tensors
from core.checkpoints.files import CONFIG_FILE, PREPROCESSOR_FILE, read_json, read_source, weights_file
from core.checkpoints.network import SpeechNetwork, build_network
from core.checkpoints.registry import (
    CHECKPOINTS,
    CONFIG_BY_DEFAULT,
    architectures_for,
    reason_to_ignore,
    required_config,
    required_preprocessor,
)
from core.checkpoints.weights import fit_tensors, read_weights
from core.emotions import SYNONYMS
from core.errors import CheckpointUnreadable


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose network is in evaluation mode.

    Attributes
    ----------
    labels
        The emotions in the order of the logits, under this project's names.
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
    labels: tuple[str, ...]
    model_id: str
    revision: str
    weights_sha256: str
    demo: bool
    ignored: dict[str, str]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a Hugging Face folder: config.json, preprocessor_config.json and the weights.

    Raises
    ------
    CheckpointUnreadable
        If a file is missing or malformed, or a tensor is missing, unexpected, of a wrong shape or not finite.
    """
    config, source = read_json(folder / CONFIG_FILE), read_source(folder)
    architectures = _architectures(folder, config, source.get("id"))
    file = weights_file(folder)
    weights = read_weights(file)
    architecture = _matching_head(architectures, weights)
    labels = _labels(config, architecture)
    network = _network(folder, replace(architecture, labels=labels), config)
    surplus = sorted(weights.keys() - network.state_dict().keys())
    ignored = {name: why for name in surplus if (why := reason_to_ignore(name))}
    network.load_state_dict(fit_tensors(weights, network.state_dict(), file.name), assign=True)
    with file.open("rb") as opened:
        weights_sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return Checkpoint(
        network=network.eval(),
        labels=labels,
        model_id=str(source.get("id") or config.get("_name_or_path") or folder.name),
        revision=str(source.get("revision") or f"sha256:{weights_sha256[:12]}"),
        weights_sha256=weights_sha256,
        demo=bool(config.get("demo", False)),
        ignored=ignored,
    )


def _architectures(folder: Path, config: dict[str, Any], repo_id: Any) -> list[Architecture]:
    """Return the architectures that match both config files. There is at least one."""
    preprocessor = read_json(folder / PREPROCESSOR_FILE)
    candidates = architectures_for(config.get("model_type"), repo_id)
    if not candidates:
        known = sorted({repr(entry.architecture.encoder.value) for entry in CHECKPOINTS.values()})
        raise CheckpointUnreadable(
            f"{folder}/{CONFIG_FILE} has the model type {config.get('model_type')!r}; only {' and '.join(known)} are "
            "supported."
        )
    problems = [
        [
            *_differences(folder / CONFIG_FILE, {**CONFIG_BY_DEFAULT, **config}, required_config(architecture)),
            *_differences(folder / PREPROCESSOR_FILE, preprocessor, required_preprocessor(architecture)),
        ]
        for architecture in candidates
    ]
    fitting = [architecture for architecture, found in zip(candidates, problems, strict=True) if not found]
    if not fitting:
        raise CheckpointUnreadable(min(problems, key=len)[0])
    return fitting


def _differences(file: Path, found: Mapping[str, object], needed: Mapping[str, object]) -> Iterator[str]:
    kind = needed.get("model_type")
    for name, value in needed.items():
        if found.get(name) != value:
            of = f" in a {kind} checkpoint" if kind and name != "model_type" else ""
            yield f"{file} has {name} {found.get(name)!r}; only {value!r} is supported{of}."


def _matching_head(architectures: list[Architecture], weights: Mapping[str, object]) -> Architecture:
    """Return the architecture whose head is in the file, or the first one, whose missing tensors an error will list."""
    return next(
        (architecture for architecture in architectures if weights.keys() >= set(head_tensors(architecture.head))),
        architectures[0],
    )


def _labels(config: dict[str, Any], architecture: Architecture) -> tuple[str, ...]:
    """Return the labels in the order of the logits, under this project's names unless two labels would be equal."""
    id2label = config.get("id2label")
    if id2label:
        try:
            by_number = {int(key): str(label) for key, label in id2label.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointUnreadable("config.json has an id2label whose keys are not numbers.") from error
        if sorted(by_number) != list(range(len(by_number))) or len(set(by_number.values())) < len(by_number):
            raise CheckpointUnreadable("config.json has an id2label with a missing number or a repeated label.")
        published = tuple(by_number[number] for number in range(len(by_number)))
    else:
        published = architecture.labels
    if config.get("num_class", len(published)) != len(published):
        raise CheckpointUnreadable(f"config.json has num_class {config.get('num_class')} but {len(published)} labels.")
    renamed = tuple(SYNONYMS.get(label.lower(), label) for label in published)
    return renamed if len(set(renamed)) == len(renamed) else published


def _network(folder: Path, architecture: Architecture, config: dict[str, Any]) -> SpeechNetwork:
    """Build the network without weights, because a random initialisation takes seconds and is replaced later."""
    try:
        with torch.device("meta"):
            return build_network(architecture, config)
    except Exception as error:  # transformers and PyTorch raise any kind of error for impossible sizes
        last_line = next(reversed(str(error).strip().splitlines()), "no reason given")
        problem = f"{type(error).__name__}: {last_line.strip()}"
        raise CheckpointUnreadable(f"{folder}/{CONFIG_FILE} does not describe a valid network ({problem}).") from error
