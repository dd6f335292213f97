"""Lambda's user can read every file of the image, although a checkout under umask 077 is private to its owner."""

import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.container import architecture_of, docker, run_program
from tools.emulator import ROOT

LAMBDA_USER = "65534:65534"
READ_EVERYTHING = """
import os, sys
for folder in sys.argv[1:]:
    assert os.listdir(folder)
    def refuse(error):
        raise error
    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            open(os.path.join(parent, name), "rb").close()
            assert not os.access(os.path.join(parent, name), os.W_OK), name
"""


def code_stage() -> str:
    """Return the instructions of the stage that copies the checkout's code."""
    text = (ROOT / "layers" / "Dockerfile").read_text(encoding="utf-8")
    [stage] = re.findall(r"^FROM python AS code\n(.*?)^FROM ", text, re.MULTILINE | re.DOTALL)
    return str(stage)


@pytest.fixture
def private_checkout(tmp_path: Path) -> Path:
    """A copy of the code, as `git clone` makes it under umask 077."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("core", "handlers", "samples"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [checkout, *checkout.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o700)
    return checkout


@pytest.fixture
def image_of_private_checkout(image: str, private_checkout: Path, tmp_path: Path) -> Iterator[str]:
    """The function's image, with the code of the private checkout."""
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM {image}\nUSER root\nRUN rm -rf /var/task\n{code_stage()}USER {LAMBDA_USER}\n")
    name = f"private-checkout-{uuid.uuid4().hex[:8]}"
    platform = f"--platform=linux/{architecture_of(image)}"
    docker("build", "--quiet", platform, "--tag", name, "--file", str(dockerfile), str(private_checkout))
    yield name
    docker("image", "rm", "--force", name)


def run_as_lambda(image: str, *command: str) -> str:
    return run_program(image, "/usr/bin/python3", *command, options=("--user", LAMBDA_USER))


def test_the_code_of_a_private_checkout_is_readable(image_of_private_checkout: str) -> None:
    run_as_lambda(image_of_private_checkout, "-c", READ_EVERYTHING, "/var/task")
    run_as_lambda(image_of_private_checkout, "-c", "import handlers.api.app, handlers.batch_operations")


def test_every_file_of_the_layers_is_readable(image: str) -> None:
    run_as_lambda(image, "-c", READ_EVERYTHING, "/var/task", "/opt", "/usr/local/bin")
