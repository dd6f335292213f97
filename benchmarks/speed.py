"""Speed of a warm classifier at the published size: transformers, ONNX Runtime and the serving packages.

Contenders take turns within a round, so that other load slows all of them. Figures are medians over the rounds:
processor time at one thread, elapsed time at two, which needs a quiet machine.
`python -m benchmarks.speed [ROUNDS]`.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig

from benchmarks import BUILD
from benchmarks.full_size import clip, full_size_checkpoint, full_size_package
from core.audio.waveform import WINDOW_SAMPLES
from core.checkpoints.network import SpeechNetwork
from core.export.graph import Precision
from core.model.package import MODEL_FILE, read_manifest
from core.model.preprocessing import normalise
from core.onnx_session import onnx_session
from tests.support.networks import HUBERT_BASE_CH
from tests.support.tables import machine, show

DURATIONS_S = (1.0, 2.0, 4.0, 6.0)

_Contender = Callable[[], object]


def _transformers(checkpoint: Path, attention: str) -> _Contender:
    config = HubertConfig.from_pretrained(checkpoint, attn_implementation=attention)
    network = SpeechNetwork(HUBERT_BASE_CH, config)
    network.load_state_dict(torch.load(checkpoint / "pytorch_model.bin", weights_only=True))
    network.eval()
    window = torch.from_numpy(normalise(clip(2.0)))[None]

    def run() -> object:
        with torch.inference_mode():
            return network(window)

    return run


def _serving(package: Path, threads: int) -> Callable[[float], _Contender]:
    """Return a function from an utterance's duration to its inference, without the padding."""
    session = onnx_session(package / MODEL_FILE, threads)
    geometry = read_manifest(package).geometry

    def of(duration_s: float) -> _Contender:
        waveform = clip(duration_s)
        return lambda: session.run(None, geometry.graph_inputs(waveform))

    return of


def _padded(package: Path, threads: int) -> _Contender:
    """Return the inference of a padded window, to show what skipping the padding saves."""
    session = onnx_session(package / MODEL_FILE, threads)
    waveform = np.zeros(WINDOW_SAMPLES, np.float32)
    waveform[:32_000] = clip(2.0)
    geometry = read_manifest(package).geometry
    return lambda: session.run(None, geometry.graph_inputs(waveform))


def measure(threads: int, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each contender."""
    torch.set_num_threads(threads)
    checkpoint = full_size_checkpoint(BUILD / "checkpoint")
    fp32 = full_size_package(checkpoint, BUILD / "fp32", Precision.FP32)
    int8 = full_size_package(checkpoint, BUILD / "int8", Precision.INT8)
    contenders = {
        "transformers, eager": _transformers(checkpoint, "eager"),
        "transformers, sdpa": _transformers(checkpoint, "sdpa"),
        "ONNX Runtime fp32, whole window": _padded(fp32, threads),
    }
    for name, package in (("fp32", fp32), ("int8", int8)):
        of = _serving(package, threads)
        contenders |= {f"{name} {duration_s:.0f} s": of(duration_s) for duration_s in DURATIONS_S}
    clock = time.process_time if threads == 1 else time.perf_counter
    times_ms: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(rounds + 1):
        for name, run in contenders.items():
            started = clock()
            run()
            if round_number:  # the first one warms up
                times_ms[name].append((clock() - started) * 1000)
    return {name: statistics.median(values) for name, values in times_ms.items()}


def main(rounds: int = 5) -> None:
    """Print how many times faster than transformers each contender is, then milliseconds."""
    print(f"{machine()}\nTimes faster than transformers with its faster attention, which computes the whole window.")
    for threads in (1, 2):
        medians_ms = measure(threads, rounds)
        base_ms = min(medians_ms["transformers, eager"], medians_ms["transformers, sdpa"])
        rows = []
        for name in ("transformers, eager", "transformers, sdpa", "ONNX Runtime fp32, whole window"):
            value = medians_ms[name]
            rows.append([name, *[f"{base_ms / value:.2f}"] * len(DURATIONS_S), *[f"{value:.0f}"] * len(DURATIONS_S)])
        for name, shown in (("fp32", "serving package, fp32"), ("int8", "serving package, int8")):
            values = [medians_ms[f"{name} {duration_s:.0f} s"] for duration_s in DURATIONS_S]
            rows.append([f"**{shown}**", *(f"{base_ms / v:.2f}" for v in values), *(f"{v:.0f}" for v in values)])
        lengths = [f"{duration_s:.0f} s" for duration_s in DURATIONS_S]
        header = ["", *(f"times, {length}" for length in lengths), *(f"ms, {length}" for length in lengths)]
        show(f"Warm, {threads} thread{'s' if threads > 1 else ''}, by the utterance's duration", header, rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
