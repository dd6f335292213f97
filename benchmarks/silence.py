"""Voice activity on tones, noise and music: the share that is classified as speech, and the highest probability.

`python -m benchmarks.silence [MUSIC_FILE...]`.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.utterances import cut
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.settings import MediaLimits, SegmentationSettings
from tests.support.calls import read_clips
from tests.support.corpora import corpus_files
from tests.support.tables import show

_SHORT_S, _LONG_S = 2.0, 10.0
"""Recordings of up to six seconds and longer ones have different thresholds."""
_TONES = 240
_AMPLITUDES = (0.01, 0.1, 0.9)
_NOISES = (0.001, 0.01, 0.1, 0.3)
_NOISES_OF_EACH = 100
_A_MINUTE = 60 * SAMPLE_RATE_HZ


def main(music: Sequence[Path] = ()) -> None:
    """Print the tables."""
    _show_probabilities()
    rows = [[name, f"{_speech_share(tune):.0%}", ""] for name, tune in _tunes()]
    for file in music:
        sound = _waveform(file)
        minute = np.tile(sound, -(-_A_MINUTE // sound.size))
        once = f"{_speech_share(sound):.0%} of {sound.size / SAMPLE_RATE_HZ:.1f} s"
        rows.append([file.name, f"{_speech_share(minute):.0%}", once])
    show("Music classified as speech", ["", "of a minute, repeated", "once"], rows)


def _show_probabilities() -> None:
    rows = []
    for name, sounds in _sounds():
        highest = [float(VoiceActivityDetector.load().probabilities(sound).max()) for sound in sounds]
        speech = sum(_speech_share(sound) > 0 for sound in sounds)
        rows.append([name, str(len(sounds)), f"{min(highest):.2f} to {max(highest):.2f}", str(speech)])
    header = ["", "sounds", "highest probability", "classified as speech"]
    show("Speech, tones and white noise", header, rows)


def _sounds() -> Iterator[tuple[str, list[Waveform]]]:
    for manifest in corpus_files("data/speech/manifest.csv"):
        yield "labelled utterances", [clip.waveform for clip in read_clips(manifest)]
    for seconds in (_SHORT_S, _LONG_S):
        t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        pitches = np.geomspace(50, 7000, _TONES)
        tones = [
            (amplitude * np.sin(2 * np.pi * pitch * t)).astype(np.float32)
            for pitch in pitches
            for amplitude in _AMPLITUDES
        ]
        yield f"tones of {seconds:g} s, 50 Hz to 7 kHz", tones
        noises = [
            (level * np.random.default_rng([number, seed]).standard_normal(t.size)).astype(np.float32)
            for number, level in enumerate(_NOISES)
            for seed in range(_NOISES_OF_EACH)
        ]
        yield f"white noise of {seconds:g} s", noises


def _waveform(file: Path) -> Waveform:
    limits = MediaLimits()
    mixed: Waveform = np.concatenate(list(decode(file, probe(file, limits), limits)), axis=1).mean(axis=0)
    return mixed


def _speech_share(sound: Waveform) -> float:
    blocks = (sound[None, start : start + SAMPLE_RATE_HZ] for start in range(0, sound.size, SAMPLE_RATE_HZ))
    parts = cut(blocks, SegmentationSettings(), VoiceActivityDetector.load())
    return sum(part.duration_s for part in parts) / (sound.size / SAMPLE_RATE_HZ)


def _tunes() -> list[tuple[str, Waveform]]:
    """Return a minute each of synthetic music on hold: plucked notes and organ chords, with and without a drum."""
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


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
