"""Speed of each encoder at its published sizes: transformers and the serving packages, on the same clip.

Both compute the clip alone. Contenders take turns within a round, so that other load slows all of them. Figures are
medians over the rounds of the processor time of one thread.
`python -m benchmarks.families [NAME ...]`.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.full_size import clip
from core.checkpoints.checkpoint import Checkpoint
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.export.exporter import write_package
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from tests.support.full_size import PUBLISHED_CONFIGS, full_size_network
from tests.support.tables import machine, show

DURATIONS_S = (1.0, 2.0, 6.0)
_PRECISIONS = (Precision.FP32, Precision.INT8)


def _transformers(network: SpeechNetwork) -> Callable[[float], Callable[[], object]]:
    """Return a function from a clip's duration to its inference by transformers, with its fastest attention."""
    geometry = geometry_of(network)

    def of(duration_s: float) -> Callable[[], object]:
        samples = torch.from_numpy(geometry.network_input(clip(duration_s)))[None]

        def run() -> object:
            with torch.inference_mode():
                return network(samples)

        return run

    return of


def _serving(network: SpeechNetwork, precision: Precision) -> Callable[[float], Callable[[], object]]:
    """Return a function from a clip's duration to its inference by a serving package."""
    checkpoint = Checkpoint(network=network, model_id="random", revision="", weights_sha256="", demo=False, ignored={})
    # Random weights decide nothing, so parity is not compared.
    unknown = np.zeros(len(network.architecture.labels), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write_package(checkpoint, Path(folder), precision, [clip(1.0)], [unknown])
        # The session keeps the mapped files.
        classifier = EmotionClassifier.load(Path(folder), threads=1)

    def of(duration_s: float) -> Callable[[], object]:
        waveform = clip(duration_s)
        return lambda: classifier.logits(waveform)

    return of


def measure(network: SpeechNetwork, rounds: int) -> dict[tuple[str, float], float]:
    """Return the median milliseconds of each contender, by its name and the clip's duration."""
    contenders = {"transformers": _transformers(network)}
    contenders |= {precision.value: _serving(network, precision) for precision in _PRECISIONS}
    runs = {(name, duration_s): of(duration_s) for name, of in contenders.items() for duration_s in DURATIONS_S}
    times_ms: dict[tuple[str, float], list[float]] = {key: [] for key in runs}
    for round_number in range(rounds + 1):
        for key, run in runs.items():
            started = time.process_time()
            run()
            if round_number:  # the first one warms up
                times_ms[key].append((time.process_time() - started) * 1000)
    return {key: statistics.median(values) for key, values in times_ms.items()}


def main(names: Sequence[str] = (), rounds: int = 5) -> None:
    """Print how many times faster than transformers each package is, then milliseconds."""
    print(f"{machine()}\nTimes faster than transformers, which computes the same clip.")
    torch.set_num_threads(1)
    rows = []
    for name in names or PUBLISHED_CONFIGS:
        medians_ms = measure(full_size_network(name), rounds)
        for contender in ("transformers", *(precision.value for precision in _PRECISIONS)):
            values = [medians_ms[contender, duration_s] for duration_s in DURATIONS_S]
            base = [medians_ms["transformers", duration_s] for duration_s in DURATIONS_S]
            ratios = (f"{slow / fast:.2f}" for slow, fast in zip(base, values, strict=True))
            rows.append([f"{name}, {contender}", *ratios, *(f"{value:.0f}" for value in values)])
    lengths = [f"{duration_s:.0f} s" for duration_s in DURATIONS_S]
    header = ["", *(f"times, {length}" for length in lengths), *(f"ms, {length}" for length in lengths)]
    show("Encoders at their published sizes, one thread, by the clip's duration", header, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
