"""What else could be done in eight bits, and what it does to decisions: attention's own products, smoothed scales.

Eight bits are simulated in PyTorch (a scale for each column of a weight, one for all activations, as ONNX Runtime
takes them), in the transformer's products only, so that these alone show; a small trained network, 240 utterances of
CASIA. `python -m benchmarks.eight_bits [SHARED]`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.decisions import casia, unweighted_accuracy
from benchmarks.tables import show
from core.model.checkpoint import Checkpoint, read_checkpoint
from core.model.classifier import Logits
from core.model.export import compare
from core.model.reference import ReferenceNetwork
from core.waveform import Waveform

_CALIBRATION_CLIPS = 40
_HALF = 0.5
"""How much of an activation's size goes over into the weight: SmoothQuant's own choice (Xiao et al., 2023)."""


def rounded(activations: torch.Tensor) -> torch.Tensor:
    """Activations as unsigned 8-bit integers with one scale and zero point say them."""
    lowest, highest = activations.min().clamp(max=0), activations.max().clamp(min=0)
    scale = (highest - lowest).clamp(min=1e-9) / 255
    zero_point = torch.round(-lowest / scale)
    return (torch.clamp(torch.round(activations / scale) + zero_point, 0, 255) - zero_point) * scale


def rounded_by_column(weight: torch.Tensor) -> torch.Tensor:
    """A weight of shape ``(outputs, inputs)`` as signed 8-bit integers with a scale for each output say it."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-9) / 127
    return torch.clamp(torch.round(weight / scale), -127, 127) * scale


class _EightBits(nn.Module):
    """A linear layer in eight bits, its inputs divided by `sizes` before and its weight multiplied by them."""

    def __init__(self, linear: nn.Linear, sizes: torch.Tensor) -> None:
        super().__init__()
        self._sizes, self._bias = sizes, linear.bias
        self._weight = rounded_by_column(linear.weight * sizes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(rounded(inputs / self._sizes), self._weight, self._bias)


def _eight_bit_attention(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, **_: Any) -> torch.Tensor:
    scores = rounded(queries * queries.shape[-1] ** -0.5) @ rounded(keys).transpose(-1, -2)
    return rounded(torch.softmax(scores, dim=-1)) @ rounded(values)


@contextmanager
def _attention_in_eight_bits() -> Iterator[None]:
    with patch.object(nn.functional, "scaled_dot_product_attention", _eight_bit_attention):
        yield


def _linears(checkpoint: Checkpoint) -> dict[str, nn.Linear]:
    layers = checkpoint.network.base_model.encoder.layers
    return {name: module for name, module in layers.named_modules() if isinstance(module, nn.Linear)}


def _largest_inputs(checkpoint: Checkpoint, clips: Sequence[Waveform]) -> dict[str, torch.Tensor]:
    """Of each linear layer, the largest size of each input, shape ``(inputs,)``."""
    largest: dict[str, torch.Tensor] = {}

    def noting(name: str) -> Callable[..., None]:
        def note(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            here = inputs[0].abs().amax(dim=(0, 1))
            largest[name] = torch.maximum(largest.get(name, here), here)

        return note

    hooks = [linear.register_forward_pre_hook(noting(name)) for name, linear in _linears(checkpoint).items()]
    _logits(checkpoint, clips)
    for hook in hooks:
        hook.remove()
    return largest


def _in_eight_bits(checkpoint: Checkpoint, largest: dict[str, torch.Tensor], smoothed: Callable[[str], bool]) -> None:
    """Replace the linear layers of a network."""
    layers = checkpoint.network.base_model.encoder.layers
    for name, linear in _linears(checkpoint).items():
        sizes = torch.ones(linear.in_features)
        if smoothed(name):
            of_weight = linear.weight.abs().amax(dim=0).clamp(min=1e-5)
            sizes = (largest[name].clamp(min=1e-5) ** _HALF / of_weight ** (1 - _HALF)).clamp(min=1e-5)
        parent, _, own = name.rpartition(".")
        setattr(layers.get_submodule(parent), own, _EightBits(linear, sizes))


def _logits(checkpoint: Checkpoint, clips: Sequence[Waveform]) -> list[Logits]:
    network = ReferenceNetwork(checkpoint)
    return [network.logits(clip) for clip in clips]


def main(shared: str = "../shared") -> None:
    """Print a row for each way."""
    folder = Path(shared)
    if not (folder / "data" / "speech").is_dir():
        print(f"\n{folder}/data/speech is not here: what else could be in eight bits was not measured.")
        return
    labelled = casia(folder)
    labels, clips = [label for label, _ in labelled], [clip for _, clip in labelled]
    source = folder / "models" / "casia-small"
    reference = _logits(read_checkpoint(source), clips)
    rows = [["PyTorch reference", f"{unweighted_accuracy(labels, reference):.2%}", "", "", ""]]
    ways: dict[str, tuple[Callable[[str], bool] | None, bool]] = {
        "the transformer's products with weights": (lambda _: False, False),
        "the same, smoothed where that costs nothing (before attention's last product)": (
            lambda name: name.endswith("out_proj"),
            False,
        ),
        "the same, smoothed everywhere": (lambda _: True, False),
        "attention's own products alone": (None, True),
        "products with weights, and attention's own": (lambda _: False, True),
    }
    for name, (smoothed, attention) in ways.items():
        checkpoint = read_checkpoint(source)
        with torch.inference_mode():
            if smoothed:
                largest = _largest_inputs(checkpoint, clips[:_CALIBRATION_CLIPS])
                _in_eight_bits(checkpoint, largest, smoothed)
        if attention:
            with _attention_in_eight_bits():
                logits = _logits(checkpoint, clips)
        else:
            logits = _logits(checkpoint, clips)
        parity = compare(reference, logits)
        changes = f"{parity.mean_score_change:.5f}", f"{parity.largest_score_change:.4f}"
        rows.append([name, f"{unweighted_accuracy(labels, logits):.2%}", f"{parity.agreement:.1%}", *changes])
    columns = ["in eight bits", "unweighted accuracy", "agreement", "mean change of a score", "largest"]
    show(f"What else could be in eight bits: casia-small on {len(clips)} utterances", columns, rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
