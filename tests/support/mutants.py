"""Fuzzes the pipeline with mutants of real recordings: `make fuzz [COUNT=5000] [SEED=1] [FFMPEG=folder]`.

Each mutant is determined by the seed and its number. A mutant that breaks one of these rules is kept as a file:

- The process survives, and leaves no child process.
- There is a result document that fits the schema, with a message of one sentence if it failed.
- The pipeline waits at most 10 s for the decoder, uses at most 10 s of processor time, and takes at most a minute.
- The memory of the process grows by less than its limit, and the decoder stays below its own.
- No file is left in the temporary or the current folder, and no file descriptor is open.
"""

import argparse
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.support.corpora import corpus_files

MAX_S = 10.0
MEMORY_GROWTH_LIMIT_MB = 512
"""The growth of the process at its peak, beyond its memory with the network loaded."""
MAX_SILENCE_S = 60.0
"""A worker without output for this long counts as hanging. Waiting for a decoder takes less."""

_MAX_ORIGINAL_BYTES = 100_000
"""Longer recordings are cut, because headers are at the beginning and classifying minutes takes long."""
_HEADER_BYTES = 512
_EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63 - 1,
    2**64 - 1,
)

Mutation = Callable[[random.Random, bytearray, bytes], bytearray]


def originals() -> list[bytes]:
    """Return the recordings that mutants are made of: the samples, and the test corpora if there are any."""
    files = sorted([*(ROOT / "samples").iterdir(), *corpus_files("data/formats/**/*"), *corpus_files("data/seed/**/*")])
    return [
        file.read_bytes()[:_MAX_ORIGINAL_BYTES]
        for file in files
        if file.is_file() and file.suffix not in (".json", ".md")
    ]


def mutant(seed: int, number: int, recordings: Sequence[bytes]) -> bytes:
    """Return a mutant: a recording with one to four mutations."""
    chance = random.Random(f"{seed}/{number}")
    body, other = bytearray(chance.choice(recordings)), chance.choice(recordings)
    for _ in range(chance.choice((1, 1, 2, 4))):
        body = chance.choice(_MUTATIONS)(chance, body, other) or body
    return bytes(body)


def _flip_bits(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    reach = chance.choice((min(_HEADER_BYTES, len(body)), len(body)))
    for _flip in range(chance.choice((1, 4, 16, 256))):
        body[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return body


def _overwrite(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    start, length = _random_span(chance, len(body), 4096)
    body[start : start + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    return body


def _overwrite_fields(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    """Write extreme numbers to the header, which contains sizes, counts and rates."""
    for _field in range(chance.choice((1, 2, 8))):
        form = chance.choice("BHIQ")
        width = struct.calcsize(form)
        value = chance.choice(_EXTREMES) & (256**width - 1)
        place = chance.randrange(min(_HEADER_BYTES, len(body)))
        body[place : place + width] = struct.pack(chance.choice("<>") + form, value)
    return body


def _overwrite_sizes_of_chunks(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    """Write extreme numbers next to the four letters of a chunk or an atom, where its size is."""
    names = [at for at in range(4, len(body) - 8) if body[at : at + 4].isalpha()]
    if names:
        place = chance.choice(names[:200]) + chance.choice((-4, 4, 8))
        body[place : place + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(_EXTREMES) & 0xFFFFFFFF)
    return body


def _truncate(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    return body[: chance.randint(1, len(body))]


def _drop(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    start, length = _random_span(chance, len(body), len(body))
    del body[start : start + length]
    return body


def _repeat(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    start, length = _random_span(chance, len(body), 8192)
    body[start:start] = body[start : start + length] * chance.choice((1, 2, 8))
    return body


def _reorder(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    size = chance.choice((64, 512, 4096))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chance.shuffle(pieces)
    return bytearray().join(pieces)


def _insert(chance: random.Random, body: bytearray, other: bytes) -> bytearray:
    start, length = _random_span(chance, len(other), 4096)
    place = chance.randrange(len(body))
    body[place:place] = other[start : start + length]
    return body


def _splice(chance: random.Random, body: bytearray, other: bytes) -> bytearray:
    """Join the beginning of one file to the end of another."""
    return body[: chance.randrange(1, len(body) + 1)] + other[chance.randrange(len(other)) :]


def _random_span(chance: random.Random, size: int, max_length: int) -> tuple[int, int]:
    start = chance.randrange(size)
    return start, chance.randint(1, max(1, min(max_length, size - start)))


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _overwrite,
    _overwrite_fields,
    _overwrite_sizes_of_chunks,
    _truncate,
    _drop,
    _repeat,
    _reorder,
    _insert,
    _splice,
)


class Checker:
    """Runs recordings through the pipeline in this process, and checks the rules."""

    def __init__(self) -> None:
        import jsonschema

        from core.model.classifier import EmotionClassifier
        from core.pipeline import Pipeline
        from core.settings import MediaLimits, SegmentationSettings

        schema = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
        self._valid = jsonschema.Draft202012Validator(schema)
        classifier = EmotionClassifier.load(ROOT / "models" / "demo" / "package")
        self._pipeline = Pipeline(classifier, MediaLimits(decoder_timeout_s=MAX_S), SegmentationSettings())
        _forget_peak()
        self._own_mb_before, self._children_mb_before = _own_peak_mb(), _children_peak_mb()

    def check(self, body: bytes) -> dict[str, Any]:
        """Return the outcome of a recording, its time, and the broken rules."""
        before = _leftovers()
        processor_s = _processor_s()
        outcome, seconds, broken = self._attempt(body)
        if outcome == "deadline_exceeded":  # retried, because the machine may have been busy
            outcome, seconds, broken = self._attempt(body)
        processor_s = _processor_s() - processor_s
        if processor_s > MAX_S or outcome == "deadline_exceeded":
            broken.append(f"took {seconds:.1f} s, and {processor_s:.1f} s of processor time")
        after = _leftovers()
        if before != after:
            broken.append(f"left behind: {before} became {after}")
        own_mb = _own_peak_mb()
        if own_mb - self._own_mb_before > MEMORY_GROWTH_LIMIT_MB:
            broken.append(f"memory grew from {self._own_mb_before:.0f} to {own_mb:.0f} MB")
        children_mb = _children_peak_mb()
        # At the start of a process the kernel counts the memory of the one that started it.
        if children_mb > max(self._pipeline.limits.decoder_memory_mb, own_mb, self._children_mb_before):
            broken.append(f"a decoder took {children_mb:.0f} MB")
        spent = {"s": seconds, "processor_s": processor_s, "own_mb": own_mb, "children_mb": children_mb}
        return {"outcome": outcome, "broken": broken, **spent}

    def _attempt(self, body: bytes) -> tuple[str, float, list[str]]:
        from core.results import Source
        from core.scratch import scratch_folder

        with scratch_folder() as folder:
            path = folder / "recording"
            path.write_bytes(body)
            started = time.monotonic()
            try:
                result = self._pipeline.run(path, Source(key="mutant", size_bytes=len(body)))
            except Exception as error:  # noqa: BLE001 (no exception may escape)
                return "crashed", time.monotonic() - started, [f"raised {type(error).__name__}: {error}"]
            seconds = time.monotonic() - started
        document = json.loads(result.to_json())
        broken = [error.message for error in self._valid.iter_errors(document)]
        if not result.error:
            return result.status, seconds, broken
        message = result.error.message
        if not message.endswith(".") or not message.isprintable() or str(folder) in message:
            broken.append(f"message is not one printable sentence: {message!r}")
        outcome = result.error.code + (" (decoder crashed)" if "crashed" in message else "")
        return outcome, seconds, broken


def _processor_s() -> float:
    """Return the processor time of this process and of its ended children."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _forget_peak() -> None:
    """Reset the kernel's record of this process's peak memory, which other tests have raised; see proc(5)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _own_peak_mb() -> float:
    """Return the peak memory since the last reset; `getrusage` includes the parent's memory at the start."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _children_peak_mb() -> float:
    """Return the largest peak memory of an ended child, which cannot be reset."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _leftovers() -> tuple[list[str], list[str], int, int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return sorted(os.listdir(tempfile.gettempdir())), sorted(os.listdir()), len(children), descriptors  # noqa: PTH208


def work(seed: int, numbers: Sequence[int]) -> None:
    """Run a worker: print a line before each mutant, and a line of JSON after it."""
    checker, recordings = Checker(), originals()
    for number in numbers:
        print(f"begin {number}", flush=True)
        print(json.dumps({"number": number, **checker.check(mutant(seed, number, recordings))}), flush=True)


@dataclass
class Report:
    """The outcomes of all mutants."""

    outcomes: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)
    slowest_s: float = 0.0
    slowest_number: int = -1
    max_processor_s: float = 0.0
    own_mb: float = 0.0
    children_mb: float = 0.0

    def add(self, number: int, finding: dict[str, Any]) -> None:
        """Record the outcome of one mutant."""
        self.outcomes[finding["outcome"]] += 1
        if finding["s"] > self.slowest_s:
            self.slowest_s, self.slowest_number = finding["s"], number
        self.max_processor_s = max(self.max_processor_s, finding.get("processor_s", 0.0))
        self.own_mb = max(self.own_mb, finding.get("own_mb", 0.0))
        self.children_mb = max(self.children_mb, finding.get("children_mb", 0.0))
        if finding["broken"]:
            self.broken[number] = finding["broken"]

    def lines(self) -> Iterator[str]:
        """Format the report."""
        yield f"{self.outcomes.total():,} mutants, {len(self.broken)} broke a rule"
        for outcome, count in self.outcomes.most_common():
            yield f"{count:7,}  {outcome}"
        yield (
            f"slowest: {self.slowest_s:.1f} s (number {self.slowest_number}); most processor time: "
            f"{self.max_processor_s:.1f} s"
        )
        yield f"peak memory: {self.own_mb:.0f} MB, decoder {self.children_mb:.0f} MB"
        for number, broken in sorted(self.broken.items()):
            yield f"number {number}: {'; '.join(broken)}"


def run(count: int, seed: int, *, jobs: int = 1, ffmpeg: Path | None = None, progress: bool = False) -> Report:
    """Check mutants in worker processes. A worker that dies loses only its current mutant."""
    report = Report()

    def add(number: int, finding: dict[str, Any]) -> None:
        report.add(number, finding)
        done = report.outcomes.total()
        if progress and done % 500 == 0:
            print(f"{count - done:,} to go;", "\n".join(report.lines()), file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda job: _share(seed, range(job, count, jobs), ffmpeg, add), range(jobs)))
    return report


def _share(seed: int, numbers: Sequence[int], ffmpeg: Path | None, add: Callable[[int, dict[str, Any]], None]) -> None:
    while numbers:
        last = numbers[0]
        for number, finding in _worker(seed, numbers, ffmpeg):
            last = number
            add(number, finding)
        numbers = [number for number in numbers if number > last]


# numpy warns of invalid numbers; here a warning is an error.
_WORKER = [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.support.mutants", "--worker"]


def _worker(seed: int, numbers: Sequence[int], ffmpeg: Path | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield one worker's findings, and the mutant that ended it, if any."""
    path = f"{ffmpeg.resolve()}{os.pathsep}{os.environ['PATH']}" if ffmpeg else os.environ["PATH"]
    silent = threading.Event()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w+b") as errors:
        own, scratch = Path(folder) / "own", Path(folder) / "scratch"
        own.mkdir()
        scratch.mkdir()
        environment = {**os.environ, "PATH": path, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
        begun = None
        with subprocess.Popen(
            _WORKER, cwd=own, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as worker:
            assert worker.stdin is not None  # guaranteed by PIPE
            worker.stdin.write(json.dumps([seed, list(numbers)]).encode())
            worker.stdin.close()
            for line in _lines(worker, silent):
                if line.startswith(b"begin"):
                    begun = int(line.split()[1])
                    continue
                finding = json.loads(line)
                begun = None
                yield finding["number"], finding
        errors.seek(0)
        message = errors.read().decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
    how = f"the process ended with {worker.returncode}: {message}"
    if begun is not None and silent.is_set():
        yield begun, {"outcome": "hung", "s": MAX_SILENCE_S, "broken": [f"hung for {MAX_SILENCE_S:.0f} s"]}
    elif begun is not None:
        yield begun, {"outcome": "crashed", "s": 0.0, "broken": [how]}
    elif worker.returncode != 0:
        raise RuntimeError(f"Between two mutants, {how}")


def _lines(worker: "subprocess.Popen[bytes]", silent: threading.Event) -> Iterator[bytes]:
    """Yield a worker's lines; after too long a silence, kill it and set `silent`."""

    def kill() -> None:
        silent.set()
        worker.kill()

    assert worker.stdout is not None  # guaranteed by PIPE
    line = worker.stdout.readline()
    while line:
        yield line
        watch = threading.Timer(MAX_SILENCE_S, kill)
        watch.start()
        line = worker.stdout.readline()
        watch.cancel()


def main() -> int:
    """Check mutants, print the report, and save the mutants that broke a rule."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ffmpeg", type=Path, help="folder with the ffmpeg and ffprobe to use")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "mutants", help="folder for the mutants that broke a rule"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(*json.load(sys.stdin))
        return 0
    decoder = shutil.which("ffmpeg", path=str(given.ffmpeg) if given.ffmpeg else None) or "ffmpeg"
    version = subprocess.run([decoder, "-version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")[0]
    print(f"seed {given.seed}, {version}", flush=True)
    report = run(given.count, given.seed, jobs=given.jobs, ffmpeg=given.ffmpeg, progress=True)
    print("\n".join(report.lines()))
    recordings = originals()
    for number in report.broken:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{given.seed}-{number}").write_bytes(mutant(given.seed, number, recordings))
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
