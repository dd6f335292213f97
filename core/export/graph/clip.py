"""The serving graph of a network that classifies the clip alone, without padding.

The network has layer norms in the feature encoder and before each block of the transformer. The graph computes every
frame (see `core.model.clip_inputs`) with the same products as the window's graph. Two parts are faster than in the
reference:

- A layer norm over the channels of a frame is computed as the instance norm of a row, as in the transformer.
- The positional convolution is computed from its inputs and cut to the clip, because the reference's zero padding adds
  nothing.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from core.export.graph.builder import CONTRIB
from core.export.graph.layers import NetworkGraphBuilder

_CONV_NORM_EPSILON = 1e-5
"""The default of nn.LayerNorm, which the feature encoder uses. The config names the value of the other norms."""


class ClipGraph(NetworkGraphBuilder):
    """Builds the graph of a network that classifies the clip alone; its inputs are `ClipGeometry.graph_inputs`."""

    def build(self) -> onnx.ModelProto:
        """Build the whole network."""
        rows = self._feature_encoder()
        start, axis = self._constant(np.array([0])), self._constant(np.array([0]))
        hidden = self._positions(self._projection(self._node("Slice", rows, start, "frame_count", axis)))
        for layer in range(self._config.num_hidden_layers):
            hidden = self._transformer_layer(hidden, f"{self._prefix}.encoder.layers.{layer}")
        hidden = self._norm(hidden, f"{self._prefix}.encoder.layer_norm")
        pooled = self._node("ReduceMean", hidden, self._constant(np.array([1])), keepdims=0)
        logits = self._logits(pooled)
        inputs = [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["rows", self._config.conv_kernel[0]]),
            helper.make_tensor_value_info("frame_count", TensorProto.INT64, [1]),
        ]
        return self._assemble(inputs, [logits])

    def _feature_encoder(self) -> str:
        """Turn rows of samples into features, shape ``(frames, conv_dim[-1])``."""
        rows = self._norm_and_activation(self._first_convolution(), 0)
        for layer in range(1, len(self._config.conv_kernel)):
            rows = self._norm_and_activation(self._convolution(rows, layer), layer)
        return rows

    def _first_convolution(self) -> str:
        """Add the first convolution, always in float32: it is a thousandth of the work, and needs the precision."""
        prefix = f"{self._prefix}.feature_extractor.conv_layers.0.conv"
        kernel = self._constant(np.ascontiguousarray(self._weights[f"{prefix}.weight"][:, 0, :].T))
        bias = self._weights.get(f"{prefix}.bias")
        if bias is None:
            return self._node("MatMul", "rows", kernel)
        return self._node("Gemm", "rows", kernel, self._constant(bias))

    def _norm_and_activation(self, rows: str, layer: int) -> str:
        """Add the layer norm and the activation after a convolution."""
        scale, shift = self._norm_weights(f"{self._prefix}.feature_extractor.conv_layers.{layer}.layer_norm")
        first = self._constant(np.array([0]))
        count = self._node("Shape", rows, start=0, end=1)
        normed = self._standardised(self._node("Unsqueeze", rows, first), lambda: count, _CONV_NORM_EPSILON)
        scaled = self._node("Mul", self._node("Squeeze", normed, first), scale)
        return self._node("BiasGelu", scaled, shift, domain=CONTRIB)

    def _positions(self, frames: str) -> str:
        """Add the positional convolution to its input; ``(1, frames, hidden)``. Each block has its own norm."""
        kernel = self._config.num_conv_pos_embeddings
        # The reference pads half a kernel before and after, less one after for an even kernel.
        first = self._constant(np.array([(kernel - 1) - kernel // 2]))
        end, axis = self._node("Add", "frame_count", first), self._constant(np.array([0]))
        convolved = self._node("Slice", self._spread_kernel(frames), first, end, axis)
        bias = self._constant(self._weights[f"{self._prefix}.encoder.pos_conv_embed.conv.bias"])
        embedding = self._node("BiasGelu", convolved, bias, domain=CONTRIB)
        return self._node("Unsqueeze", self._node("Add", frames, embedding), axis)

    def _transformer_layer(self, hidden: str, prefix: str) -> str:
        """Add self-attention and feed-forward, each after its layer norm and with a residual connection."""
        attended = self._attention(self._norm(hidden, f"{prefix}.layer_norm"), f"{prefix}.attention")
        hidden = self._node("Add", hidden, attended)
        inner = self._feed_forward(self._norm(hidden, f"{prefix}.final_layer_norm"), prefix)
        return self._node("Add", hidden, inner)

    def _token_count(self) -> str:
        return "frame_count"
