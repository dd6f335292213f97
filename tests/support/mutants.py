"""Mutants of real recordings through decode and classify: `make fuzz [COUNT=5000] [SEED=1] [FFMPEG=folder]`.

Each mutant follows from the seed and its number alone. Whatever it has become, these must hold, or it is kept as a file
beside the report:

- the process lives on, and so does nothing that it started;
- a result document comes out that fits the schema, with a sentence where it has failed;
- within ten seconds of waiting for the decoder, and of processor time in all, and a minute in any case;
- our memory grows by less than its limit, and the decoder's stays under the one that it is started with;
- nothing is left in the temporary folder, in the current one, or among the open files.
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
"""By how much our own process may grow, at its peak, beyond what it takes with the network loaded."""
MAX_SILENCE_S = 60.0
"""A worker that says nothing for so long after it has begun hangs: what waits for a decoder says more sooner."""

_MAX_ORIGINAL_BYTES = 100_000
"""Longer ones are cut: what is decisive stands at the beginning, and their minutes would be classified as well."""
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
    """One mutant: a recording to which one to four things have happened."""
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
    start, length = _stretch(chance, len(body), 4096)
    body[start : start + length] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    return body


def _stomp_on_fields(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    """Extreme numbers where a header keeps its sizes, counts and rates."""
    for _field in range(chance.choice((1, 2, 8))):
        form = chance.choice("BHIQ")
        width = struct.calcsize(form)
        value = chance.choice(_EXTREMES) & (256**width - 1)
        place = chance.randrange(min(_HEADER_BYTES, len(body)))
        body[place : place + width] = struct.pack(chance.choice("<>") + form, value)
    return body


def _stomp_behind_a_name(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    """The same, wherever four letters look like the name of a chunk or an atom: its size stands beside it."""
    names = [at for at in range(4, len(body) - 8) if body[at : at + 4].isalpha()]
    if names:
        place = chance.choice(names[:200]) + chance.choice((-4, 4, 8))
        body[place : place + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(_EXTREMES) & 0xFFFFFFFF)
    return body


def _truncate(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    return body[: chance.randint(1, len(body))]


def _drop(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    start, length = _stretch(chance, len(body), len(body))
    del body[start : start + length]
    return body


def _repeat(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    start, length = _stretch(chance, len(body), 8192)
    body[start:start] = body[start : start + length] * chance.choice((1, 2, 8))
    return body


def _reorder(chance: random.Random, body: bytearray, _: bytes) -> bytearray:
    size = chance.choice((64, 512, 4096))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chance.shuffle(pieces)
    return bytearray().join(pieces)


def _insert(chance: random.Random, body: bytearray, other: bytes) -> bytearray:
    start, length = _stretch(chance, len(other), 4096)
    place = chance.randrange(len(body))
    body[place:place] = other[start : start + length]
    return body


def _splice(chance: random.Random, body: bytearray, other: bytes) -> bytearray:
    """The beginning of one format and the end of another."""
    return body[: chance.randrange(1, len(body) + 1)] + other[chance.randrange(len(other)) :]


def _stretch(chance: random.Random, size: int, longest: int) -> tuple[int, int]:
    start = chance.randrange(size)
    return start, chance.randint(1, max(1, min(longest, size - start)))


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _overwrite,
    _stomp_on_fields,
    _stomp_behind_a_name,
    _truncate,
    _drop,
    _repeat,
    _reorder,
    _insert,
    _splice,
)


class Judge:
    """Brings recordings through the pipeline, in this process, and says what is wrong with how that went."""

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

    def judge(self, body: bytes) -> dict[str, Any]:
        """What became of it, how long that took, and every promise that was broken."""
        before = _surroundings()
        processor_s = _processor_s()
        outcome, seconds, broken = self._attempt(body)
        if outcome == "deadline_exceeded":  # once more: the machine may have been busy
            outcome, seconds, broken = self._attempt(body)
        processor_s = _processor_s() - processor_s
        if processor_s > MAX_S or outcome == "deadline_exceeded":
            broken.append(f"took {seconds:.1f} s, and {processor_s:.1f} s of processor time")
        after = _surroundings()
        if before != after:
            broken.append(f"left behind: {before} became {after}")
        own_mb = _own_peak_mb()
        if own_mb - self._own_mb_before > MEMORY_GROWTH_LIMIT_MB:
            broken.append(f"our memory grew from {self._own_mb_before:.0f} to {own_mb:.0f} MB")
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
            path = Path(folder) / "recording"
            path.write_bytes(body)
            started = time.monotonic()
            try:
                result = self._pipeline.run(path, Source(key="mutant", size_bytes=len(body)))
            except Exception as error:  # noqa: BLE001 (whatever it is, it should not be)
                return "crashed", time.monotonic() - started, [f"raised {type(error).__name__}: {error}"]
            seconds = time.monotonic() - started
        document = json.loads(result.to_json())
        broken = [error.message for error in self._valid.iter_errors(document)]
        if not result.error:
            return result.status, seconds, broken
        message = result.error.message
        if not message.endswith(".") or not message.isprintable() or folder in message:
            broken.append(f"no sentence for a person: {message!r}")
        outcome = result.error.code + (" (decoder crashed)" if "crashed" in message else "")
        return outcome, seconds, broken


def _processor_s() -> float:
    """Ours, and that of every decoder that has ended."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _forget_peak() -> None:
    """The kernel's count of our most memory begins anew (proc(5), `clear_refs`): tests have used gigabytes by now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _own_peak_mb() -> float:
    """Since it was last forgotten: what `getrusage` tells begins with the memory of whoever started us."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _children_peak_mb() -> float:
    """The most that one of those took that have ended; the kernel never forgets that."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _surroundings() -> tuple[list[str], list[str], int, int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    return sorted(os.listdir(tempfile.gettempdir())), sorted(os.listdir()), len(children), descriptors  # noqa: PTH208


def work(seed: int, numbers: Sequence[int]) -> None:
    """A worker's whole life: a line before each mutant, and one of JSON behind it."""
    judge, recordings = Judge(), originals()
    for number in numbers:
        print(f"begin {number}", flush=True)  # noqa: T201 (whoever started us reads it)
        print(json.dumps({"number": number, **judge.judge(mutant(seed, number, recordings))}), flush=True)  # noqa: T201


@dataclass
class Report:
    """What became of all of them."""

    outcomes: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)
    slowest_s: float = 0.0
    slowest_number: int = -1
    most_processor_s: float = 0.0
    own_mb: float = 0.0
    children_mb: float = 0.0

    def add(self, number: int, judged: dict[str, Any]) -> None:
        """Take note of one."""
        self.outcomes[judged["outcome"]] += 1
        if judged["s"] > self.slowest_s:
            self.slowest_s, self.slowest_number = judged["s"], number
        self.most_processor_s = max(self.most_processor_s, judged.get("processor_s", 0.0))
        self.own_mb = max(self.own_mb, judged.get("own_mb", 0.0))
        self.children_mb = max(self.children_mb, judged.get("children_mb", 0.0))
        if judged["broken"]:
            self.broken[number] = judged["broken"]

    def lines(self) -> Iterator[str]:
        """It, for people."""
        yield f"{self.outcomes.total():,} mutants, {len(self.broken)} of them broke a promise"
        for outcome, count in self.outcomes.most_common():
            yield f"{count:7,}  {outcome}"
        yield (
            f"slowest: {self.slowest_s:.1f} s (number {self.slowest_number}); most processor time: "
            f"{self.most_processor_s:.1f} s"
        )
        yield f"peak memory: ours {self.own_mb:.0f} MB, the decoder's at most {self.children_mb:.0f} MB"
        for number, broken in sorted(self.broken.items()):
            yield f"number {number}: {'; '.join(broken)}"


def run(count: int, seed: int, *, jobs: int = 1, ffmpeg: Path | None = None, progress: bool = False) -> Report:
    """Judge so many mutants, in worker processes; one that dies costs only the mutant that it was at."""
    report = Report()

    def add(number: int, judged: dict[str, Any]) -> None:
        report.add(number, judged)
        done = report.outcomes.total()
        if progress and done % 500 == 0:
            print(f"{count - done:,} to go;", "\n".join(report.lines()), file=sys.stderr, flush=True)  # noqa: T201

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda job: _share(seed, range(job, count, jobs), ffmpeg, add), range(jobs)))
    return report


def _share(seed: int, numbers: Sequence[int], ffmpeg: Path | None, add: Callable[[int, dict[str, Any]], None]) -> None:
    while numbers:
        last = numbers[0]
        for number, judged in _worker(seed, numbers, ffmpeg):
            last = number
            add(number, judged)
        numbers = [number for number in numbers if number > last]


# What numpy would merely warn of is a number that should not be.
_WORKER = [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.support.mutants", "--worker"]


def _worker(seed: int, numbers: Sequence[int], ffmpeg: Path | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """What one worker finds, and at last the mutant that it did not survive, if there was one."""
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
            assert worker.stdin is not None  # PIPE was asked for
            worker.stdin.write(json.dumps([seed, list(numbers)]).encode())
            worker.stdin.close()
            for line in _lines(worker, silent):
                if line.startswith(b"begin"):
                    begun = int(line.split()[1])
                    continue
                judged = json.loads(line)
                begun = None
                yield judged["number"], judged
        errors.seek(0)
        last_words = errors.read().decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
    how = f"the process ended with {worker.returncode}: {last_words}"
    if begun is not None and silent.is_set():
        yield begun, {"outcome": "hung", "s": MAX_SILENCE_S, "broken": [f"hung for {MAX_SILENCE_S:.0f} s"]}
    elif begun is not None:
        yield begun, {"outcome": "crashed", "s": 0.0, "broken": [how]}
    elif worker.returncode != 0:
        raise RuntimeError(f"Between two mutants, {how}")


def _lines(worker: "subprocess.Popen[bytes]", silent: threading.Event) -> Iterator[bytes]:
    """What it says; if there is nothing more for too long, it is killed, and `silent` is set."""

    def kill() -> None:
        silent.set()
        worker.kill()

    assert worker.stdout is not None  # PIPE was asked for
    line = worker.stdout.readline()
    while line:
        yield line
        watch = threading.Timer(MAX_SILENCE_S, kill)
        watch.start()
        line = worker.stdout.readline()
        watch.cancel()


def main() -> int:
    """Judge, print the report, keep what broke a promise."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ffmpeg", type=Path, help="a folder with another ffmpeg and ffprobe than the machine's")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants", help="where broken ones are kept")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(*json.load(sys.stdin))
        return 0
    decoder = shutil.which("ffmpeg", path=str(given.ffmpeg) if given.ffmpeg else None) or "ffmpeg"
    version = subprocess.run([decoder, "-version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split("\n")[0]
    print(f"seed {given.seed}, {version}", flush=True)  # noqa: T201
    report = run(given.count, given.seed, jobs=given.jobs, ffmpeg=given.ffmpeg, progress=True)
    print("\n".join(report.lines()))  # noqa: T201
    recordings = originals()
    for number in report.broken:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{given.seed}-{number}").write_bytes(mutant(given.seed, number, recordings))
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
