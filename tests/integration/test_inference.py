"""ONNX Runtime sessions: exact with and without hardware sums, and silent."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core import inference
from core.model.package import model_file, read_manifest

ROOT = Path(__file__).parents[2]


def test_exact_products_say_what_hardware_sums_say(package: Path) -> None:
    manifest = read_manifest(package)
    model = model_file(package, manifest)
    waveform = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    inputs = manifest.geometry.inputs(waveform)
    with_vnni, without = (
        inference.onnx_session(model, 1, has_vnni=has_vnni).run(None, inputs)[0] for has_vnni in (True, False)
    )
    if not inference.processor_has_vnni():
        pytest.skip("This processor's own products saturate: there is nothing exact to compare with.")
    np.testing.assert_allclose(with_vnni, without, atol=1e-5)


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ("flags\t: fpu avx2 avx512_vnni\n", True),
        ("flags\t: fpu avx2 avx_vnni\n", True),
        ("flags\t: avx2\n", False),
        ("", True),
    ],
)
def test_the_processor_is_asked_for_its_hardware_sums(
    described: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: described)
    inference.processor_has_vnni.cache_clear()
    assert inference.processor_has_vnni() is expected
    inference.processor_has_vnni.cache_clear()


def test_onnxruntime_leaves_no_trace_in_the_home_folder(package: Path, tmp_path: Path) -> None:
    loading = "import sys, pathlib; from core.model.classifier import EmotionClassifier"
    program = f"{loading}; EmotionClassifier.load(pathlib.Path(sys.argv[1]))"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program, str(package)], env=environment, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []
