"""The part of a serving graph that depends on a padded window (see `core.model.window_inputs`).

- The positional convolution is computed for the difference of the clip from the padding. The constant padding adds a
  running sum over the kernel.
- Tokens with only padding are one token, whose number is a bias of the attention and a weight in the mean.
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
        padding = self._slice(frames, -1, TO_THE_END, axis=0)
        moving = self._spread_kernel(self._node("Sub", frames, padding))
        constant = self._spread_kernel(padding)
        bias = self._constant(self._weights[f"{self._prefix}.encoder.pos_conv_embed.conv.bias"])
        convolved = self._node("Add", self._cut_to_tokens(moving), self._running_sums(constant))
        embedding = self._node("BiasGelu", convolved, bias, domain=CONTRIB)
        tokens = self._node("Add", hidden, embedding)
        if self._precision.groups_tokens:
            tokens = self._node("MatMul", "token_shares", tokens)
        return self._node("Unsqueeze", tokens, self._constant(np.array([0])))

    def _cut_to_tokens(self, spread: str) -> str:
        """Cut a spread kernel to the rows of the tokens, with zeros for tokens that no row affects."""
        kernel = self._config.num_conv_pos_embeddings
        first = (kernel - 1) - kernel // 2
        silence = self._constant(np.zeros((kernel, self._config.hidden_size), np.float32))
        count = self._node("Shape", "token_frames")
        end = self._node("Add", count, self._constant(np.array([first])))
        start, axis = self._constant(np.array([first])), self._constant(np.array([0]))
        return self._node("Slice", self._node("Concat", spread, silence, axis=0), start, end, axis)

    def _running_sums(self, constant: str) -> str:
        """Add the contribution of constant rows to each token: the sum of the taps within the window.

        `constant` contains the taps' products in reverse order. The reference pads half a kernel before and after, but
        one row less after for an even kernel.
        """
        kernel = self._config.num_conv_pos_embeddings
        zeros = self._constant(np.zeros((1, self._config.hidden_size), np.float32))
        sums = self._node("CumSum", constant, self._constant(np.array(0)))
        sums = self._node("Concat", zeros, sums, axis=0)
        count = self._node("Squeeze", self._node("Shape", "token_frames"))
        one, zero = self._constant(np.array(1)), self._constant(np.array(0))
        token = self._node("Range", zero, count, one)
        # The first row under token t is t - kernel // 2. Reversed tap j is kernel - 1 - j rows further.
        first = self._node("Add", token, self._constant(np.array(kernel - kernel // 2)))
        until = self._node("Min", first, self._constant(np.array(kernel)))
        since = self._node("Max", self._node("Sub", first, count), zero)
        upper = self._node("Gather", sums, until, axis=0)
        return self._node("Sub", upper, self._node("Gather", sums, since, axis=0))

    def _attention_bias(self) -> str:
        """Compute the attention bias, which adds ``log c`` to the score of a key that represents ``c`` tokens."""
        log_count = self._node("Log", "token_weights")
        shape = self._node("Shape", log_count)
        one = self._constant(np.array([1]))
        square = self._node("Concat", one, one, shape, shape, axis=0)
        return self._node("Expand", log_count, square)

    def _mean(self, hidden: str) -> str:
        """Average the tokens by their weights, shape ``(1, hidden)``."""
        weights = self._node("Unsqueeze", "token_weights", self._constant(np.array([0, 1])))
        total = self._node("MatMul", weights, hidden)
        count = self._node("ReduceSum", "token_weights", keepdims=1)
        return self._node("Squeeze", self._node("Div", total, count), self._constant(np.array([1])))

    def _token_count(self) -> str:
        return self._node("Shape", "token_weights")
