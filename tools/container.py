"""Runs the function's image in a Docker container, optionally with tighter limits than Lambda's."""

import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from core.local.workers import HANDLER
from tools.emulator import Event, emulator_program, invoke

ARCHITECTURES = ("x86_64", "arm64")
"""Architectures of the image, as template.yaml names them. The first one is the default."""

SANDBOX = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=128",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m",
)
"""Options of `docker run`: a read-only root, a small /tmp, no capabilities, no new privileges."""

_ON_GRAVITON2 = (
    "--platform=linux/arm64",
    # QEMU's default processor has instructions that Graviton2 lacks, and ONNX Runtime chooses its kernels by them.
    "--env=QEMU_CPU=neoverse-n1",
    # Lambda shows no list of processors, so ONNX Runtime asks the kernel instead.
    "--tmpfs=/sys/devices/system/cpu:ro",
)
"""Options of `docker run` for an image for arm64."""

_PORT = 8080


def function_image(architecture: str) -> str:
    """Return the image name that `sam build` derives from the function's name and DockerTag in template.yaml."""
    return f"classifyfunction:{architecture}"


def architecture_of(image: str) -> str:
    """Return the architecture of an image that is present, as Docker names it: ``amd64`` or ``arm64``."""
    return docker("image", "inspect", "--format", "{{.Architecture}}", image)


def is_emulated(image: str) -> bool:
    """Return whether the engine runs the image's programs under emulation."""
    native = {"x86_64": "amd64", "aarch64": "arm64"}
    return architecture_of(image) != native[docker("info", "--format", "{{.Architecture}}")]


def processor_options(image: str) -> tuple[str, ...]:
    """Return options of `docker run` that show an image for arm64 the processor of Lambda; none for x86_64."""
    return _ON_GRAVITON2 if architecture_of(image) == "arm64" else ()


def run_program(image: str, program: str, *arguments: str, options: Sequence[str] = ()) -> str:
    """Run a program of the image in a container of its own, and return its output.

    Parameters
    ----------
    options
        Options of `docker run`, such as `SANDBOX` or a volume.
    """
    given = [*processor_options(image), *options, f"--entrypoint={program}"]
    return docker("run", "--rm", *given, image, *arguments)


@dataclass(frozen=True)
class Network:
    """A Docker network, and the address of the local S3 in it."""

    name: str
    endpoint: str


@contextmanager
def network_to_embedded_s3(*options: str) -> Iterator[Network]:
    """Create a Docker network whose containers can reach the local S3.

    The local S3 listens on the loopback address only. moto shares its state within a process, so a second server on the
    network's gateway address serves the same objects.

    Parameters
    ----------
    options
        Options of `docker network create`. With ``--internal``, containers can reach nothing else.
    """
    from moto.server import ThreadedMotoServer

    name = f"audio-emotion-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    docker("network", "create", *options, name)
    try:
        gateway = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", name)
        server = ThreadedMotoServer(ip_address=gateway, port=0, verbose=False)
        server.start()
        try:
            yield Network(name, f"http://{gateway}:{server.get_host_and_port()[1]}")
        finally:
            server.stop()
    finally:
        docker("network", "rm", name)


@dataclass(frozen=True)
class Container:
    """A container that runs the function under Lambda's runtime interface emulator."""

    name: str
    address: str

    def invoke(self, event: Event) -> Any:
        """Return the function's answer to an event."""
        return invoke(self.address, event)

    def run(self, *command: str) -> str:
        """Run a command in the container and return its output."""
        return docker("exec", self.name, *command)

    def log(self) -> str:
        """Return the function's log."""
        return subprocess.run(
            ["docker", "logs", self.name], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout


@contextmanager
def running_function(
    network: Network,
    environment: Mapping[str, str],
    *options: str,
    image: str,
    runtime: Sequence[str] = ("/usr/bin/python3", "-m", "awslambdaric", HANDLER),
) -> Iterator[Container]:
    """Run the function's image on a network, and remove the container at the end.

    Parameters
    ----------
    image
        Name of the image, from `function_image`.
    environment
        Environment variables of the function.
    options
        Options of `docker run`, such as `SANDBOX` or a memory limit.
    runtime
        The command that the emulator starts.
    """
    name = f"audio-emotion-{uuid.uuid4().hex[:12]}"
    # The image does not contain the emulator, because Lambda's counterpart runs outside the image.
    given = [f"--volume={emulator_program()}:/emulator:ro", "--entrypoint=/emulator", f"--network={network.name}"]
    given += processor_options(image)
    variables = [f"--env={key}={value}" for key, value in {**environment, "AWS_ENDPOINT_URL": network.endpoint}.items()]
    try:
        docker("run", "--detach", "--name", name, *given, *variables, *options, image, "--log-level", "error", *runtime)
        address = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
        yield Container(name, f"{address}:{_PORT}")
    finally:
        docker("rm", "--force", "--volumes", name)


def docker(*arguments: str) -> str:
    """Run a docker command and return its output.

    Raises
    ------
    subprocess.CalledProcessError
        If the command fails. stderr has docker's message.
    """
    return subprocess.run(["docker", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
