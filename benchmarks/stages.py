"""Time of each stage of one recording: a 10 s mp3, the int8 package at the published size.

`python -m benchmarks.stages [ROUNDS [FOLDER]]`. FOLDER holds an ffmpeg and ffprobe to use instead of those on the path,
such as the image's own.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import BUILD
from benchmarks.full_size import full_size_checkpoint, full_size_package
from core.audio import utterances
from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.voice_activity import VoiceActivityDetector
from core.deadline import Deadline
from core.delivery.storage import Storage
from core.export.graph import Precision
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, running_stack
from core.model.classifier import EmotionClassifier, default_threads
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, ModelSettings, SegmentationSettings
from tests.support.tables import machine, show

_OVERHEAD = ("probe", "decode", "utterances", "write")
_SAMPLE = Path("samples/conversation.ogg")


class _Stopwatch:
    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.times_ms.setdefault(name, []).append((time.perf_counter() - started) * 1000)


def _decoder() -> str:
    """Return ffmpeg's path, its version and how many libraries it loads."""
    program = shutil.which("ffmpeg")
    if program is None:
        return "no ffmpeg"
    version = subprocess.run([program, "-version"], check=True, capture_output=True, text=True).stdout.split()
    linked = subprocess.run(["ldd", program], check=False, capture_output=True, text=True).stdout.count("\n")
    return f"{program}, version {version[2]}, linked with {linked} libraries"


def main(rounds: int = 15, decoders: str = "") -> None:
    """Print the median and the minimum of each stage."""
    package = full_size_package(full_size_checkpoint(BUILD / "checkpoint"), BUILD / "int8", Precision.INT8)
    classifier = EmotionClassifier.load(package, default_threads(ModelSettings()))
    limits, watch = MediaLimits(), _Stopwatch()
    with tempfile.TemporaryDirectory() as folder, running_stack() as stack:
        path = Path(folder) / "recording"
        mp3 = Path(folder) / "ten-seconds.mp3"
        command = ["ffmpeg", "-nostdin", "-v", "error", "-stream_loop", "-1", "-i", str(_SAMPLE), "-t", "10", str(mp3)]
        subprocess.run(command, check=True)
        if decoders:
            os.environ["PATH"] = f"{Path(decoders).absolute()}{os.pathsep}{os.environ['PATH']}"
        storage = Storage(stack.s3)
        stack.upload(mp3)
        result = Pipeline(classifier, limits, SegmentationSettings()).run(mp3, Source(key="warm-up"))
        for number in range(rounds):
            with watch.stage("download"):
                version = storage.head(UPLOADS_BUCKET, mp3.name)
                assert version is not None
                storage.download(version, path, Deadline())
            with watch.stage("probe"):
                info = probe(path, limits)
            with watch.stage("decode"):
                blocks = list(decode(path, info, limits))
            with watch.stage("utterances"):
                found = list(utterances.cut(blocks, SegmentationSettings(), VoiceActivityDetector.load()))
            with watch.stage("inference"):
                classifier.classify_all(utterance.waveform for utterance in found)
            with watch.stage("write"):
                body = result.to_json().encode()
                key = f"results/{number}.json"
                storage.put(RESULTS_BUCKET, key, body, content_type="application/json", metadata={}, replaces=None)
    stages = dict(watch.times_ms)
    stages["all but download and inference"] = [
        sum(times) for times in zip(*(stages[name] for name in _OVERHEAD), strict=True)
    ]
    print(f"\n{machine()}\nDecoder: {_decoder()}")
    show(
        f"One 10 s mp3 through the function ({len(found)} utterances)",
        ["stage", "median ms", "minimum"],
        [[name, f"{statistics.median(times):.1f}", f"{min(times):.1f}"] for name, times in stages.items()],
    )


if __name__ == "__main__":
    arguments = dict(zip(("rounds", "decoders"), sys.argv[1:], strict=False))
    main(int(arguments.get("rounds", 15)), arguments.get("decoders", ""))
