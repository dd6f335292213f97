"""The serving graph of a network that hears the clip alone: layer norms in the feature encoder and before each block.

No frame stands for padding here (see `core.model.clip_inputs`), so the graph computes what the reference does, in the
same products as the window's: convolutions over rows of frames, 8 bits with a scale for each row where asked for. What
is left to save is in how it is written:

- A layer norm over the channels of a frame is the instance norm of a row, as in the transformer.
- The positional convolution is spread from its inputs, and cut to the clip: the padding that the reference puts around
  the clip is zeros and adds nothing.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from core.export.graph.builder import CONTRIB
from core.export.graph.layers import NetworkGraphBuilder

_CONV_NORM_EPSILON = 1e-5
"""nn.LayerNorm's own, which the feature encoder leaves as it is; the config names that of the other norms."""


class ClipGraph(NetworkGraphBuilder):
    """Writes a network that hears the clip alone; the inputs are those of `ClipGeometry.inputs`."""

    def build(self) -> onnx.ModelProto:
        """The whole network."""
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
        return self.assembled(inputs, [logits])

    def _feature_encoder(self) -> str:
        """Rows of samples to rows of features, shape ``(frames, conv_dim[-1])``."""
        rows = self._convolved_and_normed(self._first_convolution(), 0)
        for layer in range(1, len(self._config.conv_kernel)):
            rows = self._convolved_and_normed(self._convolution(rows, layer), layer)
        return rows

    def _first_convolution(self) -> str:
        """In float32 always: ten samples a row, a thousandth of the work, and where the sound's own digits are."""
        prefix = f"{self._prefix}.feature_extractor.conv_layers.0.conv"
        kernel = self._constant(np.ascontiguousarray(self._weights[f"{prefix}.weight"][:, 0, :].T))
        bias = self._weights.get(f"{prefix}.bias")
        if bias is None:
            return self._node("MatMul", "rows", kernel)
        return self._node("Gemm", "rows", kernel, self._constant(bias))

    def _convolved_and_normed(self, rows: str, layer: int) -> str:
        """The layer norm and the activation behind a convolution."""
        scale, shift = self._norm_weights(f"{self._prefix}.feature_extractor.conv_layers.{layer}.layer_norm")
        first = self._constant(np.array([0]))
        count = self._node("Shape", rows, start=0, end=1)
        normed = self._standardised(self._node("Unsqueeze", rows, first), lambda: count, _CONV_NORM_EPSILON)
        scaled = self._node("Mul", self._node("Squeeze", normed, first), scale)
        return self._node("BiasGelu", scaled, shift, domain=CONTRIB)

    def _positions(self, frames: str) -> str:
        """The positional convolution added to its input; ``(1, frames, hidden)``. No norm: each block has its own."""
        kernel = self._config.num_conv_pos_embeddings
        # The reference pads half a kernel in front, and as much behind, less one for an even kernel.
        first = self._constant(np.array([(kernel - 1) - kernel // 2]))
        end, axis = self._node("Add", "frame_count", first), self._constant(np.array([0]))
        convolved = self._node("Slice", self._spread_kernel(frames), first, end, axis)
        bias = self._constant(self._weights[f"{self._prefix}.encoder.pos_conv_embed.conv.bias"])
        embedding = self._node("BiasGelu", convolved, bias, domain=CONTRIB)
        return self._node("Unsqueeze", self._node("Add", frames, embedding), axis)

    def _transformer_layer(self, hidden: str, prefix: str) -> str:
        """Self-attention and feed-forward, each behind its layer norm and added to what it saw."""
        attended = self._attention(self._norm(hidden, f"{prefix}.layer_norm"), f"{prefix}.attention")
        hidden = self._node("Add", hidden, attended)
        inner = self._feed_forward(self._norm(hidden, f"{prefix}.final_layer_norm"), prefix)
        return self._node("Add", hidden, inner)

    def _token_count(self) -> str:
        return "frame_count"
