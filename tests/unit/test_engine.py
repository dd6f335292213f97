"""`layers/engine.sh` says what a machine lacks for images. A recorder replaces Docker, which this machine may have."""

import os
import subprocess
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[2] / "layers" / "engine.sh"
BASE, ARM64, COMPILERS = "debian:bookworm-slim", "arm64v8/debian:bookworm-slim", "audio-emotion-compilers"
DOCKER = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$1 $2" in
  "image inspect") case " $IMAGES " in *" $3 "*) exit 0 ;; esac; exit 1 ;;
  "info --format") echo "$PROCESSOR" ;;
  info*) [ -n "$PROCESSOR" ] ;;
  run*) [ -n "$RUNS_ARM64" ] ;;
  tag*) ;;
  *) exit 1 ;;
esac
"""


class Machine:
    """A machine whose user is not root, with an engine that answers as the attributes say."""

    def __init__(self, folder: Path) -> None:
        self.processor = "x86_64"
        self.images = [BASE]
        self.runs_arm64 = False
        self._folder = folder
        for name, program in {"docker": DOCKER, "id": "#!/bin/sh\necho 1000\n"}.items():
            (folder / name).write_text(program)
            (folder / name).chmod(0o755)

    def prepare(self, *arguments: str) -> tuple[int, str]:
        """Run the script, and return its exit status and its messages."""
        variables = {
            "PATH": f"{self._folder}:{os.environ['PATH']}",
            "CALLS": str(self._folder / "calls"),
            "IMAGES": " ".join(self.images),
            "PROCESSOR": self.processor,
            "RUNS_ARM64": "1" if self.runs_arm64 else "",
        }
        done = subprocess.run([ENGINE, *arguments], env=variables, check=False, capture_output=True, text=True)
        return done.returncode, done.stderr

    def calls(self) -> list[str]:
        """Return the arguments of each call of Docker."""
        return (self._folder / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("architecture", [(), ("x86_64",)])
def test_an_image_for_x86_64_needs_only_the_base_image(machine: Machine, architecture: tuple[str, ...]) -> None:
    assert machine.prepare(*architecture) == (0, "")
    assert machine.calls() == [f"image inspect {BASE}"]


def test_a_machine_without_an_engine_needs_one(machine: Machine) -> None:
    machine.images, machine.processor = [], ""
    assert machine.prepare("arm64") == (1, "No Docker engine is running. Start one to build the image.\n")


def test_a_machine_without_a_registry_needs_the_base_image(machine: Machine) -> None:
    machine.images = []
    assert machine.prepare() == (1, f"The Docker engine cannot pull the base image {BASE}.\n")


@pytest.mark.parametrize("images", [[BASE], [BASE, ARM64]], ids=["without Debian", "with Debian"])
def test_a_machine_without_emulation_needs_qemu(machine: Machine, images: list[str]) -> None:
    machine.images = images
    status, message = machine.prepare("arm64")
    assert status == 1
    assert "Register qemu-user 8.2 or later with binfmt_misc, with flag F." in message


def test_a_machine_with_emulation_and_both_images_is_ready(machine: Machine) -> None:
    machine.images, machine.runs_arm64 = [BASE, ARM64, COMPILERS], True
    assert machine.prepare("arm64") == (0, "")


def test_an_arm_machine_needs_no_emulation(machine: Machine) -> None:
    machine.processor = "aarch64"
    assert machine.prepare("arm64") == (0, "")
    assert machine.calls()[-2:] == [f"tag {BASE} {ARM64}", f"tag {ARM64} {COMPILERS}"]
    assert not any(call.startswith(("run", "create")) for call in machine.calls())


def test_an_unknown_architecture_is_refused(machine: Machine) -> None:
    status, message = machine.prepare("mips")
    assert (status, message) == (1, "engine.sh: unknown architecture mips: use x86_64 or arm64\n")
