"""Accuracy of each precision, and its agreement with PyTorch: a small trained network on 240 utterances of CASIA.

`python -m benchmarks.decisions`; needs AUDIO_EMOTION_CORPORA.
"""

import csv
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from core.audio.waveform import Waveform
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.reference import ReferenceNetwork
from core.emotions import SYNONYMS
from core.export.exporter import write_package
from core.export.graph import Precision
from core.export.parity import compare
from core.model.classifier import EmotionClassifier
from core.model.output import Logits
from tests.support.corpora import MISSING, find_corpora
from tests.support.tables import show


def unweighted_accuracy(labels: Sequence[int], logits: Sequence[Logits]) -> float:
    """Return the mean over the emotions of the share that is classified correctly."""
    total, correct = Counter(labels), Counter[int]()
    for label, row in zip(labels, logits, strict=True):
        correct[label] += int(np.argmax(row)) == label
    return sum(correct[label] / total[label] for label in total) / len(total)


def casia(corpora: Path) -> list[tuple[int, Waveform]]:
    """Return the utterances of CASIA, each with the index of its label in casia-small."""
    order = read_checkpoint(corpora / "models" / "casia-small").labels
    folder = corpora / "data" / "speech"
    with (folder / "manifest.csv").open(encoding="utf-8") as manifest:
        rows = [row for row in csv.DictReader(manifest) if row["dataset"] == "casia"]
    return [
        (
            order.index(SYNONYMS.get(row["emotion"], row["emotion"])),
            soundfile.read(folder / row["path"], dtype="float32")[0],
        )
        for row in rows
    ]


def main() -> None:
    """Print accuracy and agreement of PyTorch and of each precision."""
    corpora = find_corpora()
    if corpora is None:
        print(f"\nbenchmarks.decisions {MISSING}")
        return
    checkpoint = read_checkpoint(corpora / "models" / "casia-small")
    labelled = casia(corpora)
    labels, clips = [label for label, _ in labelled], [clip for _, clip in labelled]
    reference = [ReferenceNetwork(checkpoint).logits(clip) for clip in clips]
    rows = [["PyTorch reference", f"{unweighted_accuracy(labels, reference):.2%}", "", ""]]
    for precision in reversed(Precision):
        with tempfile.TemporaryDirectory() as package:
            write_package(checkpoint, Path(package), precision, clips[:1], reference[:1])
            classifier = EmotionClassifier.load(Path(package))
            logits = [classifier.logits(clip) for clip in clips]
        parity = compare(reference, logits)
        accuracy = unweighted_accuracy(labels, logits)
        rows.append([precision.value, f"{accuracy:.2%}", f"{parity.agreement:.1%}", f"{parity.mean_score_change:.5f}"])
    show(
        f"Decisions: casia-small on {len(clips)} utterances",
        ["", "unweighted accuracy", "agreement", "mean score change"],
        rows,
    )


if __name__ == "__main__":
    main()
