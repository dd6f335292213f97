"""The tensors of a checkpoint, read strictly: a missing, unexpected or mis-shaped one is an error that names it.

Reading is our own rather than `from_pretrained`'s, because that one starts a missing tensor at random and only logs it:
several published forks of such models answer from a random head without anybody noticing. And nothing is ever
unpickled.

Needs PyTorch, which the Lambda function does not have.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from core.checkpoints.files import first_line
from core.checkpoints.registry import Architecture
from core.errors import CheckpointUnreadable

Tensors = dict[str, torch.Tensor]

_RENAMED_SINCE_TRANSFORMERS_4 = {
    ".pos_conv_embed.conv.weight_g": ".pos_conv_embed.conv.parametrizations.weight.original0",
    ".pos_conv_embed.conv.weight_v": ".pos_conv_embed.conv.parametrizations.weight.original1",
}


def read_weights(file: Path) -> Tensors:
    """All tensors of a file, by today's names.

    Raises
    ------
    CheckpointUnreadable
        If the file is damaged, or holds anything but tensors.
    """
    try:
        if file.suffix == ".safetensors":
            weights = load_file(file)
        else:
            weights = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, EOFError) as error:
        raise CheckpointUnreadable(f"{file} cannot be read: {first_line(error)}") from error
    except Exception as error:
        raise CheckpointUnreadable(f"{file} holds more than tensors: {first_line(error)}") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise CheckpointUnreadable(f"{file} is not a dictionary of tensors.")
    return {_name_of_today(name): tensor for name, tensor in weights.items()}


def fitted(given: Tensors, expected: Mapping[str, torch.Tensor], architecture: Architecture, file_name: str) -> Tensors:
    """Exactly the tensors that a network has, in float32; what its layout ignores is left out.

    Parameters
    ----------
    given
        What the file holds. Emptied as it goes: two copies of a large network are a gigabyte more than one.
    expected
        The network's own.

    Raises
    ------
    CheckpointUnreadable
        If a tensor is missing, unexpected, mis-shaped or not finite.
    """
    missing = sorted(expected.keys() - given.keys())
    surplus = sorted(given.keys() - expected.keys())
    unexpected = [name for name in surplus if architecture.reason_to_ignore(name) is None]
    if missing or unexpected:
        raise CheckpointUnreadable(
            f"{file_name} does not fit the network; missing: {_listed(missing)}; unexpected: {_listed(unexpected)}."
        )
    for name in surplus:
        del given[name]
    for name, tensor in given.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointUnreadable(
                f"{file_name} has {name} of shape {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}."
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointUnreadable(f"{file_name} has values in {name} that are not finite.")
    # A copy, since what a file holds begins at any byte: PyTorch's sums on that differ in their last digits from those
    # on memory of its own.
    return {name: given.pop(name).to(torch.float32, copy=True) for name in list(given)}


def _name_of_today(name: str) -> str:
    for old, new in _RENAMED_SINCE_TRANSFORMERS_4.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _listed(names: list[str], most: int = 5) -> str:
    if not names:
        return "none"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
