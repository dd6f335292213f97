"""The image's programs are for its architecture, and compute there what they compute elsewhere."""

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.support.elf import MACHINES, machine
from tools.container import architecture_of, docker, run_program
from tools.emulator import ROOT
from tools.template import read_template

DEBIAN_NAMES = {"x86_64": "amd64", "arm64": "arm64"}
Matrix = np.ndarray[tuple[int, int], np.dtype[Any]]
MASKED = "--tmpfs=/sys/devices/system/cpu:ro"


@pytest.fixture(scope="module")
def root_filesystem(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the image."""
    folder = tmp_path_factory.mktemp("root")
    name = docker("create", image)
    try:
        docker("export", "--output", str(folder.parent / "root.tar"), name)
    finally:
        docker("rm", name)
    with tarfile.open(folder.parent / "root.tar") as archive:
        archive.extractall(folder, filter="tar")
    (folder.parent / "root.tar").unlink()
    return folder


def test_the_image_has_the_label_of_its_architecture(image: str, architecture: str) -> None:
    assert architecture_of(image) == DEBIAN_NAMES[architecture]


def test_every_program_and_library_is_for_the_architecture(root_filesystem: Path, architecture: str) -> None:
    files = [file for file in root_filesystem.rglob("*") if file.is_file() and not file.is_symlink()]
    machines = {file: number for file in files if (number := machine(file)) is not None}

    assert set(machines.values()) == {MACHINES[DEBIAN_NAMES[architecture]]}
    programs = {str(file.relative_to(root_filesystem)) for file in machines}
    assert {"usr/bin/python3.11", "usr/local/bin/ffmpeg", "usr/local/bin/ffprobe"} <= programs
    assert any("onnxruntime" in name for name in programs)


def build_arguments(architecture: str) -> list[str]:
    """Return the arguments of `docker build` that template.yaml sets for an architecture."""
    described = read_template(ROOT / "template.yaml")["Resources"]["ClassifyFunction"]["Metadata"]["DockerBuildArgs"]
    chosen = 1 if architecture == "arm64" else 2
    values = {name: value["Fn::If"][chosen] for name, value in described.items()}
    return [f"--build-arg={name}={value}" for name, value in values.items()]


def test_the_build_fails_with_programs_of_another_architecture(image: str, architecture: str) -> None:
    other = {"x86_64": "arm64", "arm64": "amd64"}[architecture]
    platform = f"--platform=linux/{architecture_of(image)}"
    arguments = [*build_arguments(architecture), f"--build-arg=DEBIAN_ARCH={other}"]
    command = ["docker", "build", platform, *arguments, "--target=system", "--file=layers/Dockerfile", "."]

    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.returncode != 0
    assert f"/root-fs/usr/bin/python3.11 is not for {other}" in done.stdout + done.stderr


def test_modules_are_imported_without_the_kernel_s_list_of_processors(image: str) -> None:
    program = "import os; assert not os.listdir('/sys/devices/system/cpu'); import handlers.s3_upload, onnxruntime"
    program += "; print(onnxruntime.get_available_providers())"
    printed = run_program(image, "/usr/bin/python3", "-c", program, options=() if "arm64" in image else (MASKED,))
    assert "CPUExecutionProvider" in printed


# ------------------------------------------------------------------------------------------------- 8-bit products

SHAPES = [(1, 768, 768), (49, 768, 3072), (149, 3072, 768), (7, 37, 5)]
"""Rows, inner length and columns: the projections of a network of 768 features, and a shape that fits no tile."""

PRODUCTS = """
import json, pathlib, sys
import numpy as np
import onnxruntime
folder, exact = pathlib.Path("/products"), {}
for model in sorted(folder.glob("*.onnx")):
    left, right = np.load(model.with_suffix(".left.npy")), np.load(model.with_suffix(".right.npy"))
    [computed] = onnxruntime.InferenceSession(model).run(None, {"left": left})
    exact[model.stem] = bool(np.array_equal(computed, left.astype(np.int64) @ right.astype(np.int64)))
features = next(line for line in open("/proc/cpuinfo") if line.startswith(("Features", "flags"))).split()
print(json.dumps({"exact": exact, "features": features}))
"""
"""A program that compares ONNX Runtime's products with 64-bit integer arithmetic."""


def write_product(
    folder: Path,
    name: str,
    left: Matrix,
    right: Matrix,
) -> None:
    """Write a network with one product of unsigned and constant signed bytes, and its operands."""
    inner, columns = right.shape
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["left", "right"], ["product"])],
        name,
        [onnx.helper.make_tensor_value_info("left", onnx.TensorProto.UINT8, ["rows", inner])],
        [onnx.helper.make_tensor_value_info("product", onnx.TensorProto.INT32, ["rows", columns])],
        [onnx.numpy_helper.from_array(right, "right")],
    )
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, folder / f"{name}.onnx")
    np.save(folder / f"{name}.left.npy", left)
    np.save(folder / f"{name}.right.npy", right)


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """Networks with random operands, and with operands that overflow 16 bits."""
    random = np.random.default_rng(0)
    for rows, inner, columns in SHAPES:
        shape = f"{rows}x{inner}x{columns}"
        left = random.integers(0, 256, (rows, inner), dtype=np.uint8)
        write_product(tmp_path, f"random-{shape}", left, random.integers(-128, 128, (inner, columns), dtype=np.int8))
        largest = np.full((rows, inner), 255, np.uint8)
        for value in (-128, 127):
            write_product(tmp_path, f"largest-{shape}-{value}", largest, np.full((inner, columns), value, np.int8))
    for path in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        path.chmod(0o755)
    return tmp_path


def test_arm64_s_products_of_eight_bits_are_exact(image: str, architecture: str, products: Path) -> None:
    if architecture != "arm64":
        pytest.skip("Without VNNI, x86_64 adds pairs of products in 16 bits, which saturates.")

    mounted = ("--network=none", f"--volume={products}:/products:ro")
    outcome = json.loads(run_program(image, "/usr/bin/python3", "-c", PRODUCTS, options=mounted))

    assert "asimddp" in outcome["features"]
    assert outcome["exact"] == dict.fromkeys(sorted(file.stem for file in products.glob("*.onnx")), True)
