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

IMAGE = "classifyfunction:latest"
"""The image name that `sam build` derives from the function's name and DockerTag in template.yaml."""

SANDBOX = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=128",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m",
)
"""Options of `docker run`: a read-only root, a small /tmp, no capabilities, no new privileges."""

_PORT = 8080


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
    image: str = IMAGE,
    runtime: Sequence[str] = ("/usr/bin/python3", "-m", "awslambdaric", HANDLER),
) -> Iterator[Container]:
    """Run the function's image on a network, and remove the container at the end.

    Parameters
    ----------
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
