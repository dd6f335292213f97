"""Trains the demo checkpoint on synthetic speech, and evaluates it on held-out voices and sentences.

    python -m models.demo.train

Training takes 15 to 30 minutes on two cores and is seeded. The synthesised speech is cached in build/demo-training.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.checkpoints.architecture import SOXAN, Architecture, Encoder, InputMode
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.network import SpeechNetwork, build_network
from core.model.preprocessing import normalise
from models.demo.degrade import degrade
from models.demo.synthesise import HELD_OUT, LABELS, PROSODIES, TRAINED, Line, speak

HERE = Path(__file__).parent
CHECKPOINT = HERE / "checkpoint"
ARCHITECTURE = Architecture(
    encoder=Encoder.HUBERT, input_mode=InputMode.PADDED_WINDOW, head=SOXAN, labels=tuple(LABELS)
)
_CACHE = Path("build/demo-training")

_SEED = 20
_UTTERANCES_PER_EMOTION = 400
_HELD_OUT_PER_EMOTION = 60
_BATCH = 16
_PEAK_LEARNING_RATE = 1e-3
_WARM_UP_STEPS = 100
_LABEL_SMOOTHING = 0.03
_THREADS = 2


@dataclass(frozen=True)
class Phase:
    """A number of passes over the data with one window length."""

    epochs: int
    window_samples: int


PHASES = (Phase(9, 40_000), Phase(2, WINDOW_SAMPLES))
"""Most passes use windows of 2.5 s, which contain most utterances and cost less. The last use the 6 s of inference."""


@dataclass(frozen=True)
class Utterances:
    """The waveforms of synthesised lines, and the index of the emotion of each."""

    waveforms: list[Waveform]
    targets: npt.NDArray[np.int64]


def synthesised(lines: list[Line]) -> Utterances:
    """Synthesise lines, or read them from the cache."""
    inputs = json.dumps([[asdict(line) for line in lines], {name: asdict(p) for name, p in PROSODIES.items()}])
    code = (HERE / "synthesise.py").read_text(encoding="utf-8")
    cache = _CACHE / f"{hashlib.sha256((inputs + code).encode()).hexdigest()[:16]}.npz"
    if not cache.exists():
        with ThreadPoolExecutor(_THREADS) as pool:
            spoken = list(pool.map(speak, lines))
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, samples=np.concatenate(spoken), ends=np.cumsum([waveform.size for waveform in spoken]))
    with np.load(cache) as stored:
        waveforms = np.split(stored["samples"], stored["ends"][:-1])
    return Utterances(waveforms, np.array([LABELS.index(line.emotion) for line in lines]))


def train(utterances: Utterances) -> SpeechNetwork:
    """Train a network with AdamW, a linear warm-up and a cosine decay to zero."""
    torch.manual_seed(_SEED)
    network = build_network(ARCHITECTURE, _read_config())
    network.train()
    steps_per_epoch = len(utterances.waveforms) // _BATCH
    steps = steps_per_epoch * sum(phase.epochs for phase in PHASES)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_PEAK_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _learning_rate_factor(step, steps))
    started_s, losses = time.monotonic(), []
    for step, (windows, targets) in enumerate(_batches(utterances), start=1):
        # bfloat16 halves the time of a step on processors that support it; the weights stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(windows)
        loss = cross_entropy(logits.float(), targets, label_smoothing=_LABEL_SMOOTHING)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0:
            print(
                f"step {step}/{steps}  loss {np.mean(losses[-50:]):.3f}  {time.monotonic() - started_s:.0f} s",
                flush=True,
            )
    network.train(mode=False)
    return network


def _read_config() -> dict[str, Any]:
    """Read the config of the published architecture with smaller sizes: 1.4 million parameters instead of 95."""
    config: dict[str, Any] = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    return config


def _learning_rate_factor(step: int, steps: int) -> float:
    return min((step + 1) / _WARM_UP_STEPS, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _batches(utterances: Utterances) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of all phases, degraded differently in each pass; prepare one while the network trains."""
    rng = np.random.default_rng(_SEED)
    plan = []
    for phase in PHASES:
        for _ in range(phase.epochs):
            order = rng.permutation(len(utterances.waveforms))
            whole = order[: order.size // _BATCH * _BATCH].reshape(-1, _BATCH)
            plan += [(indices, phase.window_samples, int(rng.integers(2**31))) for indices in whole]
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(_batch, utterances, *plan[0])
        for following in plan[1:]:
            batch, upcoming = upcoming.result(), pool.submit(_batch, utterances, *following)
            yield batch
        yield upcoming.result()


def _batch(
    utterances: Utterances, indices: npt.NDArray[np.int64], window_samples: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    degraded = [degrade(utterances.waveforms[index], rng) for index in indices]
    windows = np.stack([normalise(waveform, window_samples) for waveform in degraded])
    return torch.from_numpy(windows), torch.from_numpy(utterances.targets[indices])


def save(network: SpeechNetwork, folder: Path) -> None:
    """Write the weights. The checkpoint's two JSON files are written by hand."""
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def confusion_counts(network: SpeechNetwork, utterances: Utterances) -> npt.NDArray[np.int64]:
    """Count the classifications: a row for each label, a column for each classified emotion."""
    counts = np.zeros((len(LABELS), len(LABELS)), np.int64)
    for waveform, target in zip(utterances.waveforms, utterances.targets, strict=True):
        with torch.inference_mode():
            logits = network(torch.from_numpy(normalise(waveform))[None])
        counts[target, int(logits.argmax())] += 1
    return counts


def report(title: str, counts: npt.NDArray[np.int64]) -> str:
    """Format a Markdown table of the accuracy and the classifications of each emotion."""
    lines = [
        f"{title}: {100 * np.trace(counts) / counts.sum():.1f} % of {counts.sum()}",
        "",
        f"| label | {' | '.join(LABELS)} | correct |",
        f"|---|{'---|' * len(LABELS)}---|",
    ]
    for label, row, correct in zip(LABELS, counts, counts.diagonal(), strict=True):
        lines.append(f"| {label} | {' | '.join(map(str, row))} | {100 * correct / row.sum():.1f} % |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Synthesise, train, save, read the checkpoint again, and evaluate it."""
    torch.set_num_threads(_THREADS)
    held_out = synthesised(HELD_OUT.lines(_HELD_OUT_PER_EMOTION, seed=_SEED + 1))
    save(train(synthesised(TRAINED.lines(_UTTERANCES_PER_EMOTION, seed=_SEED))), CHECKPOINT)
    network = read_checkpoint(CHECKPOINT).network
    print(report("Held-out voices and sentences", confusion_counts(network, held_out)))
    rng = np.random.default_rng(_SEED + 2)
    degraded = Utterances([degrade(waveform, rng) for waveform in held_out.waveforms], held_out.targets)
    print(report("The same, degraded", confusion_counts(network, degraded)))


if __name__ == "__main__":
    main()
