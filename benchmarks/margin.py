"""How far the margin between the two best mean scores can be trusted.

`python -m benchmarks.margin`. Recordings of one speaker with a known main emotion are drawn from CASIA. A margin says
little if a phone line, with which people hear the same emotion, swaps the best and another one.
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.reference import ReferenceNetwork
from core.emotions import standard_name
from core.export.exporter import write_package
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier, Scores
from core.results import mean_values
from tests.support.calls import DEGRADATIONS, Clip, read_clips
from tests.support.corpora import corpus_files
from tests.support.tables import show

_LIMITS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
_UTTERANCES = (1, 4, 12, 40)
_MAIN_SHARES = (0.5, 0.65, 0.8)
"""Probability that an utterance of a recording has its main emotion; the others are drawn from the remaining clips."""
_DRAWS = 20


class Drawn(NamedTuple):
    """One recording: its margin, the rank of its main emotion by mean score, and whether a degradation reverses it."""

    utterances: int
    margin: float
    rank: int
    reversed: tuple[bool, ...]


def main() -> None:
    """Print the table for single utterances, and for recordings of several."""
    [manifest] = corpus_files("data/speech/manifest.csv")
    [folder] = corpus_files("models/casia-small")
    clips = read_clips(manifest, "casia")
    scores = _scores(folder, clips)
    drawn = list(_recordings(clips, scores))
    for name, found in (
        ("One utterance", [each for each in drawn if each.utterances == 1]),
        ("4 to 40 utterances", [each for each in drawn if each.utterances > 1]),
    ):
        _show(name, found)


def _scores(folder: Path, clips: Sequence[Clip]) -> dict[str, list[Scores]]:
    """Return the scores of each clip under each degradation."""
    checkpoint = read_checkpoint(folder)
    sound = clips[0].waveform
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_package(checkpoint, place, Precision.FP32, [sound], [ReferenceNetwork(checkpoint).logits(sound)])
        classifier = EmotionClassifier.load(place)
        return {
            kind: [classifier.classify(degrade(clip.waveform[None], place)[0]) for clip in clips]
            for kind, degrade in DEGRADATIONS.items()
        }


def _recordings(clips: Sequence[Clip], scores: dict[str, list[Scores]]) -> Iterator[Drawn]:
    rng = np.random.default_rng(0)
    emotions = [standard_name(clip.emotion) for clip in clips]
    for speaker in sorted({clip.speaker for clip in clips}):
        own = [number for number, clip in enumerate(clips) if clip.speaker == speaker]
        for main_emotion in sorted(set(emotions)):
            main_clips = [number for number in own if emotions[number] == main_emotion]
            for count in _UTTERANCES:
                for share in (1.0,) if count == 1 else _MAIN_SHARES:
                    for _ in range(_DRAWS):
                        chosen = [int(rng.choice(main_clips if rng.random() < share else own)) for _ in range(count)]
                        yield _drawn(chosen, main_emotion, clips, scores)


def _drawn(chosen: Sequence[int], main_emotion: str, clips: Sequence[Clip], scores: dict[str, list[Scores]]) -> Drawn:
    ranked = {
        kind: sorted(
            mean_values((each[number], clips[number].waveform.size) for number in chosen).items(),
            key=lambda item: -item[1],
        )
        for kind, each in scores.items()
    }
    clean = ranked["clean"]
    return Drawn(
        len(chosen),
        clean[0][1] - clean[1][1],
        [label for label, _ in clean].index(main_emotion),
        tuple(each[0][0] != clean[0][0] for kind, each in ranked.items() if kind != "clean"),
    )


def _show(name: str, drawn: Sequence[Drawn]) -> None:
    rows = []
    for low, high in pairwise(_LIMITS):
        found = [each for each in drawn if low <= each.margin < high]
        if not found:
            continue
        reversals = np.mean([each.reversed for each in found], axis=0)
        rows.append(
            [
                f"{low:.2f} to {high:.2f}",
                f"{len(found) / len(drawn):.0%}",
                *(f"{np.mean([each.rank == rank for each in found]):.0%}" for rank in (0, 1)),
                *(f"{share:.0%}" for share in reversals),
            ]
        )
    kinds = [f"reversed by {kind}" for kind in DEGRADATIONS if kind != "clean"]
    show(name, ["margin", "recordings", "best is right", "second is right", *kinds], rows)


if __name__ == "__main__":
    main()
