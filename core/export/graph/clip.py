"""The part of a serving graph that depends on a clip without padding (see `core.model.clip_inputs`).

WavLM's position bias depends only on the distance of two frames, so it is a table without logarithms.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from core.checkpoints.architecture import Encoder
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.export.graph.builder import CONTRIB, Floats
from core.export.graph.network import NetworkGraphBuilder
from core.export.graph.precision import Precision
from core.model.clip_inputs import ClipGeometry


class ClipGraph(NetworkGraphBuilder):
    """Builds the graph of a network that classifies the clip alone; its inputs are `ClipGeometry.graph_inputs`."""

    def __init__(self, network: SpeechNetwork, precision: Precision) -> None:
        super().__init__(network, precision)
        self._position_table = _position_table(network) if network.architecture.encoder is Encoder.WAVLM else None

    def _token_inputs(self) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info("frame_count", TensorProto.INT64, [1])]

    def _frames(self, rows: str) -> str:
        start, axis = self._constant(np.array([0])), self._constant(np.array([0]))
        return self._node("Slice", rows, start, "frame_count", axis)

    def _embeddings(self, frames: str) -> str:
        bias = self._constant(self._weights[f"{self._prefix}.encoder.pos_conv_embed.conv.bias"])
        embedding = self._node("BiasGelu", self._positional_convolution(frames), bias, domain=CONTRIB)
        tokens = self._node("Add", frames, embedding)
        return self._node("Unsqueeze", tokens, self._constant(np.array([0])))

    def _attention_bias(self) -> str:
        """Look up WavLM's position bias, shape ``(heads, frames, frames)``, which all layers share."""
        if self._position_table is None:
            return ""
        centre = self._position_table.shape[1] // 2
        zero, one = self._constant(np.array(0)), self._constant(np.array(1))
        frame = self._node("Range", zero, self._node("Squeeze", "frame_count"), one)
        key = self._node("Add", frame, self._constant(np.array(centre)))
        distance = self._node("Sub", key, self._node("Unsqueeze", frame, self._constant(np.array([1]))))
        return self._node("Gather", self._constant(self._position_table), distance, axis=1)

    def _mean(self, hidden: str) -> str:
        return self._node("ReduceMean", hidden, self._constant(np.array([1])), keepdims=0)

    def _token_count(self) -> str:
        return "frame_count"


def _position_table(network: SpeechNetwork) -> Floats:
    """Return WavLM's position bias by the distance of the key from the query.

    Returns
    -------
    Shape ``(heads, 2 * frames - 1)`` for the frames of the longest clip. The middle column is for the distance 0.
    """
    geometry = geometry_of(network)
    assert isinstance(geometry, ClipGeometry)
    frames = geometry.frames(geometry.max_samples)
    bias = network.base_model.encoder.layers[0].attention.compute_bias(frames, frames).detach().numpy()
    return np.concatenate([bias[:, -1], bias[:, 0, 1:]], axis=1)
