"""The second published layout at full size: how fast, how large, and how much memory, against transformers.

All contenders take turns within one round, at one thread; medians over the rounds, of processor time, which counts
only what this process computed, so that a busy machine distorts less. Unlike the first layout's, the reference too
hears the clip alone, and its time follows the utterance's length.
`python -m benchmarks.second_checkpoint [ROUNDS]`.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.cold_start import first_scores
from benchmarks.full_size import clip, full_size_package, full_size_wav2vec2_checkpoint
from benchmarks.speed import BUILD
from benchmarks.tables import machine, show
from core.model.checkpoint import read_checkpoint
from core.model.classifier import EmotionClassifier
from core.model.graph import Precision
from core.model.reference import ReferenceNetwork

DURATIONS_S = (1.0, 2.0, 4.0)

_FOLDER = BUILD / "wav2vec2"


def measure(checkpoint: Path, packages: dict[str, Path], rounds: int) -> dict[str, dict[float, float]]:
    """Median milliseconds of processor time at one thread, by contender and by the utterance's seconds."""
    torch.set_num_threads(1)
    contenders: dict[str, Callable[..., object]] = {
        "transformers, sdpa": ReferenceNetwork(read_checkpoint(checkpoint)).logits,
        **{name: EmotionClassifier.load(package, threads=1).logits for name, package in packages.items()},
    }
    times_ms: dict[str, dict[float, list[float]]] = {name: {s: [] for s in DURATIONS_S} for name in contenders}
    for round_number in range(rounds + 1):
        for duration_s in DURATIONS_S:
            waveform = clip(duration_s)
            for name, run in contenders.items():
                started = time.process_time()
                run(waveform)
                if round_number:  # the first one warms up
                    times_ms[name][duration_s].append((time.process_time() - started) * 1000)
    return {name: {s: statistics.median(values) for s, values in by.items()} for name, by in times_ms.items()}


def main(rounds: int = 5) -> None:
    """Print the ratios to transformers first, then milliseconds; then sizes and memory."""
    print(machine())
    checkpoint = full_size_wav2vec2_checkpoint(_FOLDER / "checkpoint")
    packages = {"serving package, int8": full_size_package(checkpoint, _FOLDER / "int8", Precision.INT8)}
    medians_ms = measure(checkpoint, packages, rounds)
    base_ms = medians_ms["transformers, sdpa"]
    rows = [
        [name, *(f"{base_ms[s] / by[s]:.2f}" for s in DURATIONS_S), *(f"{by[s]:.0f}" for s in DURATIONS_S)]
        for name, by in medians_ms.items()
    ]
    lengths = [f"{duration_s:.0f} s" for duration_s in DURATIONS_S]
    header = ["", *(f"times, {length}" for length in lengths), *(f"ms, {length}" for length in lengths)]
    show("wav2vec2 large, warm, processor time at 1 thread, by the utterance's length", header, rows)
    rows = []
    for name, package in packages.items():
        start = first_scores(package, 1)
        size_mb = sum(file.stat().st_size for file in package.iterdir()) / 1e6
        rows.append([name, f"{size_mb:.0f}", f"{start.peak_mb:.0f}", f"{start.total_ms:.0f}"])
    show("wav2vec2 large, once", ["", "MB on disk", "peak MB", "process start to first scores, ms"], rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
