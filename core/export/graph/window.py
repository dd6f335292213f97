"""The serving graph: the reference network as matrix products over what `core.model.inputs` leaves to compute.

Built by hand rather than traced, because the point is to compute less than the reference does:

- The feature encoder is time-major: a row per frame, so that a convolution is one product for the taps within its
  stride (a reshape, no copy) and one more for each group of taps beyond it.
- The first layer's group norm is folded into its kernel: mean and variance of ``W x`` are ``W mean(x)`` and
  ``W cov(x) W'``, ten by ten numbers instead of millions.
- The positional convolution is computed on what differs from the padding, which is the clip alone; what the constant
  padding adds is a running sum over the kernel.
- Weight norm is folded; attention and GELU are ONNX Runtime's fused operators. Its layer norm is not used: summing up
  in scalars, it takes six times as long as the instance norm, which computes the same.

Eight bits: weights have a scale for each column. Activations have one for each product in the transformer, whose layer
norms keep them alike, and one for each row in the feature encoder, where a single one would let the loudest frame ruin
the quiet ones (35 instead of 73 % unweighted accuracy with the feature encoder of a trained network).

Precision is chosen per group of products, see `Precision`. Needs onnx, which the Lambda function does not have.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from core.export.graph.builder import CONTRIB, TO_THE_END
from core.export.graph.layers import NetworkGraphBuilder


class WindowGraph(NetworkGraphBuilder):
    """Writes a network that hears the padded window; the inputs are those of `WindowGeometry.inputs`."""

    def build(self) -> onnx.ModelProto:
        """The whole network."""
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
        return self.assembled(inputs, [logits])

    def _feature_encoder(self) -> str:
        """Rows of samples to rows of features, shape ``(frames, conv_dim[-1])``."""
        rows = self._first_convolution()
        for layer in range(1, len(self._config.conv_kernel)):
            rows = self._node("Gelu", self._convolution(rows, layer), domain=CONTRIB)
        return rows

    def _first_convolution(self) -> str:
        """The only layer with a norm, which is folded into the kernel once the clip's statistics are known."""
        prefix = f"{self._prefix}.feature_extractor.conv_layers.0"
        kernel = self._constant(self._weights[f"{prefix}.conv.weight"][:, 0, :].T)
        scale = self._constant(self._weights[f"{prefix}.layer_norm.weight"][None])
        shift = self._constant(self._weights[f"{prefix}.layer_norm.bias"][None])
        mean = self._node("MatMul", "row_mean", kernel)
        products = self._node("Mul", self._node("MatMul", "row_covariance", kernel), kernel)
        variance = self._node("ReduceSum", products, self._constant(np.array([0])), keepdims=1)
        # nn.GroupNorm's own epsilon, which the config does not name.
        deviation = self._node("Sqrt", self._node("Add", variance, self._constant(np.float32(1e-5))))
        gain = self._node("Div", scale, deviation)
        offset = self._node("Sub", shift, self._node("Mul", mean, gain))
        rows = self._node("MatMul", "rows", self._node("Mul", kernel, gain))
        flat = self._node("Reshape", offset, self._constant(np.array([-1])))
        return self._node("BiasGelu", rows, flat, domain=CONTRIB)

    def _feature_projection(self, rows: str) -> str:
        """Features to hidden states, one for each frame that a token shows; shape ``(frames, hidden)``."""
        last = self._slice("token_frames", -1, TO_THE_END, axis=0)
        frames = self._node("Add", last, self._constant(np.array([1])))
        return self._projection(
            self._node("Slice", rows, self._constant(np.array([0])), frames, self._constant(np.array([0])))
        )

    def _positions(self, frames: str) -> str:
        """From frames to tokens, with the positional convolution and the first layer norm; ``(1, tokens, hidden)``."""
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
        """The rows of a spread kernel that belong to tokens, with zeros for those that no row reached."""
        kernel = self._config.num_conv_pos_embeddings
        first = (kernel - 1) - kernel // 2
        silence = self._constant(np.zeros((kernel, self._config.hidden_size), np.float32))
        count = self._node("Shape", "token_frames")
        end = self._node("Add", count, self._constant(np.array([first])))
        start, axis = self._constant(np.array([first])), self._constant(np.array([0]))
        return self._node("Slice", self._node("Concat", spread, silence, axis=0), start, end, axis)

    def _running_sums(self, constant: str) -> str:
        """What a row that is the same everywhere adds to each token: the sum of the taps that lie inside.

        `constant` holds the taps' shares in reverse order; the reference pads half a kernel in front, and as much
        behind, less one for an even kernel.
        """
        kernel = self._config.num_conv_pos_embeddings
        nothing = self._constant(np.zeros((1, self._config.hidden_size), np.float32))
        sums = self._node("CumSum", constant, self._constant(np.array(0)))
        sums = self._node("Concat", nothing, sums, axis=0)
        count = self._node("Squeeze", self._node("Shape", "token_frames"))
        one, zero = self._constant(np.array(1)), self._constant(np.array(0))
        token = self._node("Range", zero, count, one)
        # Token t sees the rows from t - kernel // 2 on; reversed tap j of them is kernel - 1 - j places further.
        first = self._node("Add", token, self._constant(np.array(kernel - kernel // 2)))
        until = self._node("Min", first, self._constant(np.array(kernel)))
        since = self._node("Max", self._node("Sub", first, count), zero)
        upper = self._node("Gather", sums, until, axis=0)
        return self._node("Sub", upper, self._node("Gather", sums, since, axis=0))

    def _attention_bias(self) -> str:
        """A token that stands for ``c`` equal ones is attended to ``c`` times: its key's score grows by ``log c``."""
        log_count = self._node("Log", "token_weights")
        shape = self._node("Shape", log_count)
        one = self._constant(np.array([1]))
        square = self._node("Concat", one, one, shape, shape, axis=0)
        return self._node("Expand", log_count, square)

    def _transformer_layer(self, hidden: str, attention_bias: str, prefix: str) -> str:
        """Self-attention and feed-forward, each followed by its layer norm; shape stays ``(1, tokens, hidden)``."""
        attended = self._attention(hidden, f"{prefix}.attention", attention_bias)
        hidden = self._norm(hidden, f"{prefix}.layer_norm", plus=attended)
        return self._norm(hidden, f"{prefix}.final_layer_norm", plus=self._feed_forward(hidden, prefix))

    def _pooled(self, hidden: str) -> str:
        """The weighted mean over the tokens, shape ``(1, hidden)``."""
        weights = self._node("Unsqueeze", "token_weights", self._constant(np.array([0, 1])))
        total = self._node("MatMul", weights, hidden)
        count = self._node("ReduceSum", "token_weights", keepdims=1)
        return self._node("Squeeze", self._node("Div", total, count), self._constant(np.array([1])))

    def _token_count(self) -> str:
        return self._node("Shape", "token_weights")
