"""Phone calls with known speakers, times and pauses, built from labelled recordings."""

import csv
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.utterances import SpeechSegment
from core.audio.waveform import SAMPLE_RATE_HZ, Block, Waveform
from core.emotions import SYNONYMS
from core.model.classifier import Scores
from core.settings import MediaLimits

Span = tuple[float, float]
"""Start and end in seconds."""

_FRAME_SAMPLES = SAMPLE_RATE_HZ // 100
_QUIETER_THAN_SPEECH_DB = 35.0


@dataclass(frozen=True)
class Clip:
    """A labelled recording of one utterance; `spoken` is the span of its loud part."""

    path: Path
    speaker: str
    emotion: str
    waveform: Waveform
    spoken: Span


@dataclass(frozen=True)
class Turn:
    """A clip in a call, with its channel and times."""

    clip: Clip
    channel: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Call:
    """Audio of shape ``(channels, n)`` at 16 kHz, and its turns in order."""

    sound: Block
    turns: tuple[Turn, ...]

    @property
    def duration_s(self) -> float:
        return float(self.sound.shape[1] / SAMPLE_RATE_HZ)

    def spoken(self, channel: int) -> list[Span]:
        """Return the spans of speech on a channel."""
        return [(turn.start_s, turn.end_s) for turn in self.turns if turn.channel == channel]

    def blocks(self) -> Iterator[Block]:
        """Yield the audio in blocks of one second, as the decoder does."""
        for start in range(0, self.sound.shape[1], SAMPLE_RATE_HZ):
            yield self.sound[:, start : start + SAMPLE_RATE_HZ]


Degradation = Callable[[Block, Path], Block]


def read_clips(manifest: Path, dataset: str | None = None) -> list[Clip]:
    """Read the recordings of a manifest with the columns path, dataset, speaker and emotion."""
    with manifest.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if dataset in (None, row["dataset"])]
    return [_clip(manifest.parent / row["path"], row["speaker"], row["emotion"]) for row in rows]


@cache
def _clip(path: Path, speaker: str, emotion: str) -> Clip:
    waveform = _waveform(path)
    return Clip(path, speaker, emotion, waveform, _spoken(waveform))


def _waveform(path: Path) -> Waveform:
    # Starting ffmpeg for hundreds of clips is slow, so only clips that need resampling use it.
    if soundfile.info(path).samplerate == SAMPLE_RATE_HZ:
        samples: Waveform = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
        return samples
    limits = MediaLimits()
    mixed: Waveform = np.concatenate(list(decode(path, probe(path, limits), limits)), axis=1).mean(axis=0)
    return mixed


def _spoken(waveform: Waveform) -> Span:
    """Return the span from the first to the last 10 ms that are not much quieter than the loud ones."""
    frames = waveform[: waveform.size // _FRAME_SAMPLES * _FRAME_SAMPLES].reshape(-1, _FRAME_SAMPLES)
    levels = 20 * np.log10(frames.std(axis=1) + 1e-9)
    loud = np.flatnonzero(levels > np.percentile(levels, 95) - _QUIETER_THAN_SPEECH_DB)
    return float(loud[0]) / 100, float(loud[-1] + 1) / 100


def build_call(clips: Sequence[Clip], *, channels: int, seed: int, pauses_s: Span = (0.5, 3.0)) -> Call:
    """Build a call of one clip after another, with pauses of random length between the speech.

    With two channels the sides take turns at random, one to three clips each, and are silent otherwise.
    """
    random = np.random.default_rng(seed)
    placed: list[tuple[int, int, Clip]] = []
    turns: list[Turn] = []
    at_s, channel, left = random.uniform(*pauses_s), 0, int(random.integers(1, 4))
    for clip in clips:
        if left == 0:
            channel, left = (channel + 1) % channels, int(random.integers(1, 4))
        left -= 1
        start, (first_s, last_s) = round((at_s - clip.spoken[0]) * SAMPLE_RATE_HZ), clip.spoken
        placed.append((channel, start, clip))
        turns.append(Turn(clip, channel, at_s, at_s + last_s - first_s))
        at_s += last_s - first_s + random.uniform(*pauses_s)
    first = min(0, *(start for _, start, _ in placed))
    sound = np.zeros((channels, round(at_s * SAMPLE_RATE_HZ)), np.float32)
    for channel, start, clip in placed:
        if start < 0:
            assert first <= start
            sound[channel, : clip.waveform.size + start] += clip.waveform[-start:]
            continue
        room = sound[channel, start : start + clip.waveform.size]
        room += clip.waveform[: room.size]
    return Call(sound, tuple(turns))


def clean(sound: Block, folder: Path) -> Block:
    """Return the call unchanged."""
    return sound


def over_the_phone(sound: Block, folder: Path) -> Block:
    """Encode the call as mu-law at 8 kHz, and decode it."""
    wideband, narrowband = folder / "wideband.wav", folder / "narrowband.wav"
    soundfile.write(wideband, sound.T, SAMPLE_RATE_HZ, "FLOAT")
    command: list[str | Path] = [
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-i",
        wideband,
        "-ar",
        "8000",
        "-c:a",
        "pcm_mulaw",
        narrowband,
    ]
    subprocess.run(command, check=True, timeout=120)
    limits = MediaLimits()
    return np.concatenate(list(decode(narrowband, probe(narrowband, limits), limits)), axis=1)


def with_noise(snr_db: float) -> Degradation:
    """Return a degradation that adds white noise to every channel, at a distance from its speech."""

    def degrade(sound: Block, folder: Path) -> Block:
        random = np.random.default_rng(round(snr_db))
        noisy = np.empty_like(sound)
        for channel, samples in enumerate(sound):
            spoken = samples[np.abs(samples) > 1e-3]
            noise = random.standard_normal(samples.size) * spoken.std() * 10 ** (-snr_db / 20)
            noisy[channel] = (samples + noise).astype(np.float32)
        return noisy

    return degrade


DEGRADATIONS: dict[str, Degradation] = {
    "clean": clean,
    "8 kHz mu-law": over_the_phone,
    "noise at 20 dB": with_noise(20),
    "noise at 10 dB": with_noise(10),
}


@dataclass(frozen=True)
class Fit:
    """The fit of found spans to the true ones, on one or more channels."""

    spoken_s: float
    covered_s: float
    pauses_s: float
    intruded_s: float
    errors_s: tuple[float, ...]

    @property
    def coverage(self) -> float:
        """The share of the speech that is in a segment."""
        return self.covered_s / self.spoken_s

    @property
    def intrusion(self) -> float:
        """The share of the pauses that is in a segment."""
        return self.intruded_s / self.pauses_s

    @property
    def boundary_error_s(self) -> float:
        """The mean distance from a true boundary to the nearest one found."""
        return float(np.mean(self.errors_s))

    def __add__(self, other: "Fit") -> "Fit":
        return Fit(
            self.spoken_s + other.spoken_s,
            self.covered_s + other.covered_s,
            self.pauses_s + other.pauses_s,
            self.intruded_s + other.intruded_s,
            self.errors_s + other.errors_s,
        )


def fit(found: Sequence[Span], true: Sequence[Span], duration_s: float) -> Fit:
    """Compare spans with a resolution of 1 ms."""
    covered, spoken = _mask(found, duration_s), _mask(true, duration_s)
    errors = [min((abs(span[0] - start) for span in found), default=duration_s) for start, _ in true]
    errors += [min((abs(span[1] - end) for span in found), default=duration_s) for _, end in true]
    return Fit(
        spoken.sum() / 1000,
        (spoken & covered).sum() / 1000,
        (~spoken).sum() / 1000,
        (~spoken & covered).sum() / 1000,
        tuple(errors),
    )


def _mask(spans: Sequence[Span], duration_s: float) -> npt.NDArray[np.bool_]:
    mask = np.zeros(round(duration_s * 1000), np.bool_)
    for start, end in spans:
        mask[round(start * 1000) : round(end * 1000)] = True
    return mask


def overlap_s(one: Span, other: Span) -> float:
    """Return the duration of the overlap of two spans."""
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def is_right(clip: Clip, scores: Scores) -> bool:
    """Return whether a clip is classified as its label. A clip without scores counts as wrong."""
    if not scores:
        return False
    return max(scores, key=lambda label: scores[label]) == SYNONYMS.get(clip.emotion, clip.emotion)


def correct_turns(call: Call, found: Sequence[tuple[SpeechSegment, Scores]]) -> list[bool]:
    """Return for each turn whether its segments, weighted by their overlap with it, are classified as its label."""
    right = []
    for turn in call.turns:
        totals: dict[str, float] = {}
        for part, scores in found:
            common_s = overlap_s((part.start_s, part.end_s), (turn.start_s, turn.end_s))
            if part.channel != turn.channel or common_s == 0.0:
                continue
            for label, score in scores.items():
                totals[label] = totals.get(label, 0.0) + score * common_s
        right.append(is_right(turn.clip, totals))
    return right
