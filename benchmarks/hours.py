"""Three hours beside three minutes: the memory that each takes at its peak, and whether the pace stays the same.

`python -m benchmarks.hours [PACKAGE]`; a process for each recording, with the demo model unless another is named. Takes
some minutes.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.tables import machine, show
from core.waveform import SAMPLE_RATE_HZ

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "models" / "demo" / "package"
_MINUTES = (3, 180)

_ALONE = """
import sys, time
from pathlib import Path
from core.deadline import Deadline
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits

loaded = EmotionClassifier.load(Path(sys.argv[1]))
stamps = [time.process_time()]

class Clocked:
    def logits(self, waveform):
        stamps.append(time.process_time())
        return loaded.logits(waveform)

pipeline = Pipeline(EmotionClassifier(Clocked(), loaded.identity), MediaLimits(decoder_timeout_s=7200))
result = pipeline.run(Path(sys.argv[2]), Source(key="long"), deadline=Deadline.after(7200))
assert result.status == "classified", result.error
third = len(stamps) // 3
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak.split()[1]) / 1024, stamps[third] - stamps[0], stamps[-1] - stamps[-1 - third], len(stamps) - 1)
"""


def main(package: str = str(_PACKAGE)) -> None:
    """Print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for channels in (1, 2):
            peaks_mb: list[float] = []
            for minutes in _MINUTES:
                file = Path(folder) / f"{minutes}-{channels}.flac"
                _write(file, minutes, channels)
                command = [sys.executable, "-c", _ALONE, package, str(file)]
                done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=_ROOT, timeout=7200)
                peak_mb, first_s, last_s, utterances = map(float, done.stdout.split())
                peaks_mb.append(peak_mb)
                rows.append(
                    [
                        f"{minutes} min, {channels} channel{'s' if channels > 1 else ''}",
                        f"{utterances:.0f}",
                        f"{peak_mb:.0f} MB",
                        f"{peak_mb - peaks_mb[0]:+.0f} MB",
                        f"{first_s:.1f} s",
                        f"{last_s:.1f} s",
                    ]
                )
                file.unlink()
    header = ["recording", "utterances", "peak", "beside 3 min", "processor: first third", "last third"]
    show(f"Hours, {machine()}", header, rows)


def _write(file: Path, minutes: int, channels: int) -> None:
    """The samples, one after another; on two channels, the sides take turns."""
    one, _ = soundfile.read(_ROOT / "samples" / "anger.wav", dtype="float32")
    other, _ = soundfile.read(_ROOT / "samples" / "neutral.flac", dtype="float32")
    pause = np.zeros(SAMPLE_RATE_HZ, np.float32)
    sides = [
        np.concatenate([one, pause, other * (channels == 1), pause]),
        np.concatenate([one * 0, pause, other, pause]),
    ]
    sound = np.stack(sides[:channels], axis=1)
    with soundfile.SoundFile(file, "w", SAMPLE_RATE_HZ, channels, "PCM_16", format="FLAC") as flac:
        for _ in range(round(minutes * 60 * SAMPLE_RATE_HZ / len(sound))):
            flac.write(sound)


if __name__ == "__main__":
    main(*sys.argv[1:])
