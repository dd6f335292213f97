"""How far ffmpeg's two resamplers move the scores from `librosa.load`'s, on 48 kHz speech, where it is at hand.

`librosa.load` resamples with soxr at its high quality; so does this, through the same library.
`python -m benchmarks.resampling [SHARED]`; SHARED holds `models/casia-small` and `data`.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from benchmarks.tables import show
from core.model.classifier import EmotionClassifier
from core.waveform import SAMPLE_RATE_HZ, Waveform


def _as_librosa_loads(file: Path) -> Waveform:
    samples, sample_rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    resampled: Waveform = soxr.resample(samples.mean(axis=1), sample_rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    return resampled


def _by_ffmpeg(file: Path, options: str) -> Waveform:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(file), "-ac", "1", "-af", f"aresample=16000:{options}"]
    done = subprocess.run([*command, "-f", "f32le", "-"], check=True, capture_output=True)
    return np.frombuffer(done.stdout, np.float32)


def _recordings(folder: Path) -> Iterable[Path]:
    yield folder / "seed" / "111.wav"
    yield from sorted((folder / "speech" / "ravdess").rglob("*.flac"))


def main(shared: str = "../shared") -> None:
    """Print the mean and the largest change of a score for each resampler."""
    folder = Path(shared)
    if not (folder / "data").is_dir():
        print(f"\n{folder}/data is not here: the resamplers were not compared.")
        return
    classifier = EmotionClassifier.load(folder / "models" / "casia-small")
    files = list(_recordings(folder / "data"))
    reference = [classifier.classify(_as_librosa_loads(file)) for file in files]
    rows = []
    for name, options in (
        ("soxr", "resampler=soxr"),
        ("soxr, 28 bits", "resampler=soxr:precision=28"),
        ("swr", "resampler=swr"),
        ("swr, filter of 64", "resampler=swr:filter_size=64:cutoff=0.97"),
    ):
        changes = []
        for file, expected in zip(files, reference, strict=True):
            scores = classifier.classify(_by_ffmpeg(file, options))
            changes += [abs(scores[label] - expected[label]) for label in expected]
        rows.append([name, f"{np.mean(changes):.6f}", f"{max(changes):.6f}"])
    title = f"ffmpeg's resamplers against librosa.load, {len(files)} recordings at 48 kHz, casia-small"
    show(title, ["", "mean change of a score", "largest"], rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
