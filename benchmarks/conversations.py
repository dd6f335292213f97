"""Segmentation of calls: coverage, accuracy, and processor time.

`python -m benchmarks.conversations [calls|costs|silence] [--pauses FROM TO] [--music FILE...]` runs all parts unless
one is named. `calls` and `costs` need AUDIO_EMOTION_CORPORA. `--pauses` sets the length of the pauses in the calls, in
seconds. `silence` is benchmarks/silence.py.
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

from benchmarks import BUILD, silence
from benchmarks.full_size import clip as clip_of
from benchmarks.full_size import full_size_checkpoint, full_size_package
from core.audio.utterances import SpeechSegment, cut
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from core.settings import SegmentationSettings
from tests.support.calls import (
    DEGRADATIONS,
    Call,
    Clip,
    Fit,
    Span,
    Turn,
    build_call,
    correct_turns,
    fit,
    is_right,
    read_clips,
)
from tests.support.corpora import MISSING, find_corpora
from tests.support.tables import machine, show

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
    options = parser.parse_args(arguments)
    if options.part != "silence":
        corpora = find_corpora()
        if corpora is None:
            print(f"\nbenchmarks.conversations {MISSING}")
        else:
            if options.part in (None, "calls"):
                _calls(corpora, (options.pauses[0], options.pauses[1]))
            if options.part in (None, "costs"):
                _costs(corpora)
    if options.part in (None, "silence"):
        silence.main(options.music)


def _clips(corpora: Path) -> list[Clip]:
    clips = read_clips(corpora / "data" / "speech" / "manifest.csv", "casia")
    return [clips[index] for index in np.random.default_rng(0).permutation(len(clips))]


def _calls(corpora: Path, pauses_s: Span) -> None:
    clips = _clips(corpora)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The serving package: PyTorch gives the same scores in ten times the time.
        classifier = _served(corpora / "models" / "casia-small", folder / "casia-small", Precision.FP32)
        alone = {kind: _accuracy_alone(clips, kind, classifier, folder) for kind in DEGRADATIONS}
        for channels in (1, 2):
            for kind in DEGRADATIONS:
                cells = _row(clips, channels, kind, pauses_s, classifier, folder)
                rows.append([f"{channels}, {kind}", *cells, f"{alone[kind]:.1%}"])
    header = ["channels, sound", "speech covered", "pauses covered", "boundary error", "utterances"]
    title = f"{len(clips)} clips in calls, with pauses of {pauses_s[0]:g} to {pauses_s[1]:g} s"
    show(title, [*header, "correct: as cut", "clips cut exactly", "clips alone"], rows)


def _served(checkpoint: Path, folder: Path, precision: Precision) -> EmotionClassifier:
    return EmotionClassifier.load(full_size_package(checkpoint, folder, precision), threads=1)


def _accuracy_alone(clips: list[Clip], kind: str, classifier: EmotionClassifier, folder: Path) -> float:
    """Return the accuracy on clips that are degraded one by one, without a call."""
    degrade = DEGRADATIONS[kind]
    sounds = (degrade(clip.waveform[None], folder)[0] for clip in clips)
    return float(np.mean([is_right(clip, classifier.classify(s)) for clip, s in zip(clips, sounds, strict=True)]))


def _row(
    clips: list[Clip], channels: int, kind: str, pauses_s: Span, classifier: EmotionClassifier, folder: Path
) -> list[str]:
    fits: list[Fit] = []
    correct: list[bool] = []
    uncut: list[bool] = []
    utterances = 0
    for start in range(0, len(clips), _CLIPS_IN_A_CALL):
        chosen = clips[start : start + _CLIPS_IN_A_CALL]
        call = build_call(chosen, channels=channels, seed=start, pauses_s=pauses_s)
        call = Call(DEGRADATIONS[kind](call.sound, folder), call.turns)
        found = [(part, classifier.classify(part.waveform)) for part in _found(call)]
        utterances += len(found)
        for channel in range(channels):
            spans = [(part.start_s, part.end_s) for part, _ in found if part.channel == channel]
            fits.append(fit(spans, call.spoken(channel), call.duration_s))
        correct += correct_turns(call, found)
        uncut += [is_right(turn.clip, classifier.classify(_clip_in(call, turn))) for turn in call.turns]
    total = sum(fits[1:], fits[0])
    return [
        f"{total.coverage:.1%}",
        f"{total.intrusion:.1%}",
        f"{total.boundary_error_s:.3f} s",
        str(utterances),
        f"{np.mean(correct):.1%}",
        f"{np.mean(uncut):.1%}",
    ]


def _clip_in(call: Call, turn: Turn) -> Waveform:
    """Return a clip from its true start to its true end in the call."""
    start = round((turn.start_s - turn.clip.spoken[0]) * SAMPLE_RATE_HZ)
    return call.sound[turn.channel, max(0, start) : start + turn.clip.waveform.size]


def _costs(corpora: Path) -> None:
    """Compare segmentation with inference in int8, the fastest precision."""
    clips = _clips(corpora)[:48]
    calls = {f"{channels} channels": build_call(clips, channels=channels, seed=1) for channels in (1, 2)}
    segmenting_s: dict[str, list[float]] = defaultdict(list)
    inferring_s: list[float] = []
    classifier = _served(full_size_checkpoint(BUILD / "checkpoint"), BUILD / "int8", Precision.INT8)
    utterance = clip_of(_UTTERANCE_S)
    for _ in range(_RUNS):  # in turn, so that other load slows both
        for name, call in calls.items():
            segmenting_s[name].append(_processor_s(partial(_found, call)))
        inferring_s.append(_processor_s(partial(classifier.logits, utterance)))
    rows = []
    for name, call in calls.items():
        spoken_s = sum(part.duration_s for part in _found(call))
        inference_s = spoken_s / _UTTERANCE_S * min(inferring_s)
        taken_s = min(segmenting_s[name])
        minutes = call.duration_s * len(call.sound) / 60
        rows.append([name, f"{taken_s / minutes * 1000:.0f} ms", f"{taken_s / inference_s:.1%}"])
    header = ["segmentation, one thread", "a minute of a channel", "of the inference time"]
    show(f"Processor time of segmentation, {machine()}", header, rows)


def _found(call: Call) -> list[SpeechSegment]:
    return list(cut(call.blocks(), SegmentationSettings(), VoiceActivityDetector.load()))


def _processor_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main(sys.argv[1:])
