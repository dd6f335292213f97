"""The wheel: `pip install` gives a working `audio-emotion`, without the checkout beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.conftest import ROOT

SOURCES = ("core", "handlers", "models/demo/package", "samples")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE")
MAX_SIZE_BYTES = 6_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy that holds the remains of an earlier build."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / "src")
    (folder / "src" / "build" / "lib" / "core").mkdir(parents=True)
    (folder / "src" / "build" / "lib" / "core" / "deleted.py").touch()
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(folder / "src")], check=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel, as pip unpacks it."""
    folder = tmp_path_factory.mktemp("installed")
    with ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program of the wheel in a folder, without a model or a sample beside it."""
    done = subprocess.run(
        [sys.executable, "-m", "core.cli", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "COLUMNS": "200"},
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_wheel_has_every_module_and_every_file_that_they_read(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())

    sources = {
        str(file.relative_to(ROOT))
        for package in ("core", "handlers")
        for file in (ROOT / package).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert sources - names == set()
    assert {"core/py.typed", "handlers/py.typed", "handlers/api/static/page.html"} <= names
    for folder, source in (("core/demo_model", "models/demo/package"), ("core/samples", "samples")):
        assert {f"{folder}/{file.name}" for file in (ROOT / source).iterdir()} <= names


def test_the_wheel_has_nothing_else_and_stays_small(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()

    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"core", "handlers"}
    assert "core/deleted.py" not in names
    assert wheel.stat().st_size < MAX_SIZE_BYTES


def test_the_wheel_needs_no_pytorch_and_includes_the_licences(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        fields = message_from_bytes(archive.read(metadata))

    required = [line for line in fields.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert any(line.startswith("onnxruntime") for line in required)
    assert not any(line.startswith(("torch", "transformers", "onnx>", "onnx;")) or line == "onnx" for line in required)
    assert {"LICENSE", "NOTICE"} <= set(fields.get_all("License-File", []))


def test_classify_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    sample = installed / "core" / "samples" / "anger.wav"

    document = json.loads(run(installed, tmp_path, "classify", "--json", str(sample)).stdout)

    assert document["status"] == "classified"
    assert document["model"]["demo"] is True
    assert list(tmp_path.iterdir()) == []


def test_python_code_classifies_with_the_installed_package(installed: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "use-from-python.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    shutil.copytree(installed / "core" / "samples", tmp_path / "samples")

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example + "print(__import__('core').__file__)"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
        timeout=200,
    )

    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("samples/")] == [lines[0], lines[2]]
    assert lines[0].startswith("samples/anger.wav classified anger {")
    assert len(lines) == 2 + 1 + 7 + 1
    assert lines[-1] == str(installed / "core" / "__init__.py")
    assert done.stderr.count("demo model") == 1


def test_the_samples_of_the_wheel_are_those_of_the_demo(installed: Path, tmp_path: Path) -> None:
    code = "from core.paths import DEMO_PACKAGE, SAMPLES; print(DEMO_PACKAGE); print(SAMPLES)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stdout.split() == [str(installed / "core" / "demo_model"), str(installed / "core" / "samples")]
