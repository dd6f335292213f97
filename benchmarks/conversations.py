"""Whole calls: how well utterances are found and judged, what listening costs, and what music does."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.full_size import clip as clip_of
from benchmarks.full_size import full_size_checkpoint, full_size_package
from benchmarks.speed import BUILD
from benchmarks.tables import show
from core.audio.utterances import Utterance, cut
from core.emotions import SYNONYMS
from core.model.classifier import EmotionClassifier
from core.model.graph import Precision
from core.waveform import SAMPLE_RATE_HZ, Waveform
from tests.calls import DEGRADATIONS, Call, Clip, Fit, build_call, fit, overlap_s, read_clips

_SHARED = Path(__file__).parents[2] / "shared"
_CLIPS_IN_A_CALL = 12
_UTTERANCE_S = 2.0
_RUNS = 7


def main() -> None:
    """Print the tables."""
    if not _SHARED.is_dir():
        print(f"\n{_SHARED} is not on this machine: no calls can be built.")
        return
    clips = read_clips(_SHARED / "data" / "speech" / "manifest.csv", "casia")
    clips = [clips[index] for index in np.random.default_rng(0).permutation(len(clips))]
    with tempfile.TemporaryDirectory() as folder:
        # As it is served: PyTorch says the same, and takes ten times as long for these two thousand utterances.
        classifier = _served(_SHARED / "models" / "casia-small", Path(folder) / "casia-small", Precision.FP32)
        alone = np.mean([_right(clip, dict(classifier.classify(clip.waveform))) for clip in clips])
        rows = [
            [f"{channels}, {kind}", *_row(clips, channels, kind, classifier, Path(folder))]
            for channels in (1, 2)
            for kind in DEGRADATIONS
        ]
    header = ["channels, sound", "speech covered", "pauses covered", "boundary error", "utterances", "accuracy"]
    show(f"{len(clips)} clips in calls; accuracy of the clips alone: {alone:.1%}", header, rows)
    _costs(clips)
    _music()


def _served(checkpoint: Path, folder: Path, precision: Precision) -> EmotionClassifier:
    return EmotionClassifier.load(full_size_package(checkpoint, folder, precision), threads=1)


def _row(clips: list[Clip], channels: int, kind: str, classifier: EmotionClassifier, folder: Path) -> list[str]:
    fits: list[Fit] = []
    right: list[bool] = []
    utterances = 0
    for start in range(0, len(clips), _CLIPS_IN_A_CALL):
        call = build_call(clips[start : start + _CLIPS_IN_A_CALL], channels=channels, seed=start)
        call = Call(DEGRADATIONS[kind](call.sound, folder), call.turns)
        found = [(part, classifier.classify(part.waveform)) for part in cut(call.blocks())]
        utterances += len(found)
        for channel in range(channels):
            spans = [(part.start_s, part.end_s) for part, _ in found if part.channel == channel]
            fits.append(fit(spans, call.spoken(channel), call.duration_s))
        for turn in call.turns:
            scores: dict[str, float] = defaultdict(float)
            for part, judged in found:
                common_s = overlap_s((part.start_s, part.end_s), (turn.start_s, turn.end_s))
                for label, score in judged.items() if part.channel == turn.channel else ():
                    scores[label] += score * common_s
            right.append(_right(turn.clip, scores))
    total = sum(fits[1:], fits[0])
    return [
        f"{total.coverage:.1%}",
        f"{total.intrusion:.1%}",
        f"{total.boundary_error_s:.3f} s",
        str(utterances),
        f"{np.mean(right):.1%}",
    ]


def _right(clip: Clip, scores: dict[str, float]) -> bool:
    return max(scores, key=lambda label: scores[label]) == SYNONYMS.get(clip.emotion, clip.emotion)


def _costs(clips: list[Clip]) -> None:
    """Beside the published size in int8: the fastest there is, so the hardest to be small beside."""
    calls = {f"{channels} channels": build_call(clips[:48], channels=channels, seed=1) for channels in (1, 2)}
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
    show("What listening costs: processor time, voice activity and cutting together", header, rows)


def _found(call: Call) -> list[Utterance]:
    return list(cut(call.blocks()))


def _processor_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _music() -> None:
    rows = [
        [name, f"{sum(u.duration_s for u in cut(_blocks(tune))) / (tune.size / SAMPLE_RATE_HZ):.0%}"]
        for name, tune in _tunes()
    ]
    show("Music on hold: how much of it is taken for speech", ["", "taken for speech"], rows)


def _blocks(tune: Waveform) -> list[Waveform]:
    return [tune[None, start : start + SAMPLE_RATE_HZ] for start in range(0, tune.size, SAMPLE_RATE_HZ)]


def _tunes() -> list[tuple[str, Waveform]]:
    """A minute each of what telephone exchanges play: plucked notes, an organ's chords, both with a drum."""
    random = np.random.default_rng(6)
    scale = 220 * 2 ** (np.array([0, 2, 4, 7, 9, 12, 14, 16]) / 12)
    t = np.arange(SAMPLE_RATE_HZ // 2) / SAMPLE_RATE_HZ
    plucked, organ, drum = [], [], []
    for _ in range(120):
        note = float(random.choice(scale))
        partials = [np.sin(2 * np.pi * note * k * t) / k * np.exp(-t * 4 * k) for k in range(1, 7)]
        plucked.append(np.sum(partials, axis=0))
        chord = [note, note * 1.26, note * 1.5]
        pipes = [np.sin(2 * np.pi * pitch * k * t) / k for pitch in chord for k in (1, 2, 3)]
        organ.append(np.sum(pipes, axis=0) * np.hanning(t.size) ** 0.2)
        drum.append(random.standard_normal(t.size) * np.exp(-t * 30) + 2 * np.sin(2 * np.pi * 60 * t) * np.exp(-t * 15))
    parts = {"plucked notes": plucked, "organ chords": organ}
    tunes = [(name, np.concatenate(notes)) for name, notes in parts.items()]
    tunes += [(f"{name} and a drum", tune + 0.5 * np.concatenate(drum)) for name, tune in tunes[:2]]
    return [(name, (0.3 * tune / np.abs(tune).max()).astype(np.float32)) for name, tune in tunes]
