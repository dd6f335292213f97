"""What a recording costs in processor time, at the published size: what `backlog` and `costs` start from.

Processor seconds, not seconds on the wall: those of one thread are what an idle core would take. The least of several
rounds, since other load on the machine only ever adds to it (threads that share a core slow each other down).
`python -m benchmarks.service_times [ROUNDS [FOLDER]]` prints a table and notes it in service_times.json, by machine.
FOLDER holds the image's own ffmpeg and ffprobe, as for `python -m benchmarks.stages`: what they take belongs to it.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.full_size import clip, full_size_checkpoint, full_size_package
from benchmarks.speed import BUILD
from benchmarks.tables import machine, show
from benchmarks.workload import DURATIONS_S, MEASURED
from core.audio import utterances
from core.audio.decode import decode, probe
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from core.settings import MediaLimits

_SAMPLE = Path("samples/conversation.ogg")

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


def utterances_s(classifier: EmotionClassifier, rounds: int) -> list[float]:
    """Processor seconds for one utterance of each duration."""
    clips = [clip(duration_s) for duration_s in DURATIONS_S]
    return [_least(rounds, lambda waveform=waveform: classifier.classify(waveform)) for waveform in clips]  # type: ignore[misc]


def around_inference(rounds: int, decoders: str) -> tuple[float, float]:
    """Processor seconds of everything but inference and S3: for a recording, and for each second of it."""
    limits = MediaLimits()

    def run(path: Path) -> None:
        list(utterances.cut(decode(path, probe(path, limits), limits)))

    with tempfile.TemporaryDirectory() as folder:
        paths = {duration_s: Path(folder) / f"{duration_s:.0f}.mp3" for duration_s in (2.0, 60.0)}
        for duration_s, path in paths.items():
            looped = ["-stream_loop", "-1", "-i", str(_SAMPLE), "-t", str(duration_s), str(path)]
            subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *looped], check=True)
        # The image's own cannot encode, so that it comes to its turn only now.
        os.environ["PATH"] = os.pathsep.join(filter(None, [decoders, os.environ["PATH"]]))
        seconds = {duration_s: _least(rounds, lambda path=path: run(path)) for duration_s, path in paths.items()}  # type: ignore[misc]
    slope = (seconds[60.0] - seconds[2.0]) / 58.0
    return seconds[2.0] - 2.0 * slope, slope


def reference_window_s(checkpoint: Path, rounds: int) -> float:
    """Processor seconds of transformers for one utterance of any length: it computes the whole window."""
    reference = EmotionClassifier.load(checkpoint, threads=1)
    waveform = clip(2.0)
    return _least(rounds, lambda: reference.classify(waveform))


def main(rounds: int, decoders: str) -> None:
    """Print the table, and note it in service_times.json."""
    checkpoint = full_size_checkpoint(BUILD / "checkpoint")
    found: dict[str, float | list[float]] = {}
    rows = []
    for name, precision in (("int8", Precision.INT8), ("fp32", Precision.FP32)):
        package = full_size_package(checkpoint, BUILD / name, precision)
        seconds = utterances_s(EmotionClassifier.load(package, threads=1), rounds)
        start = start_s(package, rounds)
        found |= {f"{name}_s": [round(s, 4) for s in seconds], f"{name}_start_s": round(start, 2)}
        rows.append([name, *(f"{1000 * s:.0f}" for s in seconds), f"{start:.2f}"])
    window_s = reference_window_s(checkpoint, rounds)
    rows.append(["transformers", *[f"{1000 * window_s:.0f}"] * 4, ""])
    per_recording, per_second = around_inference(rounds, decoders)
    found["reference_window_s"] = round(window_s, 4)
    found |= {"recording_s": round(per_recording, 4), "audio_second_s": round(per_second, 5)}
    print(machine())
    lengths = [f"ms, {duration_s:.0f} s" for duration_s in DURATIONS_S]
    show("One thread, processor time of an utterance", ["", *lengths, "INIT, s"], rows)
    print(
        f"\nAround it: {1000 * per_recording:.1f} ms for a recording and {1000 * per_second:.2f} ms for each second, "
        f"with {shutil.which('ffmpeg')}."
    )
    figures = json.loads(MEASURED.read_text(encoding="utf-8"))
    figures[machine()] = found
    partial = MEASURED.with_suffix(".partial")
    partial.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    partial.replace(MEASURED)


if __name__ == "__main__":
    arguments = dict(zip(("rounds", "decoders"), sys.argv[1:], strict=False))
    main(int(arguments.get("rounds", 7)), arguments.get("decoders", ""))
