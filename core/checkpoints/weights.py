"""Reads the tensors of a checkpoint strictly: an error names any missing, unexpected or wrongly shaped tensor.

transformers' `from_pretrained` initialises a missing tensor at random and only logs a warning, so several published
forks of these models classify with a random head. PyTorch's files are read with its restricted unpickler, which runs no
code from the file.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from core.checkpoints.architecture import Encoder
from core.checkpoints.files import CONFIG_FILE, SHARD_INDEX_FILE, read_shard_index, weight_parts
from core.checkpoints.heads import reason_to_ignore
from core.errors import CheckpointUnreadable
from core.formatting import first_line

Tensors = dict[str, torch.Tensor]

_RENAMED_IN_TRANSFORMERS_4_31 = {
    ".pos_conv_embed.conv.weight_g": ".pos_conv_embed.conv.parametrizations.weight.original0",
    ".pos_conv_embed.conv.weight_v": ".pos_conv_embed.conv.parametrizations.weight.original1",
}

_EMOTION2VEC_PREFIX = f"{Encoder.EMOTION2VEC}."
_EMOTION2VEC_PARTS = ("modality_encoders.", "blocks.")
"""The tensors of emotion2vec, which some files have without the prefix."""

_NESTED = ("state_dict", "model_state_dict", "model")
"""The names of the tensors in a file that has a training's state too, in the order in which FunASR looks for them."""


def read_weights(file: Path) -> Tensors:
    """Read all tensors of a file, or of the files that an index lists, under their current names.

    Raises
    ------
    CheckpointUnreadable
        If a file is missing or damaged, contains other objects than tensors, or other tensors than the index lists.
    """
    return _read_shards(file) if file.name == SHARD_INDEX_FILE else _read_file(file)


def hash_weights(file: Path) -> str:
    """Return the SHA-256 of a file of weights, or of the files that an index lists, in hexadecimal."""
    digest = hashlib.sha256()
    for part in weight_parts(file):
        with part.open("rb") as opened:
            hashlib.file_digest(opened, lambda: digest)
    return digest.hexdigest()


def _read_shards(index: Path) -> Tensors:
    weights: Tensors = {}
    places = read_shard_index(index)
    for part in weight_parts(index):
        tensors = _read_file(part)
        listed = {_current_name(name) for name, place in places.items() if place == part.name}
        if tensors.keys() != listed:
            raise CheckpointUnreadable(
                f"{part.name} does not contain the tensors that {index.name} lists; "
                f"missing: {_list_names(sorted(listed - tensors.keys()))}; "
                f"unexpected: {_list_names(sorted(tensors.keys() - listed))}; fetch both from the same commit."
            )
        weights |= tensors
    return weights


def _read_file(file: Path) -> Tensors:
    weights: object
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            # Mapped into memory, because an optimizer's state is twice as large as the network.
            is_mapped = zipfile.is_zipfile(file)
            weights = _network_tensors(torch.load(file, map_location="cpu", weights_only=True, mmap=is_mapped))
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, EOFError) as error:
        raise CheckpointUnreadable(f"{file} cannot be read: {first_line(error)}") from error
    except Exception as error:
        raise CheckpointUnreadable(f"{file} contains more than tensors: {first_line(error)}") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise CheckpointUnreadable(f"{file} is not a dictionary of tensors.")
    current = {_current_name(name): tensor for name, tensor in weights.items()}
    if len(current) < len(weights):
        raise CheckpointUnreadable(f"{file} has a tensor under its old and its new name: save the network again.")
    return current


def _network_tensors(content: object) -> object:
    """Return the tensors of a network in the content of a file, without the state of its training."""
    for name in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    return content


def fit_tensors(
    given: Tensors, expected: Mapping[str, torch.Tensor], file_name: str, config_name: str = CONFIG_FILE
) -> Tensors:
    """Return exactly the tensors of a network in float32, without those that are safe to ignore.

    Parameters
    ----------
    given
        The file's tensors. The dictionary is emptied, because a second copy of a large network takes a gigabyte.
    expected
        The network's tensors.
    file_name, config_name
        For the error messages.

    Raises
    ------
    CheckpointUnreadable
        If a tensor is missing, unexpected, of a wrong shape or not finite.
    """
    missing = sorted(expected.keys() - given.keys())
    surplus = sorted(given.keys() - expected.keys())
    unexpected = [name for name in surplus if reason_to_ignore(name) is None]
    if missing or unexpected:
        raise CheckpointUnreadable(
            f"{file_name} does not belong to {config_name}, so fetch both again, or save the whole network again; "
            f"missing: {_list_names(missing)}; unexpected: {_list_names(unexpected)}."
        )
    for name in surplus:
        del given[name]
    misshaped = [
        f"{name} of shape {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}"
        for name, tensor in given.items()
        if tensor.shape != expected[name].shape
    ]
    if misshaped:
        raise CheckpointUnreadable(
            f"{file_name} has {_list_names(misshaped)}: fetch it and {config_name} from the same commit."
        )
    for name, tensor in given.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointUnreadable(f"{file_name} has values in {name} that are not finite.")
    # Copied, because tensors in the file's memory may not be aligned, which changes the last digits of sums.
    return {name: given.pop(name).to(torch.float32, copy=True) for name in list(given)}


def _current_name(name: str) -> str:
    for old, new in _RENAMED_IN_TRANSFORMERS_4_31.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return _EMOTION2VEC_PREFIX + name if name.startswith(_EMOTION2VEC_PARTS) else name


def _list_names(names: list[str], limit: int = 5) -> str:
    if not names:
        return "none"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
