"""Where the time of one recording goes on its way through the function: a 10 s mp3, the full-size int8 package.

Most of what is neither fetching nor inference is two starts of ffmpeg, so the table says which one it was.
`python -m benchmarks.stages [ROUNDS [FOLDER]]`; FOLDER holds the ffmpeg and ffprobe to measure, such as those that
`layers/ffmpeg/build.sh` builds for the image, in place of those on the path.
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

from benchmarks.full_size import full_size_checkpoint, full_size_package
from benchmarks.speed import BUILD
from benchmarks.tables import machine, show
from core.audio import utterances
from core.audio.decode import decode, probe
from core.deadline import Deadline
from core.delivery.storage import Storage
from core.export.graph import Precision
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, running_stack
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits

_OVERHEAD = ("probe", "decode", "utterances", "write")
_SAMPLE = Path("samples/conversation.ogg")


class _Stopwatch:
    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.times_ms.setdefault(name, []).append((time.perf_counter() - started) * 1000)


def _decoder() -> str:
    """Which ffmpeg is measured: where it lies, its version, and how many libraries it is linked with."""
    program = shutil.which("ffmpeg")
    if program is None:
        return "no ffmpeg"
    told = subprocess.run([program, "-version"], check=True, capture_output=True, text=True).stdout.split()
    linked = subprocess.run(["ldd", program], check=False, capture_output=True, text=True).stdout.count("\n")
    return f"{program}, version {told[2]}, linked with {linked} libraries"


def main(rounds: int = 15, decoders: str = "") -> None:
    """Print the median and the minimum of each part."""
    package = full_size_package(full_size_checkpoint(BUILD / "checkpoint"), BUILD / "int8", Precision.INT8)
    classifier, limits, watch = EmotionClassifier.load(package), MediaLimits(), _Stopwatch()
    with tempfile.TemporaryDirectory() as folder, running_stack() as stack:
        path = Path(folder) / "recording"
        mp3 = Path(folder) / "ten-seconds.mp3"
        command = ["ffmpeg", "-nostdin", "-v", "error", "-stream_loop", "-1", "-i", str(_SAMPLE), "-t", "10", str(mp3)]
        subprocess.run(command, check=True)
        if decoders:
            os.environ["PATH"] = f"{Path(decoders).absolute()}{os.pathsep}{os.environ['PATH']}"
        storage = Storage(stack.s3)
        stack.upload(mp3)
        result = Pipeline(classifier, limits).run(mp3, Source(key="warm-up"))
        for number in range(rounds):
            with watch.part("fetch"):
                version = storage.head(UPLOADS_BUCKET, mp3.name)
                assert version is not None
                storage.download(version, path, Deadline())
            with watch.part("probe"):
                info = probe(path, limits)
            with watch.part("decode"):
                blocks = list(decode(path, info, limits))
            with watch.part("utterances"):
                heard = list(utterances.cut(blocks))
            with watch.part("inference"):
                classifier.classify_all(utterance.waveform for utterance in heard)
            with watch.part("write"):
                body = result.to_json().encode()
                key = f"results/{number}.json"
                storage.put(RESULTS_BUCKET, key, body, content_type="application/json", metadata={}, replaces=None)
    parts = dict(watch.times_ms)
    parts["everything but fetch and inference"] = [
        sum(times) for times in zip(*(parts[name] for name in _OVERHEAD), strict=True)
    ]
    print(f"\n{machine()}\nDecoder: {_decoder()}")
    show(
        f"One 10 s mp3 through the function ({len(heard)} utterances)",
        ["part", "median ms", "at best"],
        [[name, f"{statistics.median(times):.1f}", f"{min(times):.1f}"] for name, times in parts.items()],
    )


if __name__ == "__main__":
    arguments = dict(zip(("rounds", "decoders"), sys.argv[1:], strict=False))
    main(int(arguments.get("rounds", 15)), arguments.get("decoders", ""))
