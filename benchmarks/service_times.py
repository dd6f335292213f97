"""What a recording costs in processor time, at the published size: what `backlog` and `costs` start from.

Processor seconds, not seconds on the wall: those of one thread are what an idle core would take. The least of several
rounds, since other load on the machine only ever adds to it (threads that share a core slow each other down).
`python -m benchmarks.service_times [ROUNDS]` prints a table and notes it in service_times.json, by machine.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.full_size import clip, full_size_checkpoint, full_size_package
from benchmarks.speed import BUILD
from benchmarks.tables import machine, show
from benchmarks.workload import MEASURED
from core.audio import utterances
from core.audio.decode import decode, probe
from core.model.classifier import EmotionClassifier
from core.model.graph import Precision
from core.settings import MediaLimits

_SAMPLE = Path("samples/conversation.ogg")
_DURATIONS_S = (1.0, 2.0, 4.0, 6.0)

_START = """
import os, resource, sys, tempfile, time
scratch = tempfile.TemporaryDirectory()  # what lies in the one that all share is not the function's to clear away
os.environ |= {"TMPDIR": scratch.name}
tempfile.tempdir = None
os.environ |= {"RESULTS_BUCKET": "some-bucket", "MODEL_DIR": sys.argv[1], "AWS_DEFAULT_REGION": "us-east-1",
               "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769", "POWERTOOLS_METRICS_NAMESPACE": "x"}
import handlers.s3_upload
print(time.process_time())
"""


def _processor_s(work: Callable[[], object]) -> float:
    """Of this process and of the programs that it ran."""

    def used() -> float:
        whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, whose))

    before = used()
    work()
    return used() - before


def _least(rounds: int, work: Callable[[], object]) -> float:
    work()
    return min(_processor_s(work) for _ in range(rounds))


def start_s(package: Path, rounds: int) -> float:
    """Processor seconds from the start of Python to a handler that has its model: what Lambda calls INIT."""
    command = [sys.executable, "-c", _START, str(package.resolve())]
    times = []
    # A function that starts clears its /tmp, which on Lambda is its own, of what earlier invocations left.
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(rounds + 1):
            environment = {**os.environ, "TMPDIR": scratch}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            times.append(float(done.stdout.split()[-1]))
    return min(times[1:])


def utterance_line(classifier: EmotionClassifier, rounds: int) -> tuple[float, float, list[float]]:
    """Seconds for an utterance as ``a + b * duration_s``, fitted to four durations; and those."""
    clips = [clip(duration_s) for duration_s in _DURATIONS_S]
    seconds = [_least(rounds, lambda waveform=waveform: classifier.classify(waveform)) for waveform in clips]  # type: ignore[misc]
    slope, constant = np.polyfit(_DURATIONS_S, seconds, 1)
    return float(constant), float(slope), seconds


def around_inference(rounds: int) -> tuple[float, float]:
    """Processor seconds of everything but inference and S3: for a recording, and for each second of it."""
    limits = MediaLimits()

    def run(path: Path) -> None:
        list(utterances.cut(decode(path, probe(path, limits), limits)))

    with tempfile.TemporaryDirectory() as folder:
        durations_s, seconds = (2.0, 60.0), []
        for duration_s in durations_s:
            path = Path(folder) / f"{duration_s:.0f}.mp3"
            looped = ["-stream_loop", "-1", "-i", str(_SAMPLE), "-t", str(duration_s), str(path)]
            subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *looped], check=True)
            seconds.append(_least(rounds, lambda path=path: run(path)))  # type: ignore[misc]
    slope = (seconds[1] - seconds[0]) / (durations_s[1] - durations_s[0])
    return seconds[0] - slope * durations_s[0], slope


def reference_window_s(checkpoint: Path, rounds: int) -> float:
    """Processor seconds of transformers for one utterance of any length: it computes the whole window."""
    reference = EmotionClassifier.load(checkpoint, threads=1)
    waveform = clip(2.0)
    return _least(rounds, lambda: reference.classify(waveform))


def main(arguments: Sequence[str]) -> None:
    """Print the table, and the same as JSON."""
    rounds = int(arguments[0]) if arguments else 7
    checkpoint = full_size_checkpoint(BUILD / "checkpoint")
    found: dict[str, float] = {}
    rows = []
    for name, precision in (("int8", Precision.INT8), ("fp32", Precision.FP32)):
        package = full_size_package(checkpoint, BUILD / name, precision)
        constant, slope, seconds = utterance_line(EmotionClassifier.load(package, threads=1), rounds)
        start = start_s(package, rounds)
        found |= {f"{name}_utterance_s": constant, f"{name}_per_second_s": slope, f"{name}_start_s": start}
        rows.append([name, *(f"{1000 * s:.0f}" for s in seconds), f"{start:.2f}"])
    window_s = reference_window_s(checkpoint, rounds)
    rows.append(["transformers", *[f"{1000 * window_s:.0f}"] * 4, ""])
    per_recording, per_second = around_inference(rounds)
    found |= {"reference_window_s": window_s, "recording_s": per_recording, "audio_second_s": per_second}
    found["debians_ffmpeg"] = float((shutil.which("ffmpeg") or "").startswith("/usr/bin/"))
    print(machine())
    lengths = [f"ms, {duration_s:.0f} s" for duration_s in _DURATIONS_S]
    show("One thread, processor time of an utterance", ["", *lengths, "INIT, s"], rows)
    print(f"\nAround it: {1000 * per_recording:.0f} ms for a recording and {1000 * per_second:.2f} ms for each second.")
    figures = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    figures[machine()] = {name: round(value, 5) for name, value in found.items()}
    MEASURED.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
