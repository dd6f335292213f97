"""What each precision does to decisions: a small trained network on 240 utterances of CASIA, where they are at hand.

`python -m benchmarks.decisions [SHARED]`; SHARED holds `models/casia-small` and `data/speech`.
"""

import csv
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.tables import show
from core.audio.waveform import Waveform
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.reference import ReferenceNetwork
from core.emotions import SYNONYMS
from core.export.exporter import write_package
from core.export.graph import Precision
from core.export.parity import compare
from core.model.classifier import EmotionClassifier, Logits


def unweighted_accuracy(labels: Sequence[int], logits: Sequence[Logits]) -> float:
    """The mean over the emotions of the share that was recognised."""
    meant, right = Counter(labels), Counter[int]()
    for label, row in zip(labels, logits, strict=True):
        right[label] += int(np.argmax(row)) == label
    return sum(right[label] / meant[label] for label in meant) / len(meant)


def casia(shared: Path) -> list[tuple[int, Waveform]]:
    """The utterances of CASIA, each with the place of its emotion among the labels of casia-small."""
    order = read_checkpoint(shared / "models" / "casia-small").labels
    folder = shared / "data" / "speech"
    with (folder / "manifest.csv").open(encoding="utf-8") as manifest:
        rows = [row for row in csv.DictReader(manifest) if row["dataset"] == "casia"]
    return [
        (
            order.index(SYNONYMS.get(row["emotion"], row["emotion"])),
            soundfile.read(folder / row["path"], dtype="float32")[0],
        )
        for row in rows
    ]


def main(shared: str = "../shared") -> None:
    """Print accuracy and agreement of the reference and of each precision."""
    folder = Path(shared)
    if not (folder / "data" / "speech").is_dir():
        print(f"\n{folder}/data/speech is not here: what precision does to decisions was not measured.")
        return
    checkpoint = read_checkpoint(folder / "models" / "casia-small")
    labelled = casia(folder)
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
        ["", "unweighted accuracy", "agreement", "mean change of a score"],
        rows,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
