"""Speed of each encoder at its published sizes: the published program and the serving packages, on the same clip.

The published programs are transformers, and FunASR for emotion2vec, which can export ONNX too. All compute the clip
alone. Contenders take turns within a round, so that other load slows all of them. Figures are medians over the rounds
of the processor time of one thread. A serving package also starts in a process of its own, as `benchmarks.cold_start`
describes.
`python -m benchmarks.families [NAME ...]`.
"""

import copy
import importlib
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.cold_start import Start, first_scores
from benchmarks.full_size import clip
from core.audio.waveform import Waveform
from core.checkpoints.architecture import Encoder
from core.checkpoints.checkpoint import Checkpoint
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.export.exporter import write_package
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from core.onnx_session import onnx_session
from tests.support.emotion2vec import SIZES, FunAsrNetwork, document, random_emotion2vec
from tests.support.full_size import PUBLISHED_CONFIGS, full_size_network
from tests.support.tables import machine, show

DURATIONS_S = (1.0, 2.0, 6.0)
_PRECISIONS = (Precision.FP32, Precision.INT8)
_STARTS = 5
"""The fastest start counts, because other load slows most of them."""

Inference = Callable[[Waveform], object]

NETWORKS: Mapping[str, Callable[[], SpeechNetwork]] = {
    **{name: partial(full_size_network, name) for name in PUBLISHED_CONFIGS},
    # The seed network has the sizes of the base network.
    **{name: partial(random_emotion2vec, SIZES[name]) for name in ("emotion2vec-plus-base", "emotion2vec-plus-large")},
}


@dataclass(frozen=True)
class Contender:
    """A program that computes the logits of a clip.

    Attributes
    ----------
    start
        A process from its start to its first scores; None if it is not measured.
    size_mb
        The size of the package on disk.
    """

    name: str
    run: Inference
    start: Start | None = None
    size_mb: float | None = None

    @property
    def figures(self) -> tuple[str, str, str]:
        """Milliseconds of the start, its peak memory in MB, and the package's size in MB."""
        if self.start is None or self.size_mb is None:
            return ("", "", "")
        return (f"{self.start.total_ms:.0f}", f"{self.start.peak_mb:.0f}", f"{self.size_mb:.0f}")


def _contenders(name: str, network: SpeechNetwork) -> Iterator[Contender]:
    """Yield each contender, the published program first."""
    if network.architecture.encoder is Encoder.EMOTION2VEC:
        published = FunAsrNetwork(network, document(SIZES[name]))
        yield Contender("FunASR", published.logits)
        yield Contender("FunASR's export", _exported_by_funasr(published, quantize=False))
        yield Contender("FunASR's export, quantised", _exported_by_funasr(published, quantize=True))
    else:
        yield Contender("transformers", _transformers(network))
    for precision in _PRECISIONS:
        yield _serving(network, precision)


def _transformers(network: SpeechNetwork) -> Inference:
    """Return the inference by transformers, with its fastest attention."""
    geometry = geometry_of(network)

    def run(waveform: Waveform) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(geometry.network_input(waveform))[None])

    return run


def _exported_by_funasr(published: FunAsrNetwork, *, quantize: bool) -> Inference:
    """Return the inference by FunASR's own export to ONNX, which ends before the mean over time.

    FunASR calls PyTorch's exporter without the option that newer releases need to trace.
    """
    utilities = importlib.import_module("funasr.utils.export_utils")
    model = copy.deepcopy(published.model)  # as FunASR does, because an export changes the model
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with patch("torch.onnx.export", partial(torch.onnx.export, dynamo=False)):
            utilities.export(model, quantize=quantize, output_dir=folder, init_param=f"{folder}/model.pt")
        session = onnx_session((Path(folder) / "emotion2vec").read_bytes(), threads=1)
    weight, bias = (tensor.detach().numpy() for tensor in (model.proj.weight, model.proj.bias))

    def run(waveform: Waveform) -> object:
        (states,) = session.run(None, {"input": waveform[None]})
        return states[0].mean(axis=0) @ weight.T + bias

    return run


def _serving(network: SpeechNetwork, precision: Precision) -> Contender:
    """Return a serving package."""
    checkpoint = Checkpoint(network=network, model_id="random", revision="", weights_sha256="", demo=False, ignored={})
    # Random weights decide nothing, so parity is not compared.
    unknown = np.zeros(len(network.architecture.labels), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        write_package(checkpoint, package, precision, [clip(1.0)], [unknown])
        size_mb = sum(file.stat().st_size for file in package.iterdir()) / 1e6
        starts = [first_scores(package, 1) for _ in range(_STARTS)]
        # The session keeps the mapped files.
        run = EmotionClassifier.load(package, threads=1).logits
    return Contender(precision.value, run, min(starts, key=lambda start: start.total_ms), size_mb)


def measure(contenders: Sequence[Contender], rounds: int) -> dict[tuple[str, float], float]:
    """Return the median milliseconds of each contender, by its name and the clip's duration."""
    runs = {
        (contender.name, duration_s): partial(contender.run, clip(duration_s))
        for contender in contenders
        for duration_s in DURATIONS_S
    }
    times_ms: dict[tuple[str, float], list[float]] = {key: [] for key in runs}
    for round_number in range(rounds + 1):
        for key, run in runs.items():
            started = time.process_time()
            run()
            if round_number:  # the first one warms up
                times_ms[key].append((time.process_time() - started) * 1000)
    return {key: statistics.median(values) for key, values in times_ms.items()}


def main(names: Sequence[str] = (), rounds: int = 5) -> None:
    """Print how many times faster than the published program each contender is, then milliseconds and megabytes."""
    print(f"{machine()}\nTimes faster than the published program, which computes the same clip.")
    torch.set_num_threads(1)
    rows = []
    for name in names or NETWORKS:
        contenders = list(_contenders(name, NETWORKS[name]()))
        medians_ms = measure(contenders, rounds)
        for contender in contenders:
            values = [medians_ms[contender.name, duration_s] for duration_s in DURATIONS_S]
            base = [medians_ms[contenders[0].name, duration_s] for duration_s in DURATIONS_S]
            ratios = (f"{slow / fast:.2f}" for slow, fast in zip(base, values, strict=True))
            times = (f"{value:.0f}" for value in values)
            rows.append([f"{name}, {contender.name}", *ratios, *times, *contender.figures])
    lengths = [f"{duration_s:.0f} s" for duration_s in DURATIONS_S]
    header = ["", *(f"times, {length}" for length in lengths), *(f"ms, {length}" for length in lengths)]
    show(
        "Encoders at their published sizes, one thread, by the clip's duration",
        [*header, "start ms", "peak MB", "MB on disk"],
        rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
