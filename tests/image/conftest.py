"""Fixtures for the tests of the image: the image, an S3 that its containers reach, and a sandboxed container."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.local.stack import Stack, running_stack
from tools.container import (
    ARCHITECTURES,
    SANDBOX,
    Container,
    Network,
    docker,
    function_image,
    is_emulated,
    network_to_embedded_s3,
    running_function,
)
from tools.emulator import ROOT, emulator_program
from tools.template import read_template

EVENTS = ROOT / "events"


@pytest.fixture(scope="session")
def sam() -> None:
    """The SAM CLI, which contains Lambda's emulator."""
    try:
        emulator_program()
    except FileNotFoundError as error:
        pytest.skip(f"{error} `make test-image` installs it.")


@pytest.fixture(scope="session")
def architecture() -> str:
    """The architecture of the image under test: ``x86_64`` or ``arm64``."""
    name = os.environ.get("AUDIO_EMOTION_IMAGE_ARCH") or ARCHITECTURES[0]
    assert name in ARCHITECTURES
    return name


@pytest.fixture(scope="session")
def image(sam: None, architecture: str) -> str:
    """The name of the function's image."""
    name = function_image(architecture)
    try:
        docker("image", "inspect", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"There is no image {name}. `make test-image` builds it on a machine with a Docker engine.")
    return name


@pytest.fixture(autouse=True)
def skip_under_emulation(request: pytest.FixtureRequest) -> None:
    """Skip a test with the mark ``native`` if the engine emulates the image's processor, and give the mark's reason."""
    mark = request.node.get_closest_marker("native")
    if mark and is_emulated(request.getfixturevalue("image")):
        pytest.skip(f"QEMU emulates the processor. {mark.kwargs['reason']}")


@pytest.fixture(scope="session")
def memory_mb() -> int:
    """The function's memory in template.yaml."""
    parameters = read_template(ROOT / "template.yaml")["Parameters"]
    return int(parameters["MemorySizeMb"]["Default"])


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded S3 and queue."""
    with running_stack() as stack:
        yield stack


@pytest.fixture(scope="session")
def network(image: str, stack: Stack) -> Iterator[Network]:
    """A network that reaches only the embedded S3."""
    with network_to_embedded_s3("--internal") as network:
        yield network


@pytest.fixture(scope="session")
def function(image: str, network: Network, stack: Stack, memory_mb: int) -> Iterator[Container]:
    """A sandboxed container of the function, shared by all tests."""
    environment = stack.environment(Path("/opt/model")) | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb)}
    limit = f"--memory={memory_mb}m"
    limits = (limit, "--memory-swap", f"{memory_mb}m")
    with running_function(network, environment, *SANDBOX, *limits, image=image) as container:
        yield container


@pytest.fixture(scope="session")
def image_model(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the serving package in the image."""
    folder = tmp_path_factory.mktemp("image")
    name = docker("create", image)
    docker("cp", f"{name}:/opt/model", str(folder))
    docker("rm", name)
    return folder / "model"


def event(name: str) -> Any:
    """Return a sample event."""
    return json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))


def result(stack: Stack, key: str) -> Any:
    """Return the result document of an upload."""
    return json.loads(stack.result(f"results/{key}.json"))
