"""The image's build refuses a serving package that does not match its manifest; the function relies on this check."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.emulator import ROOT

DEMO = ROOT / "models" / "demo" / "package"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A copy of the demo package in place of an exported one."""
    return Path(shutil.copytree(DEMO, tmp_path / "exported"))


def choose(exported: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the script of the image's model stage."""
    command = ["bash", str(ROOT / "layers" / "model" / "choose.sh"), str(exported), str(DEMO), str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_exported_package_goes_into_the_image(exported: Path, tmp_path: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    (exported / "manifest.json").write_text(json.dumps(manifest | {"id": "another"}))

    assert choose(exported, tmp_path / "image").returncode == 0
    assert contents(tmp_path / "image") == contents(exported)


def test_without_an_exported_package_the_demo_package_goes_into_the_image(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert choose(tmp_path / "empty", tmp_path / "image").returncode == 0
    assert contents(tmp_path / "image").items() <= contents(DEMO).items()


def test_a_package_that_is_private_to_its_owner_becomes_readable(exported: Path, tmp_path: Path) -> None:
    for path in [exported, *exported.iterdir()]:
        path.chmod(path.stat().st_mode & 0o700)

    assert choose(exported, tmp_path / "image").returncode == 0
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in [tmp_path / "image", *(tmp_path / "image").iterdir()])


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_one_changed_bit_fails_the_build(exported: Path, tmp_path: Path, name: str) -> None:
    content = bytearray((exported / name).read_bytes())
    content[len(content) // 2] ^= 1
    (exported / name).write_bytes(content)

    done = choose(exported, tmp_path / "image")

    assert done.returncode == 1
    assert f"{name} does not match the hash in its manifest" in done.stderr


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_a_missing_file_fails_the_build(exported: Path, tmp_path: Path, name: str) -> None:
    (exported / name).unlink()

    done = choose(exported, tmp_path / "image")

    assert done.returncode == 1
    assert f"{name} is missing" in done.stderr


@pytest.mark.parametrize("name", ["model.onnx", "weights.bin"])
def test_a_missing_hash_fails_the_build(exported: Path, tmp_path: Path, name: str) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    del manifest["sha256"][name]
    (exported / "manifest.json").write_text(json.dumps(manifest, indent=2))

    done = choose(exported, tmp_path / "image")

    assert done.returncode == 1
    assert f"its manifest has no hash of {name}" in done.stderr


def test_the_image_has_the_speaker_network_of_the_checkout(image_model: Path) -> None:
    built, included = ROOT / "build" / "speakers" / "speakers.onnx", image_model / "speakers.onnx"

    assert included.exists() is built.exists()
    if built.exists():
        assert included.read_bytes() == built.read_bytes()
        assert included.stat().st_size < 20_000_000
