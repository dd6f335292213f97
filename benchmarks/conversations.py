"""Whole calls: how well utterances are found and judged, and what listening costs.

`python -m benchmarks.conversations [calls|costs|silence] [--pauses FROM TO] [--music FILE...]`; all parts unless one is
named. `calls` needs the recordings beside the project. With `--pauses`, those in the calls last that many seconds; with
`--music`, `silence` (benchmarks/silence.py) tries these files too.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import silence
from benchmarks.full_size import clip as clip_of
from benchmarks.full_size import full_size_checkpoint, full_size_package
from benchmarks.speed import BUILD
from benchmarks.tables import machine, show
from core.audio.utterances import SpeechSegment, cut
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from tests.support.calls import (
    DEGRADATIONS,
    Call,
    Clip,
    Fit,
    Span,
    Turn,
    build_call,
    fit,
    is_right,
    read_clips,
    rightly_heard,
)

_SHARED = Path(__file__).parents[2] / "shared"
_CLIPS_IN_A_CALL = 12
_PAUSES_S = (0.5, 3.0)
_UTTERANCE_S = 2.0
_RUNS = 7


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.conversations")
    parser.add_argument("part", nargs="?", choices=("calls", "costs", "silence"))
    parser.add_argument("--pauses", nargs=2, type=float, default=_PAUSES_S, metavar=("FROM", "TO"))
    parser.add_argument("--music", nargs="+", type=Path, default=(), metavar="FILE")
    wanted = parser.parse_args(arguments)
    if wanted.part != "silence" and not _SHARED.is_dir():
        print(f"\n{_SHARED} is not on this machine: no calls can be built.")
    else:
        if wanted.part in (None, "calls"):
            _calls((wanted.pauses[0], wanted.pauses[1]))
        if wanted.part in (None, "costs"):
            _costs()
    if wanted.part in (None, "silence"):
        silence.main(wanted.music)


def _clips() -> list[Clip]:
    clips = read_clips(_SHARED / "data" / "speech" / "manifest.csv", "casia")
    return [clips[index] for index in np.random.default_rng(0).permutation(len(clips))]


def _calls(pauses_s: Span) -> None:
    clips = _clips()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # As it is served: PyTorch says the same, and takes ten times as long for these six thousand utterances.
        classifier = _served(_SHARED / "models" / "casia-small", folder / "casia-small", Precision.FP32)
        alone = {kind: _accuracy_alone(clips, kind, classifier, folder) for kind in DEGRADATIONS}
        for channels in (1, 2):
            for kind in DEGRADATIONS:
                cells = _row(clips, channels, kind, pauses_s, classifier, folder)
                rows.append([f"{channels}, {kind}", *cells, f"{alone[kind]:.1%}"])
    header = ["channels, sound", "speech covered", "pauses covered", "boundary error", "utterances"]
    title = f"{len(clips)} clips in calls, with pauses of {pauses_s[0]:g} to {pauses_s[1]:g} s"
    show(title, [*header, "right: as cut", "as the clips were", "clips by themselves"], rows)


def _served(checkpoint: Path, folder: Path, precision: Precision) -> EmotionClassifier:
    return EmotionClassifier.load(full_size_package(checkpoint, folder, precision), threads=1)


def _accuracy_alone(clips: list[Clip], kind: str, classifier: EmotionClassifier, folder: Path) -> float:
    """Of the clips, each degraded by itself: what is lost without any cutting."""
    degrade = DEGRADATIONS[kind]
    sounds = (degrade(clip.waveform[None], folder)[0] for clip in clips)
    return float(np.mean([is_right(clip, classifier.classify(s)) for clip, s in zip(clips, sounds, strict=True)]))


def _row(
    clips: list[Clip], channels: int, kind: str, pauses_s: Span, classifier: EmotionClassifier, folder: Path
) -> list[str]:
    fits: list[Fit] = []
    right: list[bool] = []
    uncut: list[bool] = []
    utterances = 0
    for start in range(0, len(clips), _CLIPS_IN_A_CALL):
        chosen = clips[start : start + _CLIPS_IN_A_CALL]
        call = build_call(chosen, channels=channels, seed=start, pauses_s=pauses_s)
        call = Call(DEGRADATIONS[kind](call.sound, folder), call.turns)
        found = [(part, classifier.classify(part.waveform)) for part in cut(call.blocks())]
        utterances += len(found)
        for channel in range(channels):
            spans = [(part.start_s, part.end_s) for part, _ in found if part.channel == channel]
            fits.append(fit(spans, call.spoken(channel), call.duration_s))
        right += rightly_heard(call, found)
        uncut += [is_right(turn.clip, classifier.classify(_clip_in(call, turn))) for turn in call.turns]
    total = sum(fits[1:], fits[0])
    return [
        f"{total.coverage:.1%}",
        f"{total.intrusion:.1%}",
        f"{total.boundary_error_s:.3f} s",
        str(utterances),
        f"{np.mean(right):.1%}",
        f"{np.mean(uncut):.1%}",
    ]


def _clip_in(call: Call, turn: Turn) -> Waveform:
    """A clip out of the call, from its true beginning to its true end: the same sound, without any cutting of ours."""
    start = round((turn.start_s - turn.clip.spoken[0]) * SAMPLE_RATE_HZ)
    return call.sound[turn.channel, max(0, start) : start + turn.clip.waveform.size]


def _costs() -> None:
    """Beside the published size in int8: the fastest there is, so the hardest to be small beside."""
    clips = _clips()[:48]
    calls = {f"{channels} channels": build_call(clips, channels=channels, seed=1) for channels in (1, 2)}
    listening_s: dict[str, list[float]] = defaultdict(list)
    judging_s: list[float] = []
    classifier = _served(full_size_checkpoint(BUILD / "checkpoint"), BUILD / "int8", Precision.INT8)
    utterance = clip_of(_UTTERANCE_S)
    for _ in range(_RUNS):  # in turn, so that what else the machine does weighs on both
        for name, call in calls.items():
            listening_s[name].append(_processor_s(partial(_found, call)))
        judging_s.append(_processor_s(partial(classifier.logits, utterance)))
    rows = []
    for name, call in calls.items():
        spoken_s = sum(part.duration_s for part in _found(call))
        inference_s = spoken_s / _UTTERANCE_S * min(judging_s)
        taken_s = min(listening_s[name])
        minutes = call.duration_s * len(call.sound) / 60
        rows.append([name, f"{taken_s / minutes * 1000:.0f} ms", f"{taken_s / inference_s:.1%}"])
    header = ["finding utterances, one thread", "a minute of a channel", "of the inference time"]
    show(f"What listening costs: processor time, voice activity and cutting together; {machine()}", header, rows)


def _found(call: Call) -> list[SpeechSegment]:
    return list(cut(call.blocks()))


def _processor_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main(sys.argv[1:])
