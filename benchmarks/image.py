"""Size, start and decoding time of the function's image.

    python -m benchmarks.image                              the image alone
    python -m benchmarks.image --torch build/checkpoint     and the same handler on PyTorch, for comparison

Needs a Docker engine and the image. For the comparison, this environment's PyTorch is mounted into a container of the
same image.
"""

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from core.local.stack import Stack, running_stack
from core.settings import MEMORY_MB_PER_VCPU
from tools.container import (
    ARCHITECTURES,
    SANDBOX,
    Container,
    Network,
    docker,
    function_image,
    network_to_embedded_s3,
    running_function,
)
from tools.emulator import ROOT
from tools.invoke import stage
from tools.template import read_template

IMAGE = function_image(ARCHITECTURES[0])
MEMORY_MB = int(read_template(ROOT / "template.yaml")["Parameters"]["MemorySizeMb"]["Default"])
AS_DEPLOYED = (f"--cpus={MEMORY_MB / MEMORY_MB_PER_VCPU:.2f}", f"--memory={MEMORY_MB}m")

IMPORT = """
import time; started = time.perf_counter()
import handlers.s3_upload
print(time.perf_counter() - started)
"""
DECODE = """
import pathlib, statistics, sys, time
from core.audio.decode import decode
from core.audio.probe import probe
from core.settings import MediaLimits, read
file, limits, times = pathlib.Path(sys.argv[1]), read(MediaLimits), []
info = probe(file, limits)
for _ in range(41):
    started = time.perf_counter()
    for block in decode(file, info, limits): pass
    times.append(time.perf_counter() - started)
print(statistics.median(times))
"""


class Measurement:
    """One image, invoked on a recording in an embedded S3."""

    def __init__(self, stack: Stack, network: Network, runs: int) -> None:
        self._stack = stack
        self._network = network
        self._runs = runs
        self._event = json.loads((ROOT / "events" / "s3-put.json").read_text(encoding="utf-8"))

    def first_invocation(self, *options: str, model: str = "/opt/model") -> str:
        """Measure from `docker run` to the first result."""

        def once() -> float:
            # Each run uploads a new version: a duplicate would cost no inference.
            event = stage(self._event, self._stack)
            started = time.perf_counter()
            with self._function(*AS_DEPLOYED, *options, model=model) as function:
                answer = function.invoke(event)
                took = time.perf_counter() - started
            if answer != {"uploads": 1}:
                raise SystemExit(f"The function answered {answer}.")
            return took

        return self._repeat(once)

    def import_and_load(self, *options: str, model: str = "/opt/model") -> str:
        """Measure importing the handler and loading the model."""
        variables = [f"--env={name}={value}" for name, value in self._environment(model).items()]
        command = ["run", "--rm", *AS_DEPLOYED, *variables, *options, "--entrypoint=/usr/bin/python3", IMAGE]
        return self._repeat(lambda: float(docker(*command, "-c", IMPORT)))

    def empty_container(self) -> str:
        """Measure a container that runs nothing."""

        def once() -> float:
            started = time.perf_counter()
            docker("run", "--rm", *AS_DEPLOYED, "--entrypoint=/usr/bin/true", IMAGE)
            return time.perf_counter() - started

        return self._repeat(once)

    def _function(self, *options: str, model: str) -> AbstractContextManager[Container]:
        return running_function(self._network, self._environment(model), *options, image=IMAGE)

    def _environment(self, model: str) -> dict[str, str]:
        memory = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB)}
        return self._stack.environment(Path(model)) | {"AWS_ENDPOINT_URL": self._network.endpoint} | memory

    def _repeat(self, measure: Callable[[], float]) -> str:
        measure()  # fills the page cache
        took = [measure() for _ in range(self._runs)]
        return f"{statistics.median(took):.2f} s, at least {min(took):.2f} s"


def decode_ms() -> tuple[float, float]:
    """Return the time to decode ten seconds of mp3, in the image and with this machine's ffmpeg."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        clip = Path(folder) / "clip.mp3"
        tone = ["-f", "lavfi", "-i", "aevalsrc=0.3*sin(880*t)*sin(3*t):duration=10:sample_rate=44100", "-b:a", "64k"]
        subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *tone, str(clip)], check=True)
        inside = ["run", "--rm", *AS_DEPLOYED, *SANDBOX, f"--volume={folder}:/media:ro"]
        there = docker(*inside, "--entrypoint=/usr/bin/python3", IMAGE, "-c", DECODE, "/media/clip.mp3")
        here = subprocess.run(
            [sys.executable, "-c", DECODE, str(clip)], cwd=ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
    return float(there) * 1000, float(here) * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--torch", type=Path, metavar="CHECKPOINT", help="compare with PyTorch on this checkpoint")
    parser.add_argument("--runs", type=int, default=7, help="number of runs for each median")
    options = parser.parse_args()
    rows = [("size, uncompressed", f"{int(docker('image', 'inspect', '--format', '{{.Size}}', IMAGE)) / 1e6:.0f} MB")]
    with running_stack() as stack, network_to_embedded_s3("--internal") as network:
        measurement = Measurement(stack, network, options.runs)
        rows.append(("first invocation of a fresh container", measurement.first_invocation()))
        rows.append(("- importing the handler and loading the model", measurement.import_and_load()))
        rows.append(("- a container that runs nothing", measurement.empty_container()))
        if options.torch:
            packages = sysconfig.get_paths()["purelib"]
            mounted = (f"--volume={packages}:/torch:ro", f"--volume={options.torch.resolve()}:/checkpoint:ro")
            with_torch = (*mounted, "--env=PYTHONPATH=/torch")
            rows.append(("first invocation, PyTorch", measurement.first_invocation(*with_torch, model="/checkpoint")))
            rows.append(("- import and load", measurement.import_and_load(*with_torch, model="/checkpoint")))
    there_ms, here_ms = decode_ms()
    rows.append(("decoding 10 s of mp3", f"{there_ms:.0f} ms ({here_ms:.0f} ms with this machine's ffmpeg)"))
    sys.stdout.write("| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows))


if __name__ == "__main__":
    main()
