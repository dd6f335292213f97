"""Single layers of the serving graphs: convolutions as products, attention, feed-forward and norms."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import prod

import numpy as np

from core.checkpoints.architecture import Encoder
from core.checkpoints.network import SpeechNetwork
from core.export.graph.builder import CONTRIB, TO_THE_END, Floats, GraphBuilder
from core.export.graph.precision import Linear, Precision, quantise_per_column

_CONV_NORM_EPSILON = 1e-5
"""The default of nn.GroupNorm and nn.LayerNorm, which the feature encoder uses. The config names the value of the other
norms."""

_PAIRED = (3, 2)
"""The kernel and the stride of convolutions that compute two frames with a shared product."""


class LayerBuilder(GraphBuilder, ABC):
    """Builds the layers of one network. Each method adds one layer and returns the name of its output."""

    def __init__(self, network: SpeechNetwork, precision: Precision) -> None:
        super().__init__()
        self._config = network.config
        self._architecture = network.architecture
        self._prefix = network.base_model_prefix
        self._precision = precision
        self._weights = self._tensors(network)

    def _tensors(self, network: SpeechNetwork) -> dict[str, Floats]:
        """Return the network's tensors under transformers' names, with the positional weight norm folded."""
        weights = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
        convolution = network.base_model.encoder.pos_conv_embed.conv
        weights[f"{self._prefix}.encoder.pos_conv_embed.conv.weight"] = convolution.weight.detach().numpy()
        return weights

    def _first_convolution(self) -> str:
        """Add the first convolution, always in float32: it is a thousandth of the work, and needs the precision."""
        prefix = f"{self._prefix}.feature_extractor.conv_layers.0.conv"
        kernel = self._constant(np.ascontiguousarray(self._weights[f"{prefix}.weight"][:, 0, :].T))
        bias = self._weights.get(f"{prefix}.bias")
        if bias is None:
            return self._node("MatMul", "rows", kernel)
        return self._node("Gemm", "rows", kernel, self._constant(bias))

    def _first_convolution_with_group_norm(self) -> str:
        """Add the first convolution, with its group norm folded into the kernel, and the activation.

        The inputs `row_mean` and `row_covariance` hold the clip's statistics. The norm removes the convolution's bias.
        """
        prefix = f"{self._prefix}.feature_extractor.conv_layers.0"
        kernel = self._constant(self._weights[f"{prefix}.conv.weight"][:, 0, :].T)
        scale = self._constant(self._weights[f"{prefix}.layer_norm.weight"][None])
        shift = self._constant(self._weights[f"{prefix}.layer_norm.bias"][None])
        mean = self._node("MatMul", "row_mean", kernel)
        products = self._node("Mul", self._node("MatMul", "row_covariance", kernel), kernel)
        variance = self._node("ReduceSum", products, self._constant(np.array([0])), keepdims=1)
        deviation = self._node("Sqrt", self._node("Add", variance, self._constant(np.float32(_CONV_NORM_EPSILON))))
        gain = self._node("Div", scale, deviation)
        offset = self._node("Sub", shift, self._node("Mul", mean, gain))
        rows = self._node("MatMul", "rows", self._node("Mul", kernel, gain))
        flat = self._node("Reshape", offset, self._constant(np.array([-1])))
        return self._node("BiasGelu", rows, flat, domain=CONTRIB)

    def _layer_norm_and_activation(self, rows: str, layer: int) -> str:
        """Add the layer norm and the activation after a convolution."""
        scale, shift = self._norm_weights(f"{self._prefix}.feature_extractor.conv_layers.{layer}.layer_norm")
        first = self._constant(np.array([0]))
        count = self._node("Shape", rows, start=0, end=1)
        normed = self._standardised(self._node("Unsqueeze", rows, first), lambda: count, _CONV_NORM_EPSILON)
        scaled = self._node("Mul", self._node("Squeeze", normed, first), scale)
        return self._node("BiasGelu", scaled, shift, domain=CONTRIB)

    def _convolution(self, rows: str, layer: int) -> str:
        """Add a convolution over time as products. The last row is repeated where the last frames need more rows."""
        prefix = f"{self._prefix}.feature_extractor.conv_layers.{layer}.conv"
        weight, bias = self._weights[f"{prefix}.weight"], self._weights.get(f"{prefix}.bias")
        stride = self._config.conv_stride[layer]
        outputs, channels, kernel = weight.shape
        int8 = self._precision is Precision.INT8
        frames_are_even = prod(self._config.conv_stride[layer + 1 :]) % 2 == 0
        if not int8 and (kernel, stride) == _PAIRED and frames_are_even:
            return self._convolution_in_pairs(rows, weight, bias)
        total = "" if bias is None else self._constant(bias)
        for first_tap in range(0, kernel, stride):
            taps = min(stride, kernel - first_tap)
            part = weight[:, :, first_tap : first_tap + taps].transpose(2, 1, 0).reshape(taps * channels, outputs)
            source = self._taps(rows, channels, stride, first_tap, taps)
            if int8:
                product = self._int8_by_row(source, part)
                total = self._node("Add", total, product) if total else product
            else:
                total = self._node("Gemm", source, self._constant(part), *([total] if total else []))
        return total

    def _convolution_in_pairs(self, rows: str, weight: Floats, bias: Floats | None) -> str:
        """Add a convolution with kernel 3 and stride 2, with five products for two frames instead of six.

        The number of frames is even. The even rows are convolved with the outer taps a and c at stride 1, for which
        Winograd's minimal filtering F(2, 2) needs three products instead of four. Three consecutive even rows e0, e1
        and e2 have two sums: ``(e0 - e1) a + e1 (a + c)`` and ``e1 (a + c) + (e2 - e1) c``. Only additions precede the
        products, so the sums are as exact as those of a plain convolution.
        """
        outputs, channels, _ = weight.shape
        first, middle, last = (np.ascontiguousarray(weight[:, :, tap].T) for tap in range(3))
        fours = self._node("Reshape", rows, self._constant(np.array([-1, 4 * channels])))
        even, odd, next_even, next_odd = self._split(fours, 4)
        # The last row is repeated where the last frame needs more rows, as in `_taps`.
        after = self._node(
            "Concat", self._slice(even, 1, TO_THE_END, axis=0), self._slice(rows, -1, TO_THE_END, axis=0), axis=0
        )
        common = self._node(
            "Gemm", next_even, self._constant(first + last), *([] if bias is None else [self._constant(bias)])
        )
        shared = self._constant(middle)
        halves = []
        for outer, tap, inner in ((even, first, odd), (after, last, next_odd)):
            total = self._node("Gemm", inner, shared, common)
            halves.append(self._node("Gemm", self._node("Sub", outer, next_even), self._constant(tap), total))
        return self._node("Reshape", self._node("Concat", *halves, axis=1), self._constant(np.array([-1, outputs])))

    def _taps(self, rows: str, channels: int, stride: int, first_tap: int, taps: int) -> str:
        """Concatenate the rows under neighbouring taps of each frame: ``(frames, taps * channels)``."""
        if first_tap == 0 and taps == stride:
            return self._node("Reshape", rows, self._constant(np.array([-1, stride * channels])))  # no copy
        last = self._node("Sub", self._row_count(rows), self._constant(np.array(1)))
        starts = self._node(
            "Range", self._constant(np.array(0)), self._row_count(rows), self._constant(np.array(stride))
        )
        column = self._node("Unsqueeze", starts, self._constant(np.array([1])))
        indices = self._node("Add", column, self._constant(np.arange(first_tap, first_tap + taps)[None]))
        gathered = self._node("Gather", rows, self._node("Min", indices, last), axis=0)
        return self._node("Reshape", gathered, self._constant(np.array([-1, taps * channels])))

    def _int8_by_row(self, rows: str, weight: Floats) -> str:
        """Add a product that scales each row of activations to [-1, 1], and scales the row of the result back."""
        axis = self._constant(np.array([1]))
        highest = self._node("ReduceMax", rows, axis, keepdims=1)
        lowest = self._node("ReduceMin", rows, axis, keepdims=1)
        # Above zero, because a row of zeros would become NaN.
        size = self._node("Max", highest, self._node("Neg", lowest), self._constant(np.float32(1e-9)))
        scaled = self._node("Mul", rows, self._node("Reciprocal", size))
        product = self._linear(scaled, Linear(weight, None, int8=True))
        return self._node("Mul", product, size)

    def _projection(self, rows: str) -> str:
        """Project features to hidden states, shape ``(frames, hidden)``."""
        prefix = f"{self._prefix}.feature_projection"
        if f"{prefix}.layer_norm.weight" in self._weights:
            scale, shift = self._norm_weights(f"{prefix}.layer_norm")
            rows = self._node("LayerNormalization", rows, scale, shift, axis=-1, epsilon=self._projection_epsilon)
        return self._linear(rows, self._read_linear(f"{prefix}.projection"))

    @property
    def _projection_epsilon(self) -> float:
        """The epsilon of the layer norm before the projection."""
        return float(self._config.layer_norm_eps)

    def _spread_kernel(self, rows: str) -> str:
        """Add each row times the positional kernel to the tokens that it affects: ``(rows + kernel - 1, hidden)``.

        The sums are those of a convolution, ordered by input, so that omitted rows cost nothing.
        """
        groups = self._config.num_conv_pos_embedding_groups
        weight = self._weights[f"{self._prefix}.encoder.pos_conv_embed.conv.weight"]
        hidden, inputs, kernel = weight.shape
        transposed = weight.reshape(groups, hidden // groups, inputs, kernel).transpose(0, 2, 1, 3)[..., ::-1]
        columns = self._node("Unsqueeze", self._node("Transpose", rows, perm=[1, 0]), self._constant(np.array([0])))
        shared = self._constant(transposed.reshape(hidden, hidden // groups, kernel), name="position_kernel")
        spread = self._node("ConvTranspose", columns, shared, group=groups)
        return self._node("Transpose", self._node("Squeeze", spread, self._constant(np.array([0]))), perm=[1, 0])

    def _feed_forward(self, hidden: str, prefix: str) -> str:
        int8 = self._precision is not Precision.FP32
        inner = self._linear(hidden, self._read_linear(f"{prefix}.feed_forward.intermediate_dense", int8=int8))
        inner = self._node("Gelu", inner, domain=CONTRIB)
        return self._linear(inner, self._read_linear(f"{prefix}.feed_forward.output_dense", int8=int8))

    def _attention(self, hidden: str, prefix: str, bias: str = "") -> str:
        """Add self-attention; `bias` is added to the scores.

        Parameters
        ----------
        bias
            Shape ``(1, 1, tokens, tokens)`` or ``(1, heads, tokens, tokens)``. WavLM scales it by its gate.
        """
        int8 = self._precision is Precision.INT8
        together = self._linear(hidden, self._query_key_value(prefix, int8=int8))
        queries, keys, values = self._split(together, 3)
        if self._architecture.encoder is Encoder.WAVLM:
            bias = self._node("Mul", self._position_gate(hidden, prefix), bias)
        attended = self._node(
            "MultiHeadAttention",
            *(queries, keys, values, *(("", "", bias) if bias else ())),
            domain=CONTRIB,
            num_heads=self._config.num_attention_heads,
        )
        return self._linear(attended, self._read_linear(f"{prefix}.out_proj", int8=int8))

    def _query_key_value(self, prefix: str, *, int8: bool) -> Linear:
        """Return the products of self-attention's queries, keys and values as one."""
        parts = [self._read_linear(f"{prefix}.{name}") for name in ("q_proj", "k_proj", "v_proj")]
        biases = [part.bias for part in parts if part.bias is not None]
        return Linear(np.concatenate([part.weight for part in parts], axis=1), np.concatenate(biases), int8)

    def _position_gate(self, hidden: str, prefix: str) -> str:
        """Add the gate of WavLM's position bias, shape ``(1, heads, tokens, 1)``.

        transformers projects each head's part of the attention's input to eight values, and sums each half. Here the
        sums are folded into the weights.
        """
        heads = self._config.num_attention_heads
        weight, bias = (self._weights[f"{prefix}.gru_rel_pos_linear.{name}"] for name in ("weight", "bias"))
        folded = Linear(np.ascontiguousarray(weight.reshape(2, 4, -1).sum(axis=1).T), bias.reshape(2, 4).sum(axis=1))
        parts = self._node("Reshape", hidden, self._constant(np.array([1, -1, heads, weight.shape[1]])))
        gates = self._node("Sigmoid", self._linear(parts, folded))
        outer, inner = self._split(self._node("Transpose", gates, perm=[0, 2, 1, 3]), 2)
        scale = self._constant(self._weights[f"{prefix}.gru_rel_pos_const"])
        one, two = self._constant(np.float32(1)), self._constant(np.float32(2))
        return self._node("Add", self._node("Mul", outer, self._node("Sub", self._node("Mul", inner, scale), one)), two)

    def _read_linear(self, prefix: str, *, int8: bool = False) -> Linear:
        weight = self._weights[f"{prefix}.weight"].T
        return Linear(np.ascontiguousarray(weight), self._weights.get(f"{prefix}.bias"), int8)

    def _linear(self, value: str, linear: Linear) -> str:
        if linear.int8:
            weight, scale = quantise_per_column(linear.weight)
            zero_points = np.zeros(scale.shape, np.int8)
            bias = [] if linear.bias is None else [self._constant(linear.bias)]
            constants = [self._constant(weight), self._constant(scale), self._constant(zero_points)]
            return self._node("DynamicQuantizeMatMul", value, *constants, *bias, domain=CONTRIB)
        product = self._node("MatMul", value, self._constant(linear.weight))
        return product if linear.bias is None else self._node("Add", product, self._constant(linear.bias))

    def _norm(self, value: str, prefix: str, *, plus: str = "") -> str:
        """Add a layer norm of tokens, or of the sum of two; shape ``(1, tokens, hidden)``."""
        scale, shift = self._norm_weights(prefix)
        total = self._node("Add", value, plus) if plus else value
        normed = self._standardised(total, self._token_count, self._config.layer_norm_eps)
        return self._node("Add", self._node("Mul", normed, scale), shift)

    def _standardised(self, value: str, count: Callable[[], str], epsilon: float) -> str:
        """Scale each of `count` rows to zero mean and unit variance, as an instance norm whose channels are the rows.

        ONNX Runtime's layer norm adds scalars and is slower: docs/decisions/0006-feature-encoder.md.
        """
        ones = self._node("Expand", self._constant(np.ones(1, np.float32)), count())
        zeros = self._node("Expand", self._constant(np.zeros(1, np.float32)), count())
        return self._node("InstanceNormalization", value, ones, zeros, epsilon=epsilon)

    @abstractmethod
    def _token_count(self) -> str:
        """Return the number of tokens, shape ``(1,)``."""

    def _norm_weights(self, prefix: str) -> tuple[str, str]:
        scale, shift = (self._constant(self._weights[f"{prefix}.{name}"]) for name in ("weight", "bias"))
        return scale, shift
