"""The part of a serving graph that depends on a padded window (see `core.model.window_inputs`).

Tokens with only padding are one token, whose number is a bias of the attention and a weight in the mean. The positional
convolution of the tokens that remain equals the whole window's, because half its kernel is padding on either side of
the token that stands for others.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from core.export.graph.builder import CONTRIB, TO_THE_END
from core.export.graph.network import NetworkGraphBuilder


class WindowGraph(NetworkGraphBuilder):
    """Builds the graph of a network that classifies a padded window; its inputs are `WindowGeometry.graph_inputs`."""

    def _token_inputs(self) -> list[onnx.ValueInfoProto]:
        inputs = [
            helper.make_tensor_value_info("token_frames", TensorProto.INT64, ["tokens"]),
            helper.make_tensor_value_info("token_weights", TensorProto.FLOAT, ["groups"]),
        ]
        if self._precision.groups_tokens:
            inputs.append(helper.make_tensor_value_info("token_shares", TensorProto.FLOAT, ["groups", "tokens"]))
        return inputs

    def _frames(self, rows: str) -> str:
        last = self._slice("token_frames", -1, TO_THE_END, axis=0)
        frames = self._node("Add", last, self._constant(np.array([1])))
        return self._node("Slice", rows, self._constant(np.array([0])), frames, self._constant(np.array([0])))

    def _embeddings(self, frames: str) -> str:
        hidden = self._node("Gather", frames, "token_frames", axis=0)
        convolved = self._positional_convolution(hidden)
        bias = self._constant(self._weights[f"{self._prefix}.encoder.pos_conv_embed.conv.bias"])
        embedding = self._node("BiasGelu", convolved, bias, domain=CONTRIB)
        tokens = self._node("Add", hidden, embedding)
        if self._precision.groups_tokens:
            tokens = self._node("MatMul", "token_shares", tokens)
        return self._node("Unsqueeze", tokens, self._constant(np.array([0])))

    def _attention_bias(self) -> str:
        """Return the attention bias, which adds ``log c`` to the score of a key that represents ``c`` tokens."""
        return self._node("Log", "token_weights")

    def _mean(self, hidden: str) -> str:
        """Average the tokens by their weights, shape ``(1, hidden)``."""
        weights = self._node("Unsqueeze", "token_weights", self._constant(np.array([0, 1])))
        total = self._node("MatMul", weights, hidden)
        count = self._node("ReduceSum", "token_weights", keepdims=1)
        return self._node("Squeeze", self._node("Div", total, count), self._constant(np.array([1])))

    def _token_count(self) -> str:
        return self._node("Shape", "token_weights")
