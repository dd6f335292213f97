"""From the start of a process to its first scores, at the published size; with peak memory and size on disk.

`python -m benchmarks.cold_start [ROUNDS]`.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.full_size import full_size_checkpoint, full_size_package
from benchmarks.speed import BUILD
from benchmarks.tables import show
from core.model.graph import Precision

_SERVING = """
import sys
from pathlib import Path
import numpy as np
from core.model.classifier import EmotionClassifier
classifier = EmotionClassifier.load(Path(sys.argv[1]), threads=int(sys.argv[2]))
classifier.classify(np.random.default_rng(0).standard_normal(32_000).astype(np.float32))
# Not getrusage: what it calls the peak includes that of the process which started this one.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def first_scores(folder: Path, threads: int) -> tuple[float, float]:
    """Milliseconds, and peak memory in MB."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    started = time.perf_counter()
    command = [sys.executable, "-c", _SERVING, str(folder), str(threads)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return (time.perf_counter() - started) * 1000, int(done.stdout) / 1024


def main(rounds: int = 3) -> None:
    """Print one row for each way to load the model."""
    checkpoint = full_size_checkpoint(BUILD / "checkpoint")
    contenders = {
        "transformers": checkpoint,
        "serving package, fp32": full_size_package(checkpoint, BUILD / "fp32", Precision.FP32),
        "serving package, int8": full_size_package(checkpoint, BUILD / "int8", Precision.INT8),
    }
    rows = []
    for threads in (1, 2):
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for round_number in range(rounds + 1):
            for name, folder in contenders.items():
                sample = first_scores(folder, threads)
                if round_number:
                    measured[name].append(sample)
        base_ms = statistics.median(ms for ms, _ in measured["transformers"])
        for name, samples in measured.items():
            median_ms = statistics.median(ms for ms, _ in samples)
            peak_mb = max(mb for _, mb in samples)
            size_mb = sum(file.stat().st_size for file in contenders[name].iterdir()) / 1e6
            rows.append(
                [
                    name,
                    str(threads),
                    f"{base_ms / median_ms:.2f}",
                    f"{median_ms:.0f}",
                    f"{peak_mb:.0f}",
                    f"{size_mb:.0f}",
                ]
            )
    show("Process start to first scores", ["", "threads", "times", "ms", "peak MB", "MB on disk"], rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
