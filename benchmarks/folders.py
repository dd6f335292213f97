"""Speed of `classify` on many short files: one process, and a worker for each of two processors.

Both take turns, so that other load slows both. The goal is a ratio of 1.8 on two idle processors.
`python -m benchmarks.folders [FILES] [ROUNDS]`.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core.paths import DEMO_PACKAGE
from tests.conftest import ROOT
from tests.support.tables import machine, show

GOAL = 1.8


def classify(folder: Path, jobs: int) -> tuple[float, float]:
    """Classify a folder in a new process, and return the elapsed and the processor time in seconds."""
    command = [sys.executable, "-m", "core.cli", "classify", "calls", "--model", str(DEMO_PACKAGE)]
    out = folder / "results.jsonl"
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*command, "--jobs", str(jobs), "--out", out.name],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    elapsed_s = time.monotonic() - started
    out.unlink()
    return elapsed_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(files: int = 1000, rounds: int = 3) -> None:
    """Print the total times of each number of processes, and the ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "calls").mkdir()
        for number in range(files):
            (folder / "calls" / f"{number:05}.wav").symlink_to(ROOT / "samples" / "anger.wav")
        taken: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for _ in range(rounds):
            for jobs, times in taken.items():
                times.append(classify(folder, jobs))
    elapsed_s = {jobs: sum(elapsed for elapsed, _ in pairs) for jobs, pairs in taken.items()}
    rows = [
        (
            str(jobs),
            f"{elapsed_s[jobs] / rounds:.1f}",
            f"{sum(cpu for _, cpu in pairs) / rounds:.1f}",
            f"{files * rounds / elapsed_s[jobs]:.1f}",
            f"{elapsed_s[1] / elapsed_s[jobs]:.2f}",
        )
        for jobs, pairs in taken.items()
    ]
    print(machine())
    show("Short files", ("processes", "s", "processor s", "files/s", "times faster"), rows)
    print(f"Goal: {GOAL} times faster on two idle processors. Load average: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
