"""Single layers of the serving graphs: convolutions as products, attention, feed-forward and norms."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from core.checkpoints.architecture import Encoder
from core.checkpoints.network import SpeechNetwork
from core.export.graph.builder import CONTRIB, TO_THE_END, Array, Floats, GraphBuilder
from core.export.graph.precision import Linear, Precision, quantise_per_column
from core.export.graph.spectrum import Spectrum

_CONV_NORM_EPSILON = 1e-5
"""The default of nn.GroupNorm and nn.LayerNorm, which the feature encoder uses. The config names the value of the other
norms."""

_PAIRED = (3, 2)
"""The kernel and the stride of convolutions that compute two frames with a shared product."""

_MIDDLE = np.array([128], np.uint8)
"""The integer that stands for 0, because VNNI multiplies unsigned activations with signed weights."""


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

    def _first_layer(self) -> Callable[[str], str]:
        """Return a function that adds the first layer to rows of samples.

        The first convolution is always in float32: it is a thousandth of the work, and needs the precision.
        """
        if self._has_group_norm:
            return self._first_layer_with_group_norm()
        prefix = f"{self._prefix}.feature_extractor.conv_layers.0.conv"
        kernel, bias = self._weights[f"{prefix}.weight"][:, 0, :].T, self._weights.get(f"{prefix}.bias")

        def add(rows: str) -> str:
            product = Linear(np.ascontiguousarray(kernel), bias)
            return self._layer_norm_and_activation(self._linear(rows, product), 0)

        return add

    def _first_layer_with_group_norm(self) -> Callable[[str], str]:
        """Fold the group norm into the first convolution's kernel, and return a function that adds the layer.

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
        folded = self._node("Mul", kernel, gain)
        offset = self._node("Sub", shift, self._node("Mul", mean, gain))
        flat = self._node("Reshape", offset, self._constant(np.array([-1])))
        return lambda rows: self._node("BiasGelu", self._node("MatMul", rows, folded), flat, domain=CONTRIB)

    @property
    def _has_group_norm(self) -> bool:
        """Whether the feature encoder has one norm, over the time of its first layer, instead of one in each layer."""
        return bool(self._config.feat_extract_norm == "group")

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
        _, channels, kernel = weight.shape
        if self._precision is Precision.INT8:
            return self._int8_convolution(rows, weight, bias, stride)
        frames_are_even = prod(self._config.conv_stride[layer + 1 :]) % 2 == 0
        if (kernel, stride) == _PAIRED and frames_are_even:
            return self._convolution_in_pairs(rows, weight, bias)
        total = "" if bias is None else self._constant(bias)
        for first_tap in range(0, kernel, stride):
            taps = min(stride, kernel - first_tap)
            source = self._taps(rows, channels, stride, first_tap, taps)
            part = self._constant(_taps_of(weight, first_tap, taps))
            total = self._node("Gemm", source, part, *([total] if total else []))
        return total

    def _int8_convolution(self, rows: str, weight: Floats, bias: Floats | None, stride: int) -> str:
        """Add a convolution of activations that are quantised once, with a scale for each block of `stride` rows.

        Taps beyond the stride use the integers and the scales of later blocks. The last block is repeated where the
        last frames need more rows.
        """
        _, channels, kernel = weight.shape
        blocks = self._node("Reshape", rows, self._constant(np.array([-1, stride * channels])))
        integers, scales = self._quantised_rows(blocks)
        total = "" if bias is None else self._constant(bias)
        for first_tap in range(0, kernel, stride):
            taps = min(stride, kernel - first_tap)
            source = integers if taps == stride else self._slice(integers, 0, taps * channels, axis=1)
            source, scale = (self._later_rows(value, first_tap // stride) for value in (source, scales))
            part, part_scale = quantise_per_column(_taps_of(weight, first_tap, taps))
            constants: list[Array | np.generic] = [part, np.float32(1), part_scale, _MIDDLE]
            constants.append(np.zeros(part_scale.shape, np.int8))
            product = self._node("MatMulIntegerToFloat", source, *map(self._constant, constants), domain=CONTRIB)
            scaled = self._node("Mul", product, scale)
            total = self._node("Add", total, scaled) if total else scaled
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

    def _later_rows(self, rows: str, by: int) -> str:
        """Return the row that comes a number of rows after each; the last row is repeated."""
        if by == 0:
            return rows
        count = self._row_count(rows)
        start, one = self._constant(np.array(by)), self._constant(np.array(1))
        later = self._node("Range", start, self._node("Add", count, start), one)
        return self._node("Gather", rows, self._node("Min", later, self._node("Sub", count, one)), axis=0)

    def _quantised_rows(self, rows: str) -> tuple[str, str]:
        """Quantise each row with its own scale to integers around 128.

        Returns
        -------
        The integers, shape ``(rows, channels)``, and the scales, shape ``(rows, 1)``.
        """
        axis = self._constant(np.array([1]))
        highest = self._node("ReduceMax", rows, axis, keepdims=1)
        lowest = self._node("ReduceMin", rows, axis, keepdims=1)
        # Above zero, because a row of zeros would become NaN.
        size = self._node("Max", highest, self._node("Neg", lowest), self._constant(np.float32(1e-9)))
        scales = self._node("Mul", size, self._constant(np.float32(1 / 127)))
        flat = self._node("Squeeze", scales, axis)
        middle = self._node("Expand", self._constant(_MIDDLE), self._node("Shape", flat))
        return self._node("QuantizeLinear", rows, flat, middle, axis=0), scales

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

    def _positional_convolution(self, rows: str) -> str:
        """Convolve rows with the positional kernel in the frequency domain, without its bias: ``(rows, hidden)``.

        `core.export.graph.spectrum` describes the matrices.
        """
        weight = self._weights[f"{self._prefix}.encoder.pos_conv_embed.conv.weight"]
        groups, channels = self._config.num_conv_pos_embedding_groups, weight.shape[1]
        spectrum = Spectrum.of(weight, groups)
        windows = self._overlapping_windows(rows, spectrum, groups, channels)
        transformed = self._node("MatMul", self._constant(spectrum.forward), windows)
        # Real and imaginary parts, frequencies, blocks, channels.
        shape = self._constant(np.array([groups, 2, spectrum.forward.shape[0] // 2, -1, channels]))
        transformed = self._node("Reshape", transformed, shape)
        flat = self._constant(np.array([groups, spectrum.forward.shape[0], -1]))
        parts = []
        for kernel, inverse in (
            (spectrum.kernel_real, spectrum.inverse_real),
            (spectrum.kernel_imaginary, spectrum.inverse_imaginary),
        ):
            product = self._node("MatMul", transformed, self._constant(kernel[:, None]))
            parts.append(self._node("MatMul", self._constant(inverse), self._node("Reshape", product, flat)))
        shape = self._constant(np.array([groups, spectrum.hop, -1, channels]))
        blocks = self._node("Transpose", self._node("Reshape", self._node("Add", *parts), shape), perm=[2, 1, 0, 3])
        convolved = self._node("Reshape", blocks, self._constant(np.array([-1, groups * channels])))
        start, axis = self._constant(np.array([0])), self._constant(np.array([0]))
        return self._node("Slice", convolved, start, self._node("Shape", rows, start=0, end=1), axis)

    def _overlapping_windows(self, rows: str, spectrum: Spectrum, groups: int, channels: int) -> str:
        """Pad rows as the reference does, and cut them into windows: ``(groups, window, blocks * channels)``.

        The reference pads half a kernel before and after, less one after for an even kernel.
        """
        hop = self._constant(np.array([spectrum.hop]))
        before = self._config.num_conv_pos_embeddings // 2
        count = self._node("Shape", rows, start=0, end=1)
        blocks = self._node("Div", self._node("Add", count, self._constant(np.array([spectrum.hop - 1]))), hop)
        hops = self._node("Add", blocks, self._constant(np.array([spectrum.segments - 1])))
        used = self._node("Add", count, self._constant(np.array([before])))
        after = self._node("Sub", self._node("Mul", hops, hop), used)
        pads = self._node("Concat", self._constant(np.array([before, 0])), after, self._constant(np.array([0])), axis=0)
        shape = self._constant(np.array([-1, spectrum.hop, groups, channels]))
        cut = self._node("Transpose", self._node("Reshape", self._node("Pad", rows, pads), shape), perm=[2, 1, 0, 3])
        axis, segments = self._constant(np.array([2])), []
        for number in range(spectrum.segments):
            first = self._constant(np.array([number]))
            segments.append(self._node("Slice", cut, first, self._node("Add", blocks, first), axis))
        shape = self._constant(np.array([groups, spectrum.segments * spectrum.hop, -1]))
        return self._node("Reshape", self._node("Concat", *segments, axis=1), shape)

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
            Broadcast to ``(heads, tokens, tokens)``. WavLM scales it by its gate.
        """
        int8 = self._precision is Precision.INT8
        heads, size = self._config.num_attention_heads, self._config.hidden_size // self._config.num_attention_heads
        shape = self._constant(np.array([-1, heads, size]))
        queries, keys, values = (
            self._node("Reshape", self._linear(hidden, linear), shape)
            for linear in self._query_key_value(prefix, int8=int8)
        )
        # The operator reads the heads where they are, while MultiHeadAttention copies each of them first.
        scores = self._node(
            *("FusedMatMul", queries, keys), domain=CONTRIB, transBatchA=1, transBatchB=1, transB=1, alpha=size**-0.5
        )
        if self._architecture.encoder is Encoder.WAVLM:
            bias = self._node("Mul", self._position_gate(hidden, prefix), bias)
        weights = self._node("Softmax", self._node("Add", scores, bias) if bias else scores, axis=-1)
        attended = self._node("FusedMatMul", weights, values, domain=CONTRIB, transBatchB=1)
        shape = self._constant(np.array([1, -1, heads * size]))
        attended = self._node("Reshape", self._node("Transpose", attended, perm=[1, 0, 2]), shape)
        return self._linear(attended, self._read_linear(f"{prefix}.out_proj", int8=int8))

    def _query_key_value(self, prefix: str, *, int8: bool) -> Iterator[Linear]:
        """Yield the products of self-attention's queries, keys and values.

        One product for all three would have to be split, which takes longer than quantising its input three times.
        """
        return (self._read_linear(f"{prefix}.{name}", int8=int8) for name in ("q_proj", "k_proj", "v_proj"))

    def _position_gate(self, hidden: str, prefix: str) -> str:
        """Add the gate of WavLM's position bias, shape ``(heads, tokens, 1)``.

        transformers projects each head's part of the attention's input to eight values, and sums each half. Here the
        sums are folded into the weights.
        """
        heads = self._config.num_attention_heads
        weight, bias = (self._weights[f"{prefix}.gru_rel_pos_linear.{name}"] for name in ("weight", "bias"))
        folded = Linear(np.ascontiguousarray(weight.reshape(2, 4, -1).sum(axis=1).T), bias.reshape(2, 4).sum(axis=1))
        parts = self._node("Reshape", hidden, self._constant(np.array([-1, heads, weight.shape[1]])))
        gates = self._node("Sigmoid", self._linear(parts, folded))
        outer, inner = self._split(self._node("Transpose", gates, perm=[1, 0, 2]), 2)
        scale = self._constant(self._weights[f"{prefix}.gru_rel_pos_const"][0])
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


def _taps_of(weight: Floats, first_tap: int, taps: int) -> Floats:
    """Return some taps of a convolution's weight as a matrix, shape ``(taps * channels, outputs)``."""
    outputs, channels, _ = weight.shape
    return weight[:, :, first_tap : first_tap + taps].transpose(2, 1, 0).reshape(taps * channels, outputs)
