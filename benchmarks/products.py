"""What single steps of the network would cost in other ways, in ONNX Runtime at one thread, for an utterance of 2 s.

Products with a weight in eight bits, attention's own products in eight bits, and the positional convolution by FFT. All
ways of a step take turns; processor time, the best of the rounds. `python -m benchmarks.products [ROUNDS]`.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.tables import machine, show
from core.inference import onnx_session
from core.model.graph.precision import quantised_per_column
from core.model.graph.writer import CONTRIB

Array = npt.NDArray[Any]

_TOKENS, _HIDDEN, _INNER = 228, 768, 3072
_HEADS, _HEAD = 12, 64
_FRAMES, _KERNEL, _GROUPS = 99, 128, 16
_FFT = 256
"""Holds 99 frames and a kernel of 128: their sum has 226."""
_BINS = _FFT // 2 + 1

Node = tuple[str, Sequence[str], Sequence[str], str, dict[str, Any]]
"""Operator, inputs, outputs, domain, attributes."""


class _Way:
    """One way to compute a step: a graph of one output, its inputs, and the best time that it took."""

    def __init__(self, nodes: Sequence[Node], constants: Mapping[str, Array], inputs: Mapping[str, Array]) -> None:
        written = [helper.make_node(op, list(i), list(o), domain=d, **a) for op, i, o, d, a in nodes]
        tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
        takes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in inputs.items()]
        gives = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        graph = helper.make_graph(written, "step", takes, [gives], tensors)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
        self._session: onnxruntime.InferenceSession = onnx_session(model, 1)
        self._inputs = dict(inputs)
        self.constants_mb = sum(value.nbytes for value in constants.values()) / 1e6
        self.best_ms = np.inf

    def run(self) -> Array:
        """Compute it once, on the clock."""
        started = time.process_time()
        out: Array = self._session.run(None, self._inputs)[0]
        self.best_ms = min(self.best_ms, (time.process_time() - started) * 1000)
        return out


def _take_turns(ways: Mapping[str, _Way], rounds: int) -> dict[str, float]:
    """The mean error of each way, as a share of the first one's mean size."""
    outs = {name: way.run() for name, way in ways.items()}
    for _ in range(rounds):
        for way in ways.values():
            way.run()
    exact = next(iter(outs.values()))
    return {name: float(np.abs(out - exact).mean() / np.abs(exact).mean()) for name, out in outs.items()}


def _show(title: str, ways: Mapping[str, _Way], rounds: int) -> None:
    errors = _take_turns(ways, rounds)
    first_ms = next(iter(ways.values())).best_ms
    rows = [
        [name, f"{first_ms / way.best_ms:.2f}", f"{way.best_ms:.1f}", f"{errors[name]:.2%}", f"{way.constants_mb:.1f}"]
        for name, way in ways.items()
    ]
    show(title, ["", "times", "ms", "mean error", "constants MB"], rows)


def products(random: np.random.Generator) -> dict[str, _Way]:
    """Tokens by a feed-forward weight."""
    rows = {"rows": random.standard_normal((_TOKENS, _HIDDEN)).astype(np.float32)}
    weight = (random.standard_normal((_HIDDEN, _INNER)) / 28).astype(np.float32)
    signed, scale = quantised_per_column(weight)
    unsigned = (signed.astype(np.int16) + 128).astype(np.uint8)
    zeros = np.zeros(_INNER, np.int8)
    dynamic: Node = ("DynamicQuantizeMatMul", ("rows", "weight", "scale", "zeros"), ("out",), CONTRIB, {})
    blocks = {
        f"MatMulNBits, 8 bits, blocks of {size}, accuracy level {level}": _Way(
            [
                (
                    "MatMulNBits",
                    ("rows", "weight", "scale"),
                    ("out",),
                    CONTRIB,
                    {"K": _HIDDEN, "N": _INNER, "bits": 8, "block_size": size, "accuracy_level": level},
                )
            ],
            _in_blocks(weight, size),
            rows,
        )
        for level in (1, 4)
        for size in (32, 128)
    }
    return {
        "fp32": _Way([("MatMul", ("rows", "weight"), ("out",), "", {})], {"weight": weight}, rows),
        "DynamicQuantizeMatMul, as it is served": _Way(
            [dynamic], {"weight": signed, "scale": scale, "zeros": zeros}, rows
        ),
        "the same, unsigned by unsigned": _Way(
            [dynamic], {"weight": unsigned, "scale": scale, "zeros": np.full(_INNER, 128, np.uint8)}, rows
        ),
        **blocks,
    }


def _in_blocks(weight: Array, size: int) -> dict[str, Array]:
    """As `MatMulNBits` wants it: shape ``(outputs, blocks, size)``, around 128, and a scale for each block."""
    blocks = weight.T.reshape(_INNER, _HIDDEN // size, size)
    scale = np.abs(blocks).max(axis=2) / 127
    numbers = (np.clip(np.rint(blocks / scale[..., None]), -127, 127) + 128).astype(np.uint8)
    return {"weight": numbers, "scale": scale.astype(np.float32).reshape(-1)}


def attention(random: np.random.Generator) -> dict[str, _Way]:
    """One layer's attention between its projections: tokens by tokens, twice."""
    shape = (1, _HEADS, _TOKENS, _HEAD)
    inputs = {name: random.standard_normal(shape).astype(np.float32) for name in ("queries", "keys", "values")}
    inputs["queries"] /= np.sqrt(_HEAD)
    keys: Node = ("Transpose", ("keys",), ("turned",), "", {"perm": [0, 1, 3, 2]})
    softmax: Node = ("Softmax", ("scores",), ("shares",), "", {"axis": -1})
    plain: list[Node] = [
        keys,
        ("MatMul", ("queries", "turned"), ("scores",), "", {}),
        softmax,
        ("MatMul", ("shares", "values"), ("out",), "", {}),
    ]
    return {
        "fp32": _Way(plain, {}, inputs),
        "eight bits": _Way(
            [
                keys,
                *_eight_bit_product("queries", "turned", "scores"),
                softmax,
                *_eight_bit_product("shares", "values", "out"),
            ],
            {},
            inputs,
        ),
    }


def _eight_bit_product(left: str, right: str, out: str) -> list[Node]:
    def quantised(name: str) -> tuple[str, str, str]:
        return f"{name} q", f"{name} scale", f"{name} zero"

    return [
        ("DynamicQuantizeLinear", (left,), quantised(left), "", {}),
        ("DynamicQuantizeLinear", (right,), quantised(right), "", {}),
        (
            "MatMulIntegerToFloat",
            (f"{left} q", f"{right} q", f"{left} scale", f"{right} scale", f"{left} zero", f"{right} zero"),
            (out,),
            CONTRIB,
            {},
        ),
    ]


def positions(random: np.random.Generator) -> dict[str, _Way]:
    """The positional convolution of the clip's frames, grouped: as it is served, and in the frequency domain."""
    width = _HIDDEN // _GROUPS
    kernel = (random.standard_normal((_HIDDEN, width, _KERNEL)) / 80).astype(np.float32)
    frames = {"frames": random.standard_normal((_FRAMES, _HIDDEN)).astype(np.float32)}
    served: list[Node] = [
        ("Transpose", ("frames",), ("columns",), "", {"perm": [1, 0]}),
        ("Unsqueeze", ("columns", "first"), ("batch",), "", {}),
        ("ConvTranspose", ("batch", "kernel"), ("spread",), "", {"group": _GROUPS}),
        ("Squeeze", ("spread", "first"), ("whole",), "", {}),
        ("Transpose", ("whole",), ("out",), "", {"perm": [1, 0]}),
    ]
    return {
        "ConvTranspose, as it is served": _Way(served, {"kernel": kernel, "first": np.array([0])}, frames),
        "FFT as products, the kernel's spectrum stored": _Way(*_by_spectrum(kernel), frames),
    }


def _by_spectrum(kernel: Array) -> tuple[list[Node], dict[str, Array]]:
    width = _HIDDEN // _GROUPS
    # For each frequency and group, inputs by outputs.
    spectrum = np.fft.rfft(kernel.reshape(_GROUPS, width, width, _KERNEL), _FFT).transpose(3, 0, 1, 2)
    angles = 2 * np.pi / _FFT * np.outer(np.arange(_BINS), np.arange(_FFT))
    forward = np.concatenate([np.cos(angles), -np.sin(angles)])[:, :_FRAMES]
    doubled = np.where((np.arange(_BINS) == 0) | (np.arange(_BINS) == _FFT // 2), 1.0, 2.0)[:, None] / _FFT
    backward = np.concatenate([np.cos(angles) * doubled, -np.sin(angles) * doubled]).T[: _FRAMES + _KERNEL - 1]
    constants = {
        "forward": forward.astype(np.float32),
        "backward": backward.astype(np.float32),
        "real": spectrum.real.astype(np.float32),
        "imaginary": spectrum.imag.astype(np.float32),
        "apart": np.array([2, _BINS, _GROUPS, width]),
        "together": np.array([2 * _BINS, _HIDDEN]),
        "halves": np.array([1, 1]),
    }
    nodes: list[Node] = [
        ("MatMul", ("forward", "frames"), ("bins",), "", {}),
        ("Reshape", ("bins", "apart"), ("grouped",), "", {}),
        ("Transpose", ("grouped",), ("pairs",), "", {"perm": [1, 2, 0, 3]}),  # two rows: real and imaginary
        ("MatMul", ("pairs", "real"), ("by real",), "", {}),
        ("MatMul", ("pairs", "imaginary"), ("by imaginary",), "", {}),
        ("Split", ("by real", "halves"), ("rr", "ir"), "", {"axis": 2}),
        ("Split", ("by imaginary", "halves"), ("ri", "ii"), "", {"axis": 2}),
        ("Sub", ("rr", "ii"), ("out real",), "", {}),
        ("Add", ("ri", "ir"), ("out imaginary",), "", {}),
        ("Concat", ("out real", "out imaginary"), ("products",), "", {"axis": 2}),
        ("Transpose", ("products",), ("parts",), "", {"perm": [2, 0, 1, 3]}),
        ("Reshape", ("parts", "together"), ("spread",), "", {}),
        ("MatMul", ("backward", "spread"), ("out",), "", {}),
    ]
    return nodes, constants


def main(rounds: int = 15) -> None:
    """Print a table for each step."""
    print(f"\n{machine()}\nProcessor time at one thread; errors are relative to the first way.")
    random = np.random.default_rng(0)
    _show(f"A product of {_TOKENS} tokens by {_HIDDEN} x {_INNER}", products(random), rounds)
    _show("Attention's own products, one layer", attention(random), rounds)
    _show(f"The positional convolution of {_FRAMES} frames", positions(random), rounds)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
