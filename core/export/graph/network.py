"""Builds the serving graph of any architecture from its layers.

The graph is built by hand rather than traced, because it computes less than the reference
(docs/decisions/0005-padding-shortcut.md, 0006-feature-encoder.md, 0028-more-architectures.md and
0052-cheaper-graph.md):

- The feature encoder has a row for each frame. A convolution is one product for the taps within its stride, and one
  more for each further group of taps. The first product needs no copy of the rows, only a reshape.
- The first layer's group norm is folded into its kernel: mean and variance of ``W x`` are ``W mean(x)`` and
  ``W cov(x) W'``, which need ten by ten numbers instead of millions.
- The feature encoder runs over chunks of the clip in a loop, so that its activations stay in the processor's cache.
- The positional convolution is computed in the frequency domain.
- Weight norm is folded. GELU is ONNX Runtime's fused operator. Attention is two products that read each head in place.
  Layer norms are computed as instance norms, which are faster and equal.
- The mean over time precedes the weighted sum of the states and the head's affine steps, so these cost nothing.

For 8-bit products, weights have a scale for each column. Activations have one scale for each product in the
transformer, whose layer norms keep rows similar. In the feature encoder, they have one for each row of a product,
because a single scale would lose the quiet frames (docs/decisions/0002-eight-bit-products.md).
"""

from abc import ABC, abstractmethod
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper

from core.checkpoints.architecture import LAYER_WEIGHTS, TANH, Dense
from core.export.graph.builder import CONTRIB
from core.export.graph.layers import LayerBuilder

_MAX_CHUNK_FRAMES = 64
"""The activations of this many frames fit into a processor's cache: docs/decisions/0052-cheaper-graph.md."""


class NetworkGraphBuilder(LayerBuilder, ABC):
    """Builds the graph of one network. Each method adds one part and returns the name of its output."""

    def build(self) -> onnx.ModelProto:
        """Build the whole network."""
        frames = self._projection(self._frames(self._feature_encoder()))
        states = self._states(self._embeddings(frames))
        mean = self._weighted_mean(states) if self._architecture.has_weighted_sum else self._mean(states[-1])
        logits = self._logits(mean)
        return self._assemble([*self._row_inputs(), *self._token_inputs()], [logits])

    def _row_inputs(self) -> list[onnx.ValueInfoProto]:
        kernel = self._config.conv_kernel[0]
        inputs = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["rows", kernel])]
        if self._has_group_norm:
            inputs.append(helper.make_tensor_value_info("row_mean", TensorProto.FLOAT, [1, kernel]))
            inputs.append(helper.make_tensor_value_info("row_covariance", TensorProto.FLOAT, [kernel, kernel]))
        return inputs

    @abstractmethod
    def _token_inputs(self) -> list[onnx.ValueInfoProto]:
        """Return the graph's inputs after those of the feature encoder."""

    def _feature_encoder(self) -> str:
        """Turn rows of samples into features, shape ``(frames, conv_dim[-1])``, in chunks of about equal length.

        Chunks overlap by the rows on which the last frame of each depends, so the features equal those of all rows.
        """
        rows_per_frame = self._constant(np.array([prod(self._config.conv_stride[1:])]))
        frames = self._node("Div", self._node("Shape", "rows", start=0, end=1), rows_per_frame)
        chunks = self._rounded_up(frames, self._constant(np.array([_MAX_CHUNK_FRAMES])))
        chunk_frames = self._rounded_up(frames, chunks)
        chunk_rows = self._node("Mul", chunk_frames, rows_per_frame)
        first_layer = self._first_layer()
        zero = self._constant(np.array([0]))

        def encode(number: str, features: str) -> str:
            start = self._node("Mul", number, chunk_rows)
            end = self._node("Add", self._node("Add", start, chunk_rows), self._constant(np.array([self._halo_rows])))
            rows = first_layer(self._node("Slice", "rows", start, end, zero))
            encoded = self._node("Slice", self._later_layers(rows), zero, chunk_frames, zero)
            return self._node("Concat", features, encoded, axis=0)

        none = self._constant(np.zeros((0, self._config.conv_dim[-1]), np.float32))
        return self._loop(self._node("Squeeze", chunks), none, encode)

    @property
    def _halo_rows(self) -> int:
        """The rows after a chunk on which its last frame depends, rounded up to whole frames.

        A kernel that reaches into a block of `stride` rows depends on the whole block, by the scale of its integers.
        """
        kernels, strides = self._config.conv_kernel[1:], self._config.conv_stride[1:]
        reach = 1
        for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
            reach = (reach - 1) * stride + -(-kernel // stride) * stride
        per_frame = prod(strides)
        return int(max(0, -(-reach // per_frame) - 1) * per_frame)

    def _rounded_up(self, value: str, divisor: str) -> str:
        """Add a division of integers that rounds up."""
        before = self._node("Sub", value, self._constant(np.array([1])))
        return self._node("Add", self._node("Div", before, divisor), self._constant(np.array([1])))

    def _later_layers(self, rows: str) -> str:
        """Add the feature encoder's layers after the first."""
        for layer in range(1, len(self._config.conv_kernel)):
            rows = self._convolution(rows, layer)
            if self._has_group_norm:
                rows = self._node("Gelu", rows, domain=CONTRIB)
            else:
                rows = self._layer_norm_and_activation(rows, layer)
        return rows

    @abstractmethod
    def _frames(self, rows: str) -> str:
        """Cut the feature encoder's rows to the frames of the tokens."""

    @abstractmethod
    def _embeddings(self, frames: str) -> str:
        """Turn frames into tokens, with the positional convolution added: ``(1, tokens, hidden)``."""

    @abstractmethod
    def _attention_bias(self) -> str:
        """Return the bias of the attention's scores; an empty name if there is none."""

    @abstractmethod
    def _mean(self, hidden: str) -> str:
        """Return the mean over time, shape ``(1, hidden)``."""

    def _states(self, hidden: str) -> list[str]:
        """Return the input of the first layer and the output of each, shape ``(1, tokens, hidden)``."""
        norm = f"{self._prefix}.encoder.layer_norm"
        states = [hidden if self._is_stable else self._norm(hidden, norm)]
        bias = self._attention_bias()
        add_layer = self._layer_with_norms_before if self._is_stable else self._layer_with_norms_after
        for layer in range(self._layer_count):
            states.append(add_layer(states[-1], bias, f"{self._prefix}.encoder.layers.{layer}"))
        return [*states[:-1], self._norm(states[-1], norm)] if self._is_stable else states

    @property
    def _is_stable(self) -> bool:
        """Whether the norms precede the layers of the transformer."""
        return bool(self._config.do_stable_layer_norm)

    @property
    def _layer_count(self) -> int:
        """The number of layers of the transformer."""
        return int(self._config.num_hidden_layers)

    def _layer_with_norms_before(self, hidden: str, bias: str, prefix: str) -> str:
        """Add self-attention and feed-forward, each after its layer norm and with a residual connection."""
        attended = self._attention(self._norm(hidden, f"{prefix}.layer_norm"), f"{prefix}.attention", bias)
        hidden = self._node("Add", hidden, attended)
        inner = self._feed_forward(self._norm(hidden, f"{prefix}.final_layer_norm"), prefix)
        return self._node("Add", hidden, inner)

    def _layer_with_norms_after(self, hidden: str, bias: str, prefix: str) -> str:
        """Add self-attention and feed-forward, each with a residual connection and followed by its layer norm."""
        attended = self._attention(hidden, f"{prefix}.attention", bias)
        hidden = self._norm(hidden, f"{prefix}.layer_norm", plus=attended)
        return self._norm(hidden, f"{prefix}.final_layer_norm", plus=self._feed_forward(hidden, prefix))

    def _weighted_mean(self, states: list[str]) -> str:
        """Return the mean over time of the weighted sum of all states, as the weighted sum of their means."""
        means = self._node("Concat", *map(self._mean, states), axis=0)
        exponentials = np.exp(self._weights[LAYER_WEIGHTS])
        return self._node("MatMul", self._constant((exponentials / exponentials.sum())[None]), means)

    def _logits(self, mean: str) -> onnx.ValueInfoProto:
        """Add the head, from the mean of the hidden states to the graph's output, always in float32.

        The mean comes first, even if it is a later step of the head: the steps before it are dense layers, and the mean
        of an affine function is the function of the mean.
        """
        value = mean
        for step in self._architecture.head:
            if isinstance(step, Dense):
                value = self._linear(value, self._read_linear(step.name))
            elif step is TANH:
                value = self._node("Tanh", value)
        self._nodes.append(helper.make_node("Identity", [value], ["logits"]))
        return helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(self._architecture.labels)])
