"""The serving graph of a network that classifies a padded window (see `core.model.window_inputs`).

The graph is built by hand rather than traced, because it computes less than the reference
(docs/decisions/0004-positional-convolution.md, 0005-padding-shortcut.md and 0006-feature-encoder.md):

- The feature encoder has a row for each frame. A convolution is one product for the taps within its stride, and one
  more for each further group of taps. The first product needs no copy of the rows, only a reshape.
- The first layer's group norm is folded into its kernel: mean and variance of ``W x`` are ``W mean(x)`` and
  ``W cov(x) W'``, which need ten by ten numbers instead of millions.
- The positional convolution is computed for the difference of the clip from the padding. The constant padding adds a
  running sum over the kernel.
- Weight norm is folded. Attention and GELU are ONNX Runtime's fused operators. Layer norms are computed as instance
  norms, which are faster and equal.

For 8-bit products, weights have a scale for each column. Activations have one scale for each product in the
transformer, whose layer norms keep rows similar. In the feature encoder, they have one for each row, because a single
scale would lose the quiet frames (docs/decisions/0002-eight-bit-products.md).
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from core.export.graph.builder import CONTRIB, TO_THE_END
from core.export.graph.layers import NetworkGraphBuilder


class WindowGraph(NetworkGraphBuilder):
    """Builds the graph of a network that classifies a padded window; its inputs are `WindowGeometry.graph_inputs`."""

    def build(self) -> onnx.ModelProto:
        """Build the whole network."""
        hidden = self._positions(self._feature_projection(self._feature_encoder()))
        bias = self._attention_bias()
        for layer in range(self._config.num_hidden_layers):
            hidden = self._transformer_layer(hidden, bias, f"{self._prefix}.encoder.layers.{layer}")
        logits = self._logits(self._pooled(hidden))
        kernel, floats = self._config.conv_kernel[0], TensorProto.FLOAT
        inputs = [
            helper.make_tensor_value_info("rows", floats, ["rows", kernel]),
            helper.make_tensor_value_info("row_mean", floats, [1, kernel]),
            helper.make_tensor_value_info("row_covariance", floats, [kernel, kernel]),
            helper.make_tensor_value_info("token_frames", TensorProto.INT64, ["tokens"]),
            helper.make_tensor_value_info("token_weights", floats, ["groups"]),
        ]
        if self._precision.groups_tokens:
            inputs.append(helper.make_tensor_value_info("token_shares", floats, ["groups", "tokens"]))
        return self._assemble(inputs, [logits])

    def _feature_encoder(self) -> str:
        """Turn rows of samples into features, shape ``(frames, conv_dim[-1])``."""
        rows = self._first_convolution()
        for layer in range(1, len(self._config.conv_kernel)):
            rows = self._node("Gelu", self._convolution(rows, layer), domain=CONTRIB)
        return rows

    def _first_convolution(self) -> str:
        """Add the first layer, whose norm is folded into the kernel with the clip's statistics."""
        prefix = f"{self._prefix}.feature_extractor.conv_layers.0"
        kernel = self._constant(self._weights[f"{prefix}.conv.weight"][:, 0, :].T)
        scale = self._constant(self._weights[f"{prefix}.layer_norm.weight"][None])
        shift = self._constant(self._weights[f"{prefix}.layer_norm.bias"][None])
        mean = self._node("MatMul", "row_mean", kernel)
        products = self._node("Mul", self._node("MatMul", "row_covariance", kernel), kernel)
        variance = self._node("ReduceSum", products, self._constant(np.array([0])), keepdims=1)
        # The default epsilon of nn.GroupNorm, which the config does not name.
        deviation = self._node("Sqrt", self._node("Add", variance, self._constant(np.float32(1e-5))))
        gain = self._node("Div", scale, deviation)
        offset = self._node("Sub", shift, self._node("Mul", mean, gain))
        rows = self._node("MatMul", "rows", self._node("Mul", kernel, gain))
        flat = self._node("Reshape", offset, self._constant(np.array([-1])))
        return self._node("BiasGelu", rows, flat, domain=CONTRIB)

    def _feature_projection(self, rows: str) -> str:
        """Project the features of the tokens' frames to hidden states, shape ``(frames, hidden)``."""
        last = self._slice("token_frames", -1, TO_THE_END, axis=0)
        frames = self._node("Add", last, self._constant(np.array([1])))
        return self._projection(
            self._node("Slice", rows, self._constant(np.array([0])), frames, self._constant(np.array([0])))
        )

    def _positions(self, frames: str) -> str:
        """Turn frames into tokens, with the positional convolution and the first norm; ``(1, tokens, hidden)``."""
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
        tokens = self._node("Unsqueeze", tokens, self._constant(np.array([0])))
        return self._norm(tokens, f"{self._prefix}.encoder.layer_norm")

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

    def _transformer_layer(self, hidden: str, attention_bias: str, prefix: str) -> str:
        """Add self-attention and feed-forward, each followed by its layer norm; shape ``(1, tokens, hidden)``."""
        attended = self._attention(hidden, f"{prefix}.attention", attention_bias)
        hidden = self._norm(hidden, f"{prefix}.layer_norm", plus=attended)
        return self._norm(hidden, f"{prefix}.final_layer_norm", plus=self._feed_forward(hidden, prefix))

    def _pooled(self, hidden: str) -> str:
        """Average the tokens by their weights, shape ``(1, hidden)``."""
        weights = self._node("Unsqueeze", "token_weights", self._constant(np.array([0, 1])))
        total = self._node("MatMul", weights, hidden)
        count = self._node("ReduceSum", "token_weights", keepdims=1)
        return self._node("Squeeze", self._node("Div", total, count), self._constant(np.array([1])))

    def _token_count(self) -> str:
        return self._node("Shape", "token_weights")
