"""What `audio-emotion train` gains on clips that the network has not learned from.

`python -m benchmarks.training FOLDER [OPTIONS]` trains casia-small on 960 clips of CASIA, with further options of the
command, and classifies 240 others in five conditions. A network that is in FOLDER already is not trained again.
"""

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.audio.waveform import Waveform
from core.checkpoints.checkpoint import read_checkpoint
from core.evaluation.calibration import Calibration
from core.evaluation.figures import Indices, Values, count, unweighted_accuracy
from core.settings import MediaLimits, SegmentationSettings
from core.training.augmentation import MU_LAW, add_noise, coloured_noise, through_telephone
from core.training.cache import ArrayCache
from core.training.manifest import read_clips
from core.training.speech import LabelledSpeech, SpeechReader
from core.training.states import start_logits
from core.training.training import clip_scores
from tests.support.corpora import corpus_files
from tests.support.tables import machine, show

_GOAL_MINUTES = 20
_SEED = 7


@dataclass(frozen=True)
class _Condition:
    """A copy of the clips (`core.training.augmentation.Copy`), with the goal of the unweighted accuracy."""

    name: str
    goal: float
    change: Callable[[Waveform], Waveform]

    @property
    def identity(self) -> tuple[object, ...]:
        return ("benchmarks.training", self.name)

    def __call__(self, waveform: Waveform, key: str) -> Waveform:  # noqa: ARG002
        return self.change(waveform)


def _noise(exponent: float, snr_db: float) -> Callable[[Waveform], Waveform]:
    def change(waveform: Waveform) -> Waveform:
        return add_noise(waveform, coloured_noise(waveform.size, np.random.default_rng(_SEED), exponent), snr_db)

    return change


_CONDITIONS = (
    _Condition("clean", 0.71, lambda waveform: waveform),
    _Condition("mu-law", 0.69, lambda waveform: through_telephone(waveform, MU_LAW, is_filtered=False)),
    _Condition("white noise, 20 dB", 0.66, _noise(0.0, 20.0)),
    _Condition("pink noise, 20 dB", 0.55, _noise(1.0, 20.0)),
    _Condition("pink noise, 10 dB", 0.45, _noise(1.0, 10.0)),
)


def main() -> None:
    """Train unless it is done, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("folder", type=Path)
    given, options = parser.parse_known_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    trained, cache = given.folder / "trained", given.folder / "cache"
    [start] = corpus_files("models/casia-small")
    print(f"\n{machine()}")
    if not trained.exists():
        begun_s = time.monotonic()
        manifest = _manifest("data/training/manifest.csv", given.folder / "casia.csv")
        command = [sys.executable, "-m", "core.cli", "train", manifest, "--from", start, "--out", trained]
        subprocess.run([*command, "--cache", cache, *options], check=True)
        print(f"\nTrained in {(time.monotonic() - begun_s) / 60:.1f} minutes (goal: {_GOAL_MINUTES}).")
    unseen = _manifest("data/speech/manifest.csv", given.folder / "unseen.csv")
    clips, _ = read_clips(unseen, {})
    array_cache = ArrayCache(cache)
    speech = list(SpeechReader(array_cache, MediaLimits(), SegmentationSettings()).read(unseen, clips))
    _show([_scores(folder, speech, array_cache) for folder in (start, trained)])


def _manifest(name: str, place: Path) -> Path:
    """Write the clips of CASIA as a manifest of the command."""
    [manifest] = corpus_files(name)
    with manifest.open(encoding="utf-8") as file, place.open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written)
        writer.writerow(["path", "emotion", "speaker"])
        for row in csv.DictReader(file):
            if row["dataset"] == "casia":
                writer.writerow([manifest.parent / row["path"], row["emotion"], row["speaker"]])
    return place


def _scores(folder: Path, speech: Sequence[LabelledSpeech], cache: ArrayCache) -> list[tuple[Values, Indices]]:
    """Return the scores of the clips and the indices of their labels in each condition."""
    checkpoint = read_checkpoint(folder)
    labels = checkpoint.network.architecture.labels
    targets = np.array([labels.index(item.clip.emotion) for item in speech], np.int64)
    scores = []
    for condition in _CONDITIONS:
        logits = start_logits(checkpoint, speech, cache, copy=condition)
        scores.append((np.stack([clip_scores(*each) for each in zip(logits, speech, strict=True)]), targets))
    return scores


def _show(networks: Sequence[list[tuple[Values, Indices]]]) -> None:
    rows = []
    for condition, *measured in zip(_CONDITIONS, *networks, strict=True):
        accuracies, errors = zip(*(_figures(*each) for each in measured), strict=True)
        rows.append([condition.name, f"{condition.goal:.0%}", *accuracies, *errors])
    joined = [[np.concatenate(parts) for parts in zip(*each, strict=True)] for each in networks]
    rows.append(["all", "", *(_figures(*each)[place] for place in (0, 1) for each in joined)])
    errors_of = ["calibration error of the start (by chance)", "of the trained network (by chance)"]
    show("Unweighted accuracy", ["condition", "goal", "start", "trained", *errors_of], rows)
    print("\nThe calibration error's goal is half of the start's, or less than 0.05.")


def _figures(scores: Values, targets: Indices) -> tuple[str, str]:
    """Return the unweighted accuracy, and the expected calibration error with that of a calibrated model."""
    predicted = scores.argmax(axis=1)
    counts = count(targets, predicted, np.zeros(predicted.size, np.int64), scores.shape[1])
    calibration = Calibration.of(scores.max(axis=1), predicted == targets)
    accuracy = float(unweighted_accuracy(counts[0]))
    return f"{accuracy:.1%}", f"{calibration.expected_error:.3f} ({calibration.chance_error:.3f})"


if __name__ == "__main__":
    main()
