"""ONNX Runtime sessions: exact 8-bit products with and without VNNI, and no telemetry."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from core import machine, onnx_session
from core.errors import PackageRefused
from core.export.graph import Precision, build_graph
from core.export.graph.builder import CONTRIB, Floats
from core.export.graph.precision import quantise_per_column
from core.model.classifier import EmotionClassifier
from tests.support.networks import random_network, small_config

ROOT = Path(__file__).parents[2]


def test_a_package_whose_path_is_not_utf_8_is_refused_in_one_sentence(package: Path, tmp_path: Path) -> None:
    named = tmp_path / "p\udce9"
    named.symlink_to(package)

    with pytest.raises(PackageRefused, match="not UTF-8, which ONNX Runtime cannot open"):
        EmotionClassifier.load(named)


def test_sums_of_8_bit_products_do_not_saturate_on_any_processor() -> None:
    """A product whose sums exceed 16 bits is right within the rounding to 8 bits."""
    rng = np.random.default_rng(0)
    rows = rng.uniform(0.5, 1.0, (4, 256)).astype(np.float32)
    weight = rng.uniform(0.5, 1.0, (256, 32)).astype(np.float32)

    exact = onnx_session.onnx_session(_int8_product(weight), 1).run(None, {"rows": rows})[0]

    np.testing.assert_allclose(exact, rows @ weight, rtol=0.01)


def test_a_processor_without_vnni_needs_exact_products() -> None:
    """A control: without exact products the same sums saturate on a processor without VNNI."""
    if onnx_session.processor_has_vnni():
        pytest.skip("This processor has VNNI, with which sums never saturate.")
    rng = np.random.default_rng(0)
    rows = rng.uniform(0.5, 1.0, (4, 256)).astype(np.float32)
    weight = rng.uniform(0.5, 1.0, (256, 32)).astype(np.float32)

    saturated = onnx_session.onnx_session(_int8_product(weight), 1, has_vnni=True).run(None, {"rows": rows})[0]

    assert np.abs(saturated / (rows @ weight) - 1).max() > 0.05


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_FFN])
def test_every_8_bit_product_of_a_serving_graph_is_exact_without_vnni(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime makes a product exact by unsigned weights, also in the loop of the feature encoder."""
    options, written = onnxruntime.SessionOptions(), tmp_path / "optimised.onnx"
    options.optimized_model_filepath = str(written)
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: options)
    model = build_graph(random_network(small_config()), precision)

    onnx_session.onnx_session(model.SerializeToString(), 1, has_vnni=False)

    types = list(_weight_types(onnx.load(written).graph))
    assert len(types) == len(list(_weight_types(model.graph)))
    assert set(_weight_types(model.graph)) == {TensorProto.INT8}
    assert set(types) == {TensorProto.UINT8}


def _weight_types(graph: onnx.GraphProto) -> Iterator[int]:
    """Yield the type of the weight of each 8-bit product."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            yield from _weight_types(attribute.g)
        if node.op_type in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat"):
            yield types[node.input[1]]


def _int8_product(weight: Floats) -> bytes:
    quantised, scale = quantise_per_column(weight)
    constants = [
        numpy_helper.from_array(quantised, "weight"),
        numpy_helper.from_array(scale, "scale"),
        numpy_helper.from_array(np.zeros(scale.shape, np.int8), "zero_points"),
    ]
    node = helper.make_node(
        "DynamicQuantizeMatMul", ["rows", "weight", "scale", "zero_points"], ["product"], domain=CONTRIB
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("rows", "product")]
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
    written: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return written


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ("flags\t: fpu avx2 avx512_vnni\n", True),
        ("flags\t: fpu avx2 avx_vnni\n", True),
        ("flags\t: avx2\n", False),
        ("Features\t: fp asimd asimddp\n", True),
        ("", True),
    ],
)
def test_vnni_is_detected(described: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: described)
    machine._cpuinfo.cache_clear()
    assert onnx_session.processor_has_vnni() is expected
    machine._cpuinfo.cache_clear()


def test_onnxruntime_writes_nothing_to_the_home_folder(package: Path, tmp_path: Path) -> None:
    loading = "import sys, pathlib; from core.model.classifier import EmotionClassifier"
    program = f"{loading}; EmotionClassifier.load(pathlib.Path(sys.argv[1]))"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program, str(package)], env=environment, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []
