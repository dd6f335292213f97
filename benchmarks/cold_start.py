"""Time from the start of a process to its first scores, peak memory and size on disk, at the published size.

`python -m benchmarks.cold_start [ROUNDS]`.
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import BUILD
from benchmarks.full_size import full_size_checkpoint, full_size_package
from core.export.graph import Precision
from tests.support.tables import machine, show

_FIRST_SCORES = """
import sys, time
begun = time.perf_counter()
from pathlib import Path
import numpy as np
from core.checkpoints.loading import load_classifier
imported = time.perf_counter()
classifier = load_classifier(Path(sys.argv[1]), int(sys.argv[2]))
loaded = time.perf_counter()
classifier.classify(np.random.default_rng(0).standard_normal(32_000).astype(np.float32))
done = time.perf_counter()
# Not getrusage: its peak includes the parent process.
peak_kb = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(imported - begun, loaded - imported, done - loaded, peak_kb)
"""


@dataclass(frozen=True)
class Start:
    """Times in one process and its peak memory."""

    total_ms: float
    import_ms: float
    load_ms: float
    first_ms: float
    peak_mb: float


def first_scores(folder: Path, threads: int) -> Start:
    """Run a process that loads the model and scores two seconds of noise."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-c", _FIRST_SCORES, str(folder), str(threads)]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    total_s = time.perf_counter() - started
    import_s, load_s, first_s, peak_kb = map(float, done.stdout.split())
    return Start(total_s * 1000, import_s * 1000, load_s * 1000, first_s * 1000, peak_kb / 1024)


def main(rounds: int = 3) -> None:
    """Print one row for each package and number of threads."""
    checkpoint = full_size_checkpoint(BUILD / "checkpoint")
    contenders = {
        "transformers": checkpoint,
        "serving package, fp32": full_size_package(checkpoint, BUILD / "fp32", Precision.FP32),
        "serving package, int8": full_size_package(checkpoint, BUILD / "int8", Precision.INT8),
    }
    rows = []
    for threads in (1, 2):
        starts: dict[str, list[Start]] = {name: [] for name in contenders}
        for round_number in range(rounds + 1):
            for name, folder in contenders.items():
                sample = first_scores(folder, threads)
                if round_number:  # the first one fills the page cache
                    starts[name].append(sample)
        base_ms = _median(starts["transformers"], "total_ms")
        for name, samples in starts.items():
            parts_ms = [_median(samples, part) for part in ("total_ms", "import_ms", "load_ms", "first_ms")]
            size_mb = sum(file.stat().st_size for file in contenders[name].iterdir()) / 1e6
            figures = [*parts_ms, max(sample.peak_mb for sample in samples), size_mb]
            rows.append([name, str(threads), f"{base_ms / parts_ms[0]:.2f}", *(f"{figure:.0f}" for figure in figures)])
    columns = ["", "threads", "times", "ms", "import ms", "load ms", "first 2 s ms", "peak MB", "MB on disk"]
    show(f"Process start to first scores, {machine()}", columns, rows)


def _median(starts: list[Start], part: str) -> float:
    median: float = statistics.median(getattr(start, part) for start in starts)
    return median


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
