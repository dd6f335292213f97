"""The function's image in a container of its own, shut in more tightly than Lambda does."""

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
"""What `sam build` calls it: after the function's name in template.yaml, and its DockerTag."""

SANDBOX = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=128",
    "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m",
)
"""Only /tmp can be written, and little there; no capability, no way to gain one."""

_PORT = 8080


@dataclass(frozen=True)
class Network:
    """A Docker network, and where its containers find the embedded S3."""

    name: str
    endpoint: str


@contextmanager
def network_to_embedded_s3(*options: str) -> Iterator[Network]:
    """Let containers reach the embedded S3, which itself listens on the loopback address alone.

    moto keeps what it holds in this process, so a second server of it, on the network's own address, shows the same.

    Parameters
    ----------
    options
        For `docker network create`: with ``--internal``, the network leads nowhere else.
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
    """A container that runs the function under Lambda's emulator."""

    name: str
    address: str

    def invoke(self, event: Event) -> Any:
        """The function's answer to an event."""
        return invoke(self.address, event)

    def run(self, *command: str) -> str:
        """What a command prints that is run in the container."""
        return docker("exec", self.name, *command)

    def log(self) -> str:
        """What the function has logged so far."""
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
    """Start the function's image on a network; it is gone when this is left.

    Parameters
    ----------
    environment
        The function's own variables.
    options
        For `docker run`: `SANDBOX`, a limit on memory, ...
    runtime
        What the emulator starts.
    """
    name = f"audio-emotion-{uuid.uuid4().hex[:12]}"
    # On Lambda, the emulator's place is outside of the image, and what it needs is no business of the image's.
    given = [f"--volume={emulator_program()}:/emulator:ro", "--entrypoint=/emulator", f"--network={network.name}"]
    variables = [f"--env={key}={value}" for key, value in {**environment, "AWS_ENDPOINT_URL": network.endpoint}.items()]
    try:
        docker("run", "--detach", "--name", name, *given, *variables, *options, image, "--log-level", "error", *runtime)
        address = docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
        yield Container(name, f"{address}:{_PORT}")
    finally:
        docker("rm", "--force", "--volumes", name)


def docker(*arguments: str) -> str:
    """What a docker command prints.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails; what it said is on stderr.
    """
    return subprocess.run(["docker", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
