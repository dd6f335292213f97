"""Exports CAM++ as an ONNX graph: 16-bit weights, which ONNX Runtime casts to float32 while it loads them.

The graph accepts any number of frames. Norms that follow a convolution are folded into it. A mask of the network is
computed once for each segment of two seconds, and not for each frame.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from core.checkpoints.campplus import BANKS, BLOCKS, FEATURES, HEAD_FEATURES, SEGMENT_FRAMES, CamPlusPlus
from core.export.graph.builder import Floats, GraphBuilder

_NORM_EPSILON = 1e-5
"""The default of nn.BatchNorm1d and nn.BatchNorm2d."""

_MIN_HALF_PRECISION = 1024
"""Smaller constants stay in float32."""


def build_speaker_graph(network: CamPlusPlus) -> onnx.ModelProto:
    """Build the graph of a network.

    Returns
    -------
    A model with the input ``filter_banks`` of shape ``(1, frames, 80)``, and the output ``embedding`` of shape
    ``(1, 192)``.
    """
    return _SpeakerGraph({name: tensor.numpy() for name, tensor in network.state_dict().items()}).build()


class _SpeakerGraph(GraphBuilder):
    def __init__(self, weights: Mapping[str, Floats]) -> None:
        super().__init__()
        self._weights = weights

    def build(self) -> onnx.ModelProto:
        frames = self._head(self._node("Unsqueeze", self._transposed("filter_banks"), self._axes(1)))
        frames = self._activated_convolution(frames, "xvector.tdnn.linear", "xvector.tdnn.nonlinear", (2,), pads=2)
        expand, average = self._segments(frames)
        for number, (layers, dilation) in enumerate(BLOCKS, 1):
            for layer in range(1, layers + 1):
                added = self._dense_layer(f"xvector.block{number}.tdnnd{layer}", frames, dilation, expand, average)
                frames = self._node("Concat", frames, added, axis=1)
            name = f"xvector.transit{number}"
            frames = self._convolution(self._activated(frames, f"{name}.nonlinear"), f"{name}.linear")
        frames = self._activated(frames, "xvector.out_nonlinear")
        dense = self._convolution(self._statistics(frames), "xvector.dense.linear", "xvector.dense.nonlinear.batchnorm")
        self._nodes.append(helper.make_node("Squeeze", [dense, self._axes(2)], ["embedding"]))
        return self._assemble(
            [helper.make_tensor_value_info("filter_banks", TensorProto.FLOAT, [1, "frames", BANKS])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, FEATURES])],
        )

    def _head(self, banks: str) -> str:
        """Add the residual convolutions: ``(1, channels * banks / 8, frames)``."""
        features = self._relu(self._convolution(banks, "head.conv1", "head.bn1", (1, 1), pads=1))
        for name, stride in (("layer1.0", 2), ("layer1.1", 1), ("layer2.0", 2), ("layer2.1", 1)):
            features = self._residual(f"head.{name}", features, (stride, 1))
        features = self._relu(self._convolution(features, "head.conv2", "head.bn2", (2, 1), pads=1))
        return self._node("Reshape", features, self._constant(np.array([0, HEAD_FEATURES, -1])))

    def _residual(self, name: str, features: str, strides: tuple[int, int]) -> str:
        inner = self._relu(self._convolution(features, f"{name}.conv1", f"{name}.bn1", strides, pads=1))
        inner = self._convolution(inner, f"{name}.conv2", f"{name}.bn2", (1, 1), pads=1)
        if f"{name}.shortcut.0.weight" in self._weights:
            features = self._convolution(features, f"{name}.shortcut.0", f"{name}.shortcut.1", strides)
        return self._relu(self._node("Add", inner, features))

    def _segments(self, frames: str) -> tuple[str, str]:
        """Return two matrices: one expands segments to frames, the other averages segments and the whole utterance."""
        zero, one, length = (self._constant(np.array(number)) for number in (0, 1, SEGMENT_FRAMES))
        count = self._node("Squeeze", self._node("Shape", frames, start=2, end=3))
        segment_of_frame = self._node("Div", self._node("Range", zero, count, one), length)
        last = self._node("Div", self._node("Sub", count, one), length)
        segments = self._node("Range", zero, self._node("Add", last, one), one)
        equal = self._node("Equal", self._node("Unsqueeze", segments, self._axes(1)), segment_of_frame)
        expand = self._node("Cast", equal, to=TensorProto.FLOAT)
        means = self._node("Div", expand, self._node("ReduceSum", expand, self._axes(1), keepdims=1))
        overall = self._node("Reciprocal", self._node("Cast", count, to=TensorProto.FLOAT))
        return expand, self._node("Transpose", self._node("Add", means, overall), perm=[1, 0])

    def _dense_layer(self, name: str, frames: str, dilation: int, expand: str, average: str) -> str:
        hidden = self._activated(frames, f"{name}.nonlinear1")
        hidden = self._activated_convolution(hidden, f"{name}.linear1", f"{name}.nonlinear2")
        context = self._node("MatMul", hidden, average)
        mask = self._relu(self._convolution(context, f"{name}.cam_layer.linear1"))
        mask = self._node("Sigmoid", self._convolution(mask, f"{name}.cam_layer.linear2"))
        local = self._convolution(hidden, f"{name}.cam_layer.linear_local", pads=dilation, dilation=dilation)
        return self._node("Mul", local, self._node("MatMul", mask, expand))

    def _statistics(self, frames: str) -> str:
        """Return the mean and the standard deviation of each channel, shape ``(1, 2 * channels, 1)``."""
        axes = self._axes(2)
        mean = self._node("ReduceMean", frames, axes, keepdims=1)
        squares = self._node("ReduceSumSquare", self._node("Sub", frames, mean), axes, keepdims=1)
        count = self._node("Cast", self._node("Shape", frames, start=2, end=3), to=TensorProto.FLOAT)
        one = self._constant(np.float32(1))
        freedom = self._node("Max", self._node("Sub", count, one), one)
        return self._node("Concat", mean, self._node("Sqrt", self._node("Div", squares, freedom)), axis=1)

    def _activated(self, frames: str, name: str) -> str:
        """Add a norm that no convolution precedes, and the activation."""
        scale, shift = (self._constant(values[:, None]) for values in self._norm(f"{name}.batchnorm"))
        return self._relu(self._node("Add", self._node("Mul", frames, scale), shift))

    def _activated_convolution(
        self, frames: str, name: str, norm: str, strides: tuple[int, ...] = (1,), pads: int = 0
    ) -> str:
        return self._relu(self._convolution(frames, name, f"{norm}.batchnorm", strides, pads=pads))

    def _convolution(
        self,
        value: str,
        name: str,
        norm: str = "",
        strides: tuple[int, ...] = (1,),
        *,
        pads: int = 0,
        dilation: int = 1,
    ) -> str:
        """Add a convolution with the norm that follows it."""
        weight, bias = self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias")
        if norm:
            scale, bias = self._norm(norm)
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        constants = [self._half(weight), *([] if bias is None else [self._constant(bias)])]
        axes = len(strides)
        return self._node(
            "Conv",
            value,
            *constants,
            strides=list(strides),
            pads=[pads] * 2 * axes,
            dilations=[dilation] * axes,
        )

    def _norm(self, name: str) -> tuple[Floats, Floats]:
        """Return the scale and the shift of each channel."""
        mean, variance = self._weights[f"{name}.running_mean"], self._weights[f"{name}.running_var"]
        scale = self._weights.get(f"{name}.weight", np.float32(1)) / np.sqrt(variance + np.float32(_NORM_EPSILON))
        return scale, self._weights.get(f"{name}.bias", np.float32(0)) - mean * scale

    def _half(self, weight: Floats) -> str:
        if weight.size < _MIN_HALF_PRECISION:
            return self._constant(weight)
        return self._node("Cast", self._constant(weight.astype(np.float16)), to=TensorProto.FLOAT)

    def _transposed(self, banks: str) -> str:
        return self._node("Transpose", banks, perm=[0, 2, 1])

    def _relu(self, value: str) -> str:
        return self._node("Relu", value)

    def _axes(self, axis: int) -> str:
        return self._constant(np.array([axis]))
