"""The serving graph: the reference network as matrix products over what `core.model.geometry` leaves to compute.

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

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from core.model.geometry import Geometry
from core.model.network import HubertForSpeechClassification
from core.waveform import WINDOW_SAMPLES

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]

_OPSET = 20
_CONTRIB = "com.microsoft"
_IR_VERSION = 10
_TO_THE_END = np.iinfo(np.int64).max


class Precision(StrEnum):
    """What is computed in 8-bit integers; the rest is float32. Fastest first."""

    INT8 = "int8"
    """All products with a weight in the transformer, and in the feature encoder all but the first layer's."""
    INT8_FFN = "int8-ffn"
    """The feed-forward products of the transformer."""
    FP32 = "fp32"
    """Nothing: exact up to rounding."""


@dataclass(frozen=True)
class _Linear:
    """A product with a weight: ``x @ weight + bias``; weight of shape ``(inputs, outputs)``."""

    weight: Floats
    bias: Floats | None
    int8: bool = False


def geometry_of(network: HubertForSpeechClassification) -> Geometry:
    """The sizes that decide which frames see what."""
    config = network.config
    return Geometry(
        window_samples=WINDOW_SAMPLES,
        kernels=tuple(config.conv_kernel),
        strides=tuple(config.conv_stride),
        position_kernel=config.num_conv_pos_embeddings,
    )


def build_graph(network: HubertForSpeechClassification, precision: Precision) -> onnx.ModelProto:
    """Write the network as a serving graph: the inputs of `core.model.geometry.serving_inputs` to ``logits``.

    Parameters
    ----------
    network
        A checkpoint's, read and in evaluation mode.
    precision
        Which products are done in 8-bit integers.
    """
    writer = _Writer(network)
    hidden = writer.feature_encoder(int8=precision is Precision.INT8)
    hidden = writer.feature_projection(hidden)
    hidden = writer.positions(hidden)
    bias = writer.attention_bias()
    for layer in range(network.config.num_hidden_layers):
        hidden = writer.transformer_layer(hidden, bias, f"hubert.encoder.layers.{layer}", precision)
    writer.head(hidden)
    return writer.model()


class _Writer:
    """Collects nodes and weights; each method adds one part of the network and returns its output's name."""

    def __init__(self, network: HubertForSpeechClassification) -> None:
        self._config = network.config
        self._weights = _folded_weights(network)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._names = 0

    def feature_encoder(self, *, int8: bool) -> str:
        """Rows of samples to rows of features, shape ``(frames, conv_dim[-1])``."""
        rows = self._first_convolution()
        kernels, strides = self._config.conv_kernel[1:], self._config.conv_stride[1:]
        for layer, (kernel, stride) in enumerate(zip(kernels, strides, strict=True), start=1):
            weight = self._weights[f"hubert.feature_extractor.conv_layers.{layer}.conv.weight"]
            rows = self._add("Gelu", self._convolution(rows, weight, kernel, stride, int8), domain=_CONTRIB)
        return rows

    def _first_convolution(self) -> str:
        """The only layer with a norm, which is folded into the kernel once the clip's statistics are known."""
        prefix = "hubert.feature_extractor.conv_layers.0"
        kernel = self._constant(self._weights[f"{prefix}.conv.weight"][:, 0, :].T)
        scale = self._constant(self._weights[f"{prefix}.layer_norm.weight"][None])
        shift = self._constant(self._weights[f"{prefix}.layer_norm.bias"][None])
        mean = self._add("MatMul", "row_mean", kernel)
        products = self._add("Mul", self._add("MatMul", "row_covariance", kernel), kernel)
        variance = self._add("ReduceSum", products, self._constant(np.array([0])), keepdims=1)
        # nn.GroupNorm's own epsilon, which the config does not name.
        deviation = self._add("Sqrt", self._add("Add", variance, self._constant(np.float32(1e-5))))
        gain = self._add("Div", scale, deviation)
        offset = self._add("Sub", shift, self._add("Mul", mean, gain))
        rows = self._add("MatMul", "rows", self._add("Mul", kernel, gain))
        flat = self._add("Reshape", offset, self._constant(np.array([-1])))
        return self._add("BiasGelu", rows, flat, domain=_CONTRIB)

    def _convolution(self, rows: str, weight: Floats, kernel: int, stride: int, int8: bool) -> str:
        """A convolution over time as products; rows that the last frames lack repeat the last row."""
        outputs, channels, _ = weight.shape
        total = ""
        for first_tap in range(0, kernel, stride):
            taps = min(stride, kernel - first_tap)
            part = weight[:, :, first_tap : first_tap + taps].transpose(2, 1, 0).reshape(taps * channels, outputs)
            source = self._taps(rows, channels, stride, first_tap, taps)
            if int8:
                product = self._int8_by_row(source, part)
                total = self._add("Add", total, product) if total else product
            else:
                total = self._add("Gemm", source, self._constant(part), *([total] if total else []))
        return total

    def _taps(self, rows: str, channels: int, stride: int, first_tap: int, taps: int) -> str:
        """Beside each other, the rows that some neighbouring taps of each frame see: ``(frames, taps * channels)``."""
        if first_tap == 0 and taps == stride:
            return self._add("Reshape", rows, self._constant(np.array([-1, stride * channels])))  # no copy
        last = self._add("Sub", self._row_count(rows), self._constant(np.array(1)))
        starts = self._add(
            "Range", self._constant(np.array(0)), self._row_count(rows), self._constant(np.array(stride))
        )
        column = self._add("Unsqueeze", starts, self._constant(np.array([1])))
        wanted = self._add("Add", column, self._constant(np.arange(first_tap, first_tap + taps)[None]))
        picked = self._add("Gather", rows, self._add("Min", wanted, last), axis=0)
        return self._add("Reshape", picked, self._constant(np.array([-1, taps * channels])))

    def _row_count(self, rows: str) -> str:
        return self._add("Squeeze", self._add("Shape", rows, start=0, end=1))

    def _int8_by_row(self, rows: str, weight: Floats) -> str:
        """A product whose activations have a scale for each row: rows are brought to [-1, 1] before, and back after."""
        axis = self._constant(np.array([1]))
        highest = self._add("ReduceMax", rows, axis, keepdims=1)
        lowest = self._add("ReduceMin", rows, axis, keepdims=1)
        # Never zero, or a row of zeros would become NaN.
        size = self._add("Max", highest, self._add("Neg", lowest), self._constant(np.float32(1e-9)))
        scaled = self._add("Mul", rows, self._add("Reciprocal", size))
        product = self._linear(scaled, _Linear(weight, None, int8=True))
        return self._add("Mul", product, size)

    def _shifted(self, rows: str, by: int) -> str:
        """Every row replaced by the one `by` places later, the last ones by the last row."""
        later = self._slice(rows, by, _TO_THE_END, axis=0)
        last = self._slice(rows, -1, _TO_THE_END, axis=0)
        return self._add("Concat", later, *[last] * by, axis=0)

    def feature_projection(self, rows: str) -> str:
        """Features to hidden states, one for each frame that a token shows; shape ``(frames, hidden)``."""
        prefix = "hubert.feature_projection"
        last = self._slice("token_frames", -1, _TO_THE_END, axis=0)
        frames = self._add("Add", last, self._constant(np.array([1])))
        rows = self._add("Slice", rows, self._constant(np.array([0])), frames, self._constant(np.array([0])))
        if self._config.feat_proj_layer_norm:
            scale, shift = self._norm_weights(f"{prefix}.layer_norm")
            rows = self._add("LayerNormalization", rows, scale, shift, axis=-1, epsilon=self._config.layer_norm_eps)
        return self._linear(rows, self._read_linear(f"{prefix}.projection"))

    def positions(self, frames: str) -> str:
        """From frames to tokens, with the positional convolution and the first layer norm; ``(1, tokens, hidden)``."""
        hidden = self._add("Gather", frames, "token_frames", axis=0)
        padding = self._slice(frames, -1, _TO_THE_END, axis=0)
        moving = self._spread_kernel(self._add("Sub", frames, padding))
        constant = self._spread_kernel(padding)
        bias = self._constant(self._weights["hubert.encoder.pos_conv_embed.conv.bias"])
        convolved = self._add("Add", self._cut_to_tokens(moving), self._running_sums(constant))
        embedding = self._add("BiasGelu", convolved, bias, domain=_CONTRIB)
        hidden, embedding = (
            self._add("Unsqueeze", part, self._constant(np.array([0]))) for part in (hidden, embedding)
        )
        return self._add_and_norm(hidden, embedding, "hubert.encoder.layer_norm")

    def _spread_kernel(self, rows: str) -> str:
        """Add the positional kernel, times the row, to all the tokens that see a row: ``(rows + kernel - 1, hidden)``.

        The same sums as a convolution's, ordered by input: rows that are not there cost nothing.
        """
        groups = self._config.num_conv_pos_embedding_groups
        weight = self._weights["hubert.encoder.pos_conv_embed.conv.weight"]
        hidden, inputs, kernel = weight.shape
        transposed = weight.reshape(groups, hidden // groups, inputs, kernel).transpose(0, 2, 1, 3)[..., ::-1]
        columns = self._add("Unsqueeze", self._add("Transpose", rows, perm=[1, 0]), self._constant(np.array([0])))
        shared = self._constant(transposed.reshape(hidden, hidden // groups, kernel), name="position_kernel")
        spread = self._add("ConvTranspose", columns, shared, group=groups)
        return self._add("Transpose", self._add("Squeeze", spread, self._constant(np.array([0]))), perm=[1, 0])

    def _cut_to_tokens(self, spread: str) -> str:
        """The rows of a spread kernel that belong to tokens, with zeros for those that no row reached."""
        kernel = self._config.num_conv_pos_embeddings
        first = (kernel - 1) - kernel // 2
        silence = self._constant(np.zeros((kernel, self._config.hidden_size), np.float32))
        count = self._add("Shape", "token_frames")
        end = self._add("Add", count, self._constant(np.array([first])))
        start, axis = self._constant(np.array([first])), self._constant(np.array([0]))
        return self._add("Slice", self._add("Concat", spread, silence, axis=0), start, end, axis)

    def _running_sums(self, constant: str) -> str:
        """What a row that is the same everywhere adds to each token: the sum of the taps that lie inside.

        `constant` holds the taps' shares in reverse order; the reference pads half a kernel in front, and as much
        behind, less one for an even kernel.
        """
        kernel = self._config.num_conv_pos_embeddings
        nothing = self._constant(np.zeros((1, self._config.hidden_size), np.float32))
        sums = self._add("CumSum", constant, self._constant(np.array(0)))
        sums = self._add("Concat", nothing, sums, axis=0)
        count = self._add("Squeeze", self._add("Shape", "token_frames"))
        one, zero = self._constant(np.array(1)), self._constant(np.array(0))
        token = self._add("Range", zero, count, one)
        # Token t sees the rows from t - kernel // 2 on; reversed tap j of them is kernel - 1 - j places further.
        first = self._add("Add", token, self._constant(np.array(kernel - kernel // 2)))
        until = self._add("Min", first, self._constant(np.array(kernel)))
        since = self._add("Max", self._add("Sub", first, count), zero)
        upper = self._add("Gather", sums, until, axis=0)
        return self._add("Sub", upper, self._add("Gather", sums, since, axis=0))

    def attention_bias(self) -> str:
        """A token that stands for ``c`` equal ones is attended to ``c`` times: its key's score grows by ``log c``."""
        log_count = self._add("Log", "token_weights")
        shape = self._add("Shape", log_count)
        one = self._constant(np.array([1]))
        square = self._add("Concat", one, one, shape, shape, axis=0)
        return self._add("Expand", log_count, square)

    def transformer_layer(self, hidden: str, attention_bias: str, prefix: str, precision: Precision) -> str:
        """Self-attention and feed-forward, each followed by its layer norm; shape stays ``(1, tokens, hidden)``."""
        int8 = precision is Precision.INT8
        attended = self._attention(hidden, attention_bias, f"{prefix}.attention", int8)
        hidden = self._add_and_norm(hidden, attended, f"{prefix}.layer_norm")
        int8 = precision is not Precision.FP32
        inner = self._linear(hidden, self._read_linear(f"{prefix}.feed_forward.intermediate_dense", int8=int8))
        inner = self._add("Gelu", inner, domain=_CONTRIB)
        outer = self._linear(inner, self._read_linear(f"{prefix}.feed_forward.output_dense", int8=int8))
        return self._add_and_norm(hidden, outer, f"{prefix}.final_layer_norm")

    def _attention(self, hidden: str, attention_bias: str, prefix: str, int8: bool) -> str:
        parts = [self._read_linear(f"{prefix}.{name}") for name in ("q_proj", "k_proj", "v_proj")]
        biases = [part.bias for part in parts if part.bias is not None]
        together = _Linear(np.concatenate([part.weight for part in parts], axis=1), np.concatenate(biases), int8)
        queries, keys, values = self._split(self._linear(hidden, together), 3)
        attended = self._add(
            "MultiHeadAttention",
            *(queries, keys, values, "", "", attention_bias),
            domain=_CONTRIB,
            num_heads=self._config.num_attention_heads,
        )
        return self._linear(attended, self._read_linear(f"{prefix}.out_proj", int8=int8))

    def head(self, hidden: str) -> None:
        """The weighted mean over the tokens, then dense, tanh and projection to ``logits``."""
        weights = self._add("Unsqueeze", "token_weights", self._constant(np.array([0, 1])))
        total = self._add("MatMul", weights, hidden)
        count = self._add("ReduceSum", "token_weights", keepdims=1)
        pooled = self._add("Squeeze", self._add("Div", total, count), self._constant(np.array([1])))
        dense = self._add("Tanh", self._linear(pooled, self._read_linear("classifier.dense")))
        logits = self._linear(dense, self._read_linear("classifier.out_proj"))
        self._nodes.append(helper.make_node("Identity", [logits], ["logits"]))

    def model(self) -> onnx.ModelProto:
        """Everything that was added, as a checked ONNX model."""
        kernel = self._config.conv_kernel[0]
        floats = TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "serving",
            [
                helper.make_tensor_value_info("rows", floats, ["rows", kernel]),
                helper.make_tensor_value_info("row_mean", floats, [1, kernel]),
                helper.make_tensor_value_info("row_covariance", floats, [kernel, kernel]),
                helper.make_tensor_value_info("token_frames", TensorProto.INT64, ["tokens"]),
                helper.make_tensor_value_info("token_weights", floats, ["tokens"]),
            ],
            [helper.make_tensor_value_info("logits", floats, [1, self._config.num_class])],
            list(self._initializers.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="audio-emotion")

    def _read_linear(self, prefix: str, *, int8: bool = False) -> _Linear:
        weight = self._weights[f"{prefix}.weight"].T
        return _Linear(np.ascontiguousarray(weight), self._weights.get(f"{prefix}.bias"), int8)

    def _linear(self, value: str, linear: _Linear) -> str:
        if linear.int8:
            weight, scale = quantised_per_column(linear.weight)
            zero_points = np.zeros(scale.shape, np.int8)
            bias = [] if linear.bias is None else [self._constant(linear.bias)]
            constants = [self._constant(weight), self._constant(scale), self._constant(zero_points)]
            return self._add("DynamicQuantizeMatMul", value, *constants, *bias, domain=_CONTRIB)
        product = self._add("MatMul", value, self._constant(linear.weight))
        return product if linear.bias is None else self._add("Add", product, self._constant(linear.bias))

    def _add_and_norm(self, value: str, residual: str, prefix: str) -> str:
        """A layer norm of a sum, as an instance norm whose channels are the tokens."""
        scale, shift = self._norm_weights(prefix)
        total = self._add("Add", value, residual)
        ones = self._add("Expand", self._constant(np.ones(1, np.float32)), self._add("Shape", "token_frames"))
        zeros = self._add("Expand", self._constant(np.zeros(1, np.float32)), self._add("Shape", "token_frames"))
        normed = self._add("InstanceNormalization", total, ones, zeros, epsilon=self._config.layer_norm_eps)
        return self._add("Add", self._add("Mul", normed, scale), shift)

    def _norm_weights(self, prefix: str) -> tuple[str, str]:
        scale, shift = (self._constant(self._weights[f"{prefix}.{name}"]) for name in ("weight", "bias"))
        return scale, shift

    def _split(self, value: str, parts: int) -> Iterable[str]:
        outputs = [self._name("Split") for _ in range(parts)]
        self._nodes.append(helper.make_node("Split", [value], outputs, axis=-1, num_outputs=parts))
        return outputs

    def _slice(self, value: str, start: int, end: int, *, axis: int) -> str:
        bounds = [self._constant(np.array([number])) for number in (start, end, axis)]
        return self._add("Slice", value, *bounds)

    def _constant(self, value: Array | np.generic, name: str = "") -> str:
        """Store a constant; one with a name of its own is stored once, whoever asks for it."""
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        name = name or self._name("weight")
        self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def _add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = self._name(operator)
        self._nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{self._names}"


def _folded_weights(network: HubertForSpeechClassification) -> dict[str, Floats]:
    """The network's tensors as arrays, with the positional convolution's weight norm folded into one weight."""
    weights = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    convolution = network.hubert.encoder.pos_conv_embed.conv
    weights["hubert.encoder.pos_conv_embed.conv.weight"] = convolution.weight.detach().numpy()
    return weights


def quantised_per_column(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric 8-bit weights with one scale for each column: shapes ``(inputs, outputs)`` and ``(outputs,)``."""
    largest = np.abs(weight).max(axis=0)
    scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale
