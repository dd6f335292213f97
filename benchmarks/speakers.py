"""Two voices on one channel: utterances right, diarization error and false splits.

`python -m benchmarks.speakers [--recordings FOLDER] [--calls N] [--seed N] [--degradation NAME...]` builds calls of
about 45 s from the recordings in AUDIO_EMOTION_CORPORA, and cuts them with the product's own segmentation. A sixth of
the turns begins before the other voice has ended. Both voices of a call are from one data set, because the rooms and
microphones of two would tell them apart. Each data set has its own rows: its actors change their voices more or less.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.audio.utterances import cut
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ
from core.settings import SegmentationSettings, SpeakerSettings
from core.speakers.clustering import Mode, split
from core.speakers.embedding import SpeakerEmbedder
from tests.support.calls import DEGRADATIONS, Call, Clip, Turn, overlap_s, read_clips
from tests.support.corpora import MISSING, find_corpora
from tests.support.tables import machine, show

_CALL_S = 45.0
_MIN_VOICE_S = 12.0
"""Speech of one person that a call needs."""
_UNRELIABLE = {"urdu"}
"""Data sets that give one name to several people."""
_PAUSES_S = (0.2, 1.5)
_OVERLAPS_S = (0.1, 0.6)
_OVERLAPPING = 0.15
_COLLAR_S = 0.25
_FRAMES_PER_S = 100
_NEUTRAL = {"neutral", "calm"}
_DEGRADATIONS = ("clean", "8 kHz mu-law", "noise at 20 dB")

_WOMEN = {
    *("liuchanhg", "zhaoquanyin", "OAF", "YAF"),  # CASIA and TESS
    *("08", "09", "13", "14", "16"),  # EmoDB
    *(f"Actor_{number:02}" for number in range(2, 25, 2)),  # RAVDESS
}

_GROUPS = ("same sex", "different sex", "one voice")

_Voice = tuple[str, str]
"""A data set and a speaker."""
_Clips = Mapping[_Voice, Sequence[Clip]]


@dataclass(frozen=True)
class _Kind:
    style: str
    group: str
    dataset: str


@dataclass(frozen=True)
class _Case:
    kind: _Kind
    call: Call


@dataclass(frozen=True)
class _Outcome:
    """How well one call was separated: shares of its utterances, and error times in seconds."""

    right: int
    utterances: int
    is_split: bool
    similarity: float | None
    errors_s: float
    speech_s: float
    collar_errors_s: float
    collar_speech_s: float


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.speakers")
    parser.add_argument("--recordings", choices=("speech", "training"), default="speech", help="folder of data")
    parser.add_argument("--calls", type=int, default=20, help="calls of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--degradation", nargs="+", choices=_DEGRADATIONS, default=_DEGRADATIONS)
    options = parser.parse_args(arguments)
    corpora = find_corpora()
    if corpora is None:
        print(f"\nbenchmarks.speakers {MISSING}")
        return
    clips = _by_voice(corpora / "data" / options.recordings / "manifest.csv")
    embedder = SpeakerEmbedder(SpeakerSettings().speakers_model, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.degradation:
            _show(name, _cases(clips, options.calls, options.seed), embedder, Path(folder))


def _by_voice(manifest: Path) -> _Clips:
    found: dict[_Voice, list[Clip]] = defaultdict(list)
    for clip in read_clips(manifest):
        dataset = clip.path.relative_to(manifest.parent).parts[0]
        if dataset not in _UNRELIABLE:
            found[dataset, clip.speaker].append(clip)
    return found


def _cases(by_voice: _Clips, calls: int, seed: int) -> Iterator[_Case]:
    """Yield calls of two voices of one data set, and of one voice alone."""
    random = np.random.default_rng(seed)
    for style in ("neutral", "acted"):
        clips = {
            voice: [clip for clip in found if style == "acted" or clip.emotion in _NEUTRAL]
            for voice, found in by_voice.items()
        }
        voices = [voice for voice, found in clips.items() if sum(map(_spoken_s, found)) >= _MIN_VOICE_S]
        members: dict[tuple[str, str], list[tuple[_Voice, ...]]] = defaultdict(list)
        for one, other in combinations(sorted(voices), 2):
            if one[0] == other[0]:
                members["same sex" if _is_same_sex(one, other) else "different sex", one[0]].append((one, other))
        for voice in voices:
            members["one voice", voice[0]].append((voice,))
        for group, dataset in sorted(members, key=lambda key: (_GROUPS.index(key[0]), key[1])):
            chosen = members[group, dataset]
            # Each round draws every pair once, in another order and with other clips.
            for index in range(calls):
                if index % len(chosen) == 0:
                    shuffled = random.permutation(len(chosen))
                drawn = chosen[shuffled[index % len(chosen)]]
                yield _Case(_Kind(style, group, dataset), _call([clips[voice] for voice in drawn], random))


def _is_same_sex(one: _Voice, other: _Voice) -> bool:
    return (one[1] in _WOMEN) == (other[1] in _WOMEN)


def _spoken_s(clip: Clip) -> float:
    return clip.spoken[1] - clip.spoken[0]


def _call(voices: Sequence[Sequence[Clip]], random: np.random.Generator) -> Call:
    """Build a call in which the voices take turns of one to three clips. The channel of a turn is its voice."""
    pools = [[voice[index] for index in random.permutation(len(voice))] for voice in voices]
    placed: list[Turn] = []
    at_s, voice = 1.0, 0
    while at_s < _CALL_S and pools[voice]:
        for _ in range(min(int(random.integers(1, 4)), len(pools[voice]))):
            clip = pools[voice].pop()
            placed.append(Turn(clip, voice, at_s, at_s + _spoken_s(clip)))
            at_s = placed[-1].end_s + random.uniform(*_PAUSES_S)
        voice = (voice + 1) % len(voices)
        if len(voices) > 1 and random.random() < _OVERLAPPING:
            at_s = placed[-1].end_s - random.uniform(*_OVERLAPS_S)
    sound = np.zeros((1, round((placed[-1].end_s + 1.0) * SAMPLE_RATE_HZ)), np.float32)
    for turn in placed:
        first, last = (round(time_s * SAMPLE_RATE_HZ) for time_s in turn.clip.spoken)
        start = round(turn.start_s * SAMPLE_RATE_HZ)
        room = sound[0, start : start + last - first]
        room += turn.clip.waveform[first:last][: room.size]
    return Call(sound, tuple(placed))


def _show(degradation: str, cases: Iterable[_Case], embedder: SpeakerEmbedder, folder: Path) -> None:
    outcomes: dict[_Kind, list[tuple[_Outcome, _Outcome]]] = defaultdict(list)
    for case in cases:
        call = Call(DEGRADATIONS[degradation](case.call.sound, folder), case.call.turns)
        spans, embeddings = _embedded(call, embedder)
        outcomes[case.kind].append((_outcome(call, spans, embeddings, "2"), _outcome(call, spans, embeddings, "auto")))
    rows = [_row(f"{kind.style}, {kind.group}, {kind.dataset}", kind.group, found) for kind, found in outcomes.items()]
    for group in _GROUPS:
        found = [pair for kind, pairs in outcomes.items() if kind.group == group for pair in pairs]
        rows.append(_row(f"all, {group}", group, found))
    header = ["calls", "number", "2: right", "error", "with collar", "auto: split", "right where split"]
    show(f"Speakers, {degradation}, {machine()}", header, rows)


def _row(name: str, group: str, found: Sequence[tuple[_Outcome, _Outcome]]) -> list[str]:
    two, auto = [pair[0] for pair in found], [pair[1] for pair in found]
    accepted = [outcome for outcome in auto if outcome.is_split]
    figures = ["", "", ""] if group == "one voice" else [_right(two), *_errors(two)]
    return [name, str(len(two)), *figures, str(len(accepted)), "" if group == "one voice" else _right(accepted)]


def _embedded(call: Call, embedder: SpeakerEmbedder) -> tuple[list[tuple[float, float]], npt.NDArray[np.float32]]:
    """Return the times of the utterances and their embeddings."""
    spans, embeddings = [], []
    for part in cut(call.blocks(), SegmentationSettings(), VoiceActivityDetector.load()):
        spans.append((part.start_s, part.end_s))
        start, end = (round(time_s * SAMPLE_RATE_HZ) for time_s in spans[-1])
        embeddings.append(embedder.embed(call.sound[0, start:end]))
    return spans, np.stack(embeddings)


def _outcome(call: Call, spans: list[tuple[float, float]], embeddings: npt.NDArray[np.float32], mode: Mode) -> _Outcome:
    truth = np.array([_voice(call, span) for span in spans])
    voices = split(embeddings, [end - start for start, end in spans], mode)
    labels = np.zeros(len(spans), np.int64) if voices.labels is None else voices.labels
    if (labels == truth).mean() < 0.5:
        labels = 1 - labels
    errors = [_diarization_error_s(call, spans, labels, collar_s) for collar_s in (0.0, _COLLAR_S)]
    right = int((labels == truth).sum())
    return _Outcome(right, len(spans), voices.labels is not None, voices.similarity, *errors[0], *errors[1])


def _voice(call: Call, span: tuple[float, float]) -> int:
    """Return the voice that speaks most of the time in a span."""
    times = [0.0, 0.0]
    for turn in call.turns:
        times[turn.channel] += overlap_s((turn.start_s, turn.end_s), span)
    return int(np.argmax(times))


def _diarization_error_s(
    call: Call, spans: list[tuple[float, float]], labels: npt.NDArray[np.int64], collar_s: float
) -> tuple[float, float]:
    """Return the missed, surplus and confused time, and the time of speech, without the collars around boundaries."""
    frames = round(call.duration_s * _FRAMES_PER_S)
    true = np.zeros((2, frames), np.bool_)
    found = np.zeros((2, frames), np.bool_)
    is_scored = np.ones(frames, np.bool_)
    for turn in call.turns:
        true[turn.channel, _frames(turn.start_s, turn.end_s)] = True
        for boundary_s in (turn.start_s, turn.end_s) if collar_s else ():
            is_scored[_frames(boundary_s - collar_s, boundary_s + collar_s)] = False
    for (start_s, end_s), label in zip(spans, labels, strict=True):
        found[label, _frames(start_s, end_s)] = True
    true, found = true[:, is_scored], found[:, is_scored]
    errors = np.maximum(true.sum(axis=0), found.sum(axis=0)) - (true & found).sum(axis=0)
    return float(errors.sum() / _FRAMES_PER_S), float(true.sum() / _FRAMES_PER_S)


def _frames(start_s: float, end_s: float) -> slice:
    return slice(max(0, round(start_s * _FRAMES_PER_S)), round(end_s * _FRAMES_PER_S))


def _right(outcomes: Sequence[_Outcome]) -> str:
    return _share(sum(each.right for each in outcomes), sum(each.utterances for each in outcomes))


def _errors(outcomes: Sequence[_Outcome]) -> tuple[str, str]:
    plain = _share(sum(each.errors_s for each in outcomes), sum(each.speech_s for each in outcomes))
    collar = _share(sum(each.collar_errors_s for each in outcomes), sum(each.collar_speech_s for each in outcomes))
    return plain, collar


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


if __name__ == "__main__":
    main(sys.argv[1:])
