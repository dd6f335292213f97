"""The check of the image's build: every program and library in a folder is for one architecture."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.elf import MACHINES, machine

CHECK = Path(__file__).parents[2] / "layers" / "checks" / "check_architecture.sh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with this interpreter's program, a text and an empty file."""
    (tmp_path / "bin").mkdir()
    shutil.copy(Path(sys.executable).resolve(), tmp_path / "bin" / "python3")
    (tmp_path / "README").write_text("\x7fELF")
    (tmp_path / "empty").touch()
    return tmp_path


def check(architecture: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", str(CHECK), architecture, str(folder)], check=False, capture_output=True, text=True)


def relabel(program: Path, architecture: str) -> None:
    """Write the number of an architecture into the header of a program."""
    content = bytearray(program.read_bytes())
    content[18:20] = MACHINES[architecture].to_bytes(2, "little")
    program.write_bytes(content)


@pytest.mark.parametrize("architecture", MACHINES)
def test_programs_of_the_expected_architecture_pass(folder: Path, architecture: str) -> None:
    relabel(folder / "bin" / "python3", architecture)
    done = check(architecture, folder)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("expected", "other"), [("amd64", "arm64"), ("arm64", "amd64")])
def test_one_program_of_another_architecture_fails(folder: Path, expected: str, other: str) -> None:
    relabel(folder / "bin" / "python3", expected)
    shutil.copy(folder / "bin" / "python3", folder / "library with a space.so")
    relabel(folder / "library with a space.so", other)
    done = check(expected, folder)
    assert done.returncode == 1
    assert done.stderr == f"{folder}/library with a space.so is not for {expected}: ELF machine {MACHINES[other]}\n"


def test_a_folder_without_programs_fails(folder: Path) -> None:
    (folder / "bin" / "python3").unlink()
    done = check("amd64", folder)
    assert (done.returncode, done.stderr) == (1, "no program found\n")


def test_a_missing_folder_fails(tmp_path: Path) -> None:
    assert check("amd64", tmp_path / "missing").returncode == 1


def test_an_unknown_architecture_fails(folder: Path) -> None:
    done = check("x86_64", folder)
    assert done.returncode != 0
    assert "unknown architecture x86_64" in done.stderr


def test_the_header_of_this_interpreter_is_read(folder: Path) -> None:
    assert machine(folder / "bin" / "python3") in MACHINES.values()
    assert machine(folder / "README") is None
