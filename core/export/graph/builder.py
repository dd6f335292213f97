"""Collects the nodes and constants of an ONNX graph, without knowledge of any network."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

TO_THE_END = np.iinfo(np.int64).max

_OPSET = 20
_IR_VERSION = 10


class GraphBuilder:
    """An ONNX graph under construction. Methods that add a node or a constant return the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._names = 0

    def _assemble(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Return all nodes and constants as an ONNX model, and empty the builder."""
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, 1)]
        graph = helper.make_graph(self._nodes, "serving", list(inputs), list(outputs))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="audio-emotion")
        # Added one by one: onnx's helpers copy their arguments, so a large network would be in memory four times.
        for name in list(self._initializers):
            model.graph.initializer.add().CopyFrom(self._initializers.pop(name))
        return model

    def _loop(self, count: str, initial: str, body: Callable[[str, str], str]) -> str:
        """Add a loop that passes one tensor from each iteration to the next, and return its last value.

        The constants of the body are stored in it, because ONNX Runtime makes products exact on processors without VNNI
        only where it finds the weights beside them.

        Parameters
        ----------
        count
            The number of iterations, a scalar.
        initial
            The tensor before the first iteration.
        body
            Adds the nodes of one iteration, from the number of the iteration, a scalar, and the tensor.
        """
        outer_nodes, outer_initializers = self._nodes, self._initializers
        self._nodes, self._initializers = [], {}
        number, condition, before = (self._name(kind) for kind in ("number", "condition", "before"))
        after, is_continued = body(number, before), self._node("Identity", condition)
        graph = helper.make_graph(
            self._nodes,
            "body",
            [
                helper.make_tensor_value_info(number, TensorProto.INT64, []),
                helper.make_tensor_value_info(condition, TensorProto.BOOL, []),
                helper.make_tensor_value_info(before, TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info(is_continued, TensorProto.BOOL, []),
                helper.make_tensor_value_info(after, TensorProto.FLOAT, None),
            ],
            list(self._initializers.values()),
        )
        self._nodes, self._initializers = outer_nodes, outer_initializers
        return self._node("Loop", count, "", initial, body=graph)

    def _row_count(self, rows: str) -> str:
        return self._node("Squeeze", self._node("Shape", rows, start=0, end=1))

    def _split(self, value: str, parts: int) -> Iterable[str]:
        outputs = [self._name("Split") for _ in range(parts)]
        self._nodes.append(helper.make_node("Split", [value], outputs, axis=-1, num_outputs=parts))
        return outputs

    def _slice(self, value: str, start: int, end: int, *, axis: int) -> str:
        bounds = [self._constant(np.array([number])) for number in (start, end, axis)]
        return self._node("Slice", value, *bounds)

    def _constant(self, value: Array | np.generic, name: str = "") -> str:
        """Add a constant. Constants with the same name are stored once."""
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        name = name or self._name("weight")
        self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def _node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = self._name(operator)
        self._nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{self._names}"
