"""The serving graph: the reference network as matrix products over what `core.model.geometry` leaves to compute.

Built by hand rather than traced, because the point is to compute less than the reference does:

- The feature encoder is time-major: a row per frame, so that a convolution is one product for the taps within its
  stride (a reshape, no copy) and one more for each group of taps beyond it.
- The first layer's group norm is folded into its kernel: mean and variance of ``W x`` are ``W mean(x)`` and
  ``W cov(x) W'``, ten by ten numbers instead of millions.
- Weight norm is folded; attention, layer norms and GELU are ONNX Runtime's fused operators.

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


class Precision(StrEnum):
    """What is computed in 8-bit integers; the rest is float32. Fastest first."""

    INT8 = "int8"
    """All products of the transformer with a weight."""
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
    hidden = writer.feature_encoder()
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

    def feature_encoder(self) -> str:
        """Rows of samples to rows of features, shape ``(frames, conv_dim[-1])``."""
        rows = self._first_convolution()
        kernels, strides = self._config.conv_kernel[1:], self._config.conv_stride[1:]
        for layer, (kernel, stride) in enumerate(zip(kernels, strides, strict=True), start=1):
            weight = self._weights[f"hubert.feature_extractor.conv_layers.{layer}.conv.weight"]
            rows = self._add("Gelu", self._convolution(rows, weight, kernel, stride), domain=_CONTRIB)
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

    def _convolution(self, rows: str, weight: Floats, kernel: int, stride: int) -> str:
        """A convolution over time as products; rows that the last frames lack repeat the last row."""
        outputs, channels, _ = weight.shape
        grouped = self._add("Reshape", rows, self._constant(np.array([-1, stride * channels])))
        total = ""
        for first_tap in range(0, kernel, stride):
            taps = min(stride, kernel - first_tap)
            part = self._constant(
                weight[:, :, first_tap : first_tap + taps].transpose(2, 1, 0).reshape(taps * channels, outputs)
            )
            source = self._shifted(grouped, first_tap // stride) if first_tap else grouped
            if taps < stride:
                source = self._slice(source, 0, taps * channels, axis=1)
            total = self._add("Gemm", source, part, *([total] if total else []))
        return total

    def _shifted(self, rows: str, by: int) -> str:
        """Every row replaced by the one `by` places later, the last ones by the last row."""
        later = self._slice(rows, by, np.iinfo(np.int64).max, axis=0)
        last = self._slice(rows, -1, np.iinfo(np.int64).max, axis=0)
        return self._add("Concat", later, *[last] * by, axis=0)

    def feature_projection(self, rows: str) -> str:
        """Features to hidden states, and from frames to tokens; shape ``(1, tokens, hidden)``."""
        prefix = "hubert.feature_projection"
        if self._config.feat_proj_layer_norm:
            rows = self._layer_norm(rows, f"{prefix}.layer_norm")
        hidden = self._linear(rows, self._read_linear(f"{prefix}.projection"))
        tokens = self._add("Gather", hidden, "token_frames", axis=0)
        return self._add("Unsqueeze", tokens, self._constant(np.array([0])))

    def positions(self, hidden: str) -> str:
        """Add the positional convolution, then the encoder's first layer norm."""
        kernel = self._config.num_conv_pos_embeddings
        prefix = "hubert.encoder.pos_conv_embed.conv"
        channels_first = self._add("Transpose", hidden, perm=[0, 2, 1])
        convolved = self._add(
            "Conv",
            channels_first,
            self._constant(self._weights[f"{prefix}.weight"]),
            self._constant(self._weights[f"{prefix}.bias"]),
            group=self._config.num_conv_pos_embedding_groups,
            # The reference pads half a kernel on both sides and drops the last frame of an even one.
            pads=[kernel // 2, (kernel - 1) // 2],
        )
        activated = self._add("Gelu", convolved, domain=_CONTRIB)
        embedding = self._add("Transpose", activated, perm=[0, 2, 1])
        return self._add_and_norm(hidden, embedding, "hubert.encoder.layer_norm")

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

    def _layer_norm(self, value: str, prefix: str) -> str:
        scale, shift = (self._constant(self._weights[f"{prefix}.{name}"]) for name in ("weight", "bias"))
        return self._add("LayerNormalization", value, scale, shift, axis=-1, epsilon=self._config.layer_norm_eps)

    def _add_and_norm(self, value: str, residual: str, prefix: str) -> str:
        scale, shift = (self._constant(self._weights[f"{prefix}.{name}"]) for name in ("weight", "bias"))
        return self._add(
            "SkipLayerNormalization",
            *(value, residual, scale, shift),
            domain=_CONTRIB,
            epsilon=self._config.layer_norm_eps,
        )

    def _split(self, value: str, parts: int) -> Iterable[str]:
        outputs = [self._name("Split") for _ in range(parts)]
        self._nodes.append(helper.make_node("Split", [value], outputs, axis=-1, num_outputs=parts))
        return outputs

    def _slice(self, value: str, start: int, end: int, *, axis: int) -> str:
        bounds = [self._constant(np.array([number])) for number in (start, end, axis)]
        return self._add("Slice", value, *bounds)

    def _constant(self, value: Array | np.generic) -> str:
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        name = self._name("weight")
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
