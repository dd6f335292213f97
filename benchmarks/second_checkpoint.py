"""The second published layout at full size: how fast, how large, how much memory, and whether it takes recordings.

The weights are random, so that no emotion it names means anything. Speed: all contenders take turns within one round,
at one thread; medians over the rounds, of processor time, which counts only what this process computed, so that a busy
machine distorts less. Unlike the first layout's, the reference too hears the clip alone, and its time follows the
utterance's length.
`python -m benchmarks.second_checkpoint [--rounds N] [--speech FOLDER]`: twelve of the folder's recordings are what the
export is compared on, and all of them are classified, as many as there is time for.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.cold_start import first_scores
from benchmarks.full_size import clip, full_size_wav2vec2_checkpoint
from benchmarks.speed import BUILD
from benchmarks.tables import machine, show
from core.audio.decode import decode, probe
from core.model.checkpoint import read_checkpoint
from core.model.classifier import EmotionClassifier
from core.model.export import export
from core.model.graph import Precision
from core.model.package import Manifest, read_manifest
from core.model.reference import ReferenceNetwork
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits
from core.waveform import Waveform

DURATIONS_S = (1.0, 2.0, 4.0)
COMPARED = 12
"""Clips that the export is compared on."""

_FOLDER = BUILD / "wav2vec2"
_EXPORTING = """
import sys
from pathlib import Path
from benchmarks.second_checkpoint import export_int8
export_int8(*map(Path, sys.argv[1:]))
# Not getrusage: what it calls the peak includes that of the process which started this one.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def recordings(speech: Path) -> list[Path]:
    """All recordings of a folder, in order."""
    return sorted(path for path in speech.rglob("*") if path.suffix in (".wav", ".flac"))


def export_int8(checkpoint: Path, folder: Path, speech: Path | None = None) -> None:
    """Export, on recordings where there are some, else on noise; refused unless it agrees with the reference."""
    clips = [clip(1.0 + number % 4, seed=number) for number in range(COMPARED)]
    if speech:
        found = recordings(speech)
        clips = [_waveform(found[number * len(found) // COMPARED]) for number in range(COMPARED)]
    export(checkpoint, folder, clips, precision=Precision.INT8)


def _waveform(path: Path) -> Waveform:
    limits = MediaLimits()
    blocks = list(decode(path, probe(path, limits), limits))
    return np.asarray(np.concatenate(blocks, axis=1).mean(axis=0), np.float32)


def measured_export(checkpoint: Path, folder: Path, speech: Path | None) -> tuple[Manifest, float]:
    """What was exported, by a process of its own, and that process's peak memory in MB."""
    arguments = [str(path) for path in (checkpoint, folder, speech) if path]
    done = subprocess.run([sys.executable, "-c", _EXPORTING, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return read_manifest(folder), int(done.stdout.split()[-1]) / 1024


def measure(checkpoint: Path, package: Path, rounds: int) -> dict[str, dict[float, float]]:
    """Median milliseconds of processor time at one thread, by contender and by the utterance's seconds."""
    torch.set_num_threads(1)
    contenders: dict[str, Callable[..., object]] = {
        "transformers, sdpa": ReferenceNetwork(read_checkpoint(checkpoint)).logits,
        "serving package, int8": EmotionClassifier.load(package, threads=1).logits,
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


def show_speed(medians_ms: dict[str, dict[float, float]]) -> None:
    """The ratios to transformers first, then milliseconds."""
    base_ms = medians_ms["transformers, sdpa"]
    rows = [
        [name, *(f"{base_ms[s] / by[s]:.2f}" for s in DURATIONS_S), *(f"{by[s]:.0f}" for s in DURATIONS_S)]
        for name, by in medians_ms.items()
    ]
    lengths = [f"{duration_s:.0f} s" for duration_s in DURATIONS_S]
    header = ["", *(f"times, {length}" for length in lengths), *(f"ms, {length}" for length in lengths)]
    show("wav2vec2 large, warm, processor time at 1 thread, by the utterance's length", header, rows)


def classify_all(package: Path, speech: Path, longest_s: float) -> None:
    """Classify recordings as the function does, until all are done or the time is over, and count what came out."""
    pipeline = Pipeline(EmotionClassifier.load(package), MediaLimits())
    labels = set(pipeline.model.labels)
    found = recordings(speech)
    statuses: Counter[str] = Counter()
    amiss = 0
    started = time.monotonic()
    for path in found:
        result = pipeline.run(path, Source(key=str(path.relative_to(speech))))
        statuses[result.status] += 1
        if result.scores is not None:
            total = sum(result.scores.values())
            amiss += set(result.scores) != labels or not math.isclose(total, 1.0, abs_tol=1e-4)
        if time.monotonic() - started > longest_s:
            break
    told = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    print(
        f"\n{statuses.total()} of {len(found)} recordings in {time.monotonic() - started:.0f} s: {told}; "
        f"{amiss} without {len(labels)} scores that sum to 1."
    )


def main() -> None:
    """Print the table of speed, then sizes and memory, then what became of the recordings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.second_checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--minutes", type=float, default=25.0, help="for the recordings")
    options = parser.parse_args()
    speech: Path | None = options.speech
    print(machine())
    checkpoint = full_size_wav2vec2_checkpoint(_FOLDER / "checkpoint")
    package = _FOLDER / "int8"
    manifest, export_peak_mb = measured_export(checkpoint, package, speech)
    show_speed(measure(checkpoint, package, options.rounds))
    start = first_scores(package, 1)
    rows = [
        ["checkpoint on disk", f"{_size_mb(checkpoint):.0f}"],
        ["serving package on disk, int8", f"{_size_mb(package):.0f}"],
        ["memory at the peak of a process that serves it", f"{start.peak_mb:.0f}"],
        ["memory at the peak of the export to int8", f"{export_peak_mb:.0f}"],
    ]
    show("wav2vec2 large, once", ["", "MB"], rows)
    parity = manifest.parity
    print(
        f"\nFrom the start of a process to its first scores: {start.total_ms:.0f} ms. Beside the reference, on "
        f"{parity.clips} clips: {parity.agreement:.0%} name the same emotion, and a score changes by "
        f"{parity.mean_score_change:.4f} on average and by {parity.largest_score_change:.4f} at the most."
    )
    if speech:
        classify_all(package, speech, options.minutes * 60)


def _size_mb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


if __name__ == "__main__":
    main()
