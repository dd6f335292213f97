"""How ten thousand, a million and a hundred million recordings drain, and what holds them up: simulated with SimPy.

    python -m benchmarks.backlog                 the tables of docs/scale.md, and docs/backlog.svg
    python -m benchmarks.backlog --real 60       a small one, drained by the embedded stack and simulated

The times come from benchmarks/service_times.json, the limits from AWS's documentation; docs/scale.md names the pages.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.drain_picture import picture
from benchmarks.fleet import RETENTION_S, WRITES_PER_S, Drain, Fleet, Limits, most_within
from benchmarks.soak_account import Log
from benchmarks.tables import show
from benchmarks.workload import CALL, CLIP, MEMORY_SIZES_MB, Processor, Workload, longest_call_s, processors
from core.local import StackOptions, running_stack, running_workers

_PICTURE = Path("docs/backlog.svg")
_MEMORY_MB = 3538
_COUNTS = (10_000, 1_000_000, 100_000_000)
_TIMEOUTS_S = (300, 600, 900)
_SPREAD = 0.3
"""Recordings differ: their times are drawn evenly from so much below to so much above the mean."""
_MANY = 12
"""From so many on, a sum is as good as normal."""
_CONTAINER_S = 0.33
"""Of a fresh container that runs nothing at all, by docs/performance.md; how long Lambda's takes is not known here."""

STEPS: dict[str, Limits] = {
    "as deployed": Limits(),
    "MaxConcurrency 100": Limits(max_concurrency=100),
    "MaxConcurrency 1,000": Limits(max_concurrency=1000),
    "and 4 partitions": Limits(max_concurrency=1000, partitions=4),
    "provisioned pollers, quota 5,000": Limits(
        max_concurrency=5000, quota=5000, first_pollers=1000, pollers_per_minute=1000, partitions=4
    ),
}
"""One after another: each turns what held up the one before."""


def service_time(mean_s: float, seed: int = 0) -> Callable[[int], float]:
    """Draws how long so many recordings take."""
    chance = random.Random(seed)
    deviation_s = mean_s * _SPREAD / 3**0.5

    def seconds(count: int) -> float:
        if count < _MANY:
            return sum(mean_s * chance.uniform(1 - _SPREAD, 1 + _SPREAD) for _ in range(count))
        return chance.gauss(count * mean_s, deviation_s * count**0.5)

    return seconds


def drain(count: int, limits: Limits, workload: Workload, processor: Processor) -> Drain:
    """Simulate one."""
    start_s = _CONTAINER_S + processor.start_s
    return Fleet(count, limits, service_time(workload.service_s(processor, _MEMORY_MB)), start_s).run()


def _duration(seconds: float) -> str:
    for unit, length_s in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def simulate() -> None:
    """Print a table for each kind of recording and each processor, and draw the picture."""
    int8 = [processor for processor in processors() if processor.name.startswith("int8")]
    for processor in int8:
        for workload in (CLIP, CALL):
            title = f"{workload.name}, {workload.service_s(processor, _MEMORY_MB):.2f} s at {_MEMORY_MB:,} MB"
            rows = [[name, *_drains(limits, workload, processor)] for name, limits in STEPS.items()]
            show(f"{processor.name}: {title}", ["", *(f"{count:,}" for count in _COUNTS)], rows)
    simulate_two_weeks(int8)
    show_longest(int8)
    rows = [[f"{count:,}", _duration(count / WRITES_PER_S)] for count in _COUNTS]
    show("Uploading alone, at S3's 3,500 writes a second", ["recordings", "one partition"], rows)
    drains = {name: drain(1_000_000, limits, CLIP, int8[0]) for name, limits in STEPS.items()}
    _PICTURE.write_text(picture(drains), encoding="utf-8")
    print(f"\n{_PICTURE} is drawn.")


def simulate_two_weeks(int8: Sequence[Processor]) -> None:
    """Print how many recordings the queue may hold before the last of them are too old for it."""
    kinds = [(processor, workload) for processor in int8 for workload in (CLIP, CALL)]
    rows = []
    for max_concurrency in (10, 100, 1000):
        limits = Limits(max_concurrency=max_concurrency)
        most = (
            most_within(RETENTION_S, lambda count, kind=kind: drain(count, limits, kind[1], kind[0]))  # type: ignore[misc] # noqa: B023
            for kind in kinds
        )
        rows.append([f"{max_concurrency:,}", *(f"{float(f'{count:.2g}'):,.0f}" for count in most)])
    show("Drained in fourteen days", ["MaxConcurrency", *(f"{p.name}: {w.name}" for p, w in kinds)], rows)


def show_longest(int8: Sequence[Processor]) -> None:
    """Print how long a call may be, by memory and time-out."""
    rows = [
        [f"{memory_mb:,}", *(_duration(longest_call_s(p, memory_mb, s)) for p in int8 for s in _TIMEOUTS_S)]
        for memory_mb in MEMORY_SIZES_MB
    ]
    show(
        "The longest call that can be finished", ["MB", *(f"{p.name}: {s} s" for p in int8 for s in _TIMEOUTS_S)], rows
    )


def _drains(limits: Limits, workload: Workload, processor: Processor) -> Iterator[str]:
    for count in _COUNTS:
        done = drain(count, limits, workload, processor)
        too_old = " (**too old**)" if done.drained_s > RETENTION_S else ""
        yield f"{_duration(done.drained_s)}{too_old}, {done.longest_bottleneck}"


def compare_with_real(count: int, workers: int) -> None:
    """Fill the embedded stack's queue, let real workers drain it, and simulate the same."""
    samples = [Path("samples/anger.wav"), Path("samples/happy.mp3"), Path("samples/conversation.ogg")]
    log = Log()
    with tempfile.TemporaryDirectory() as folder, running_stack(StackOptions()) as stack:
        for number in range(count):
            stack.upload(samples[number % len(samples)], f"{number:04d}")
        log_file = Path(folder) / "function.log"
        began_s = time.time()
        with running_workers(
            stack, Path("models/demo/package").resolve(), log_file, workers, settings={"INFERENCE_THREADS": "1"}
        ) as running:
            while len(log.done_at_s) < count:
                time.sleep(0.2)
                running.check()
                log = Log()
                for line in log_file.read_bytes().splitlines():
                    log.read(line)
    done_s = sorted(at_s - began_s for at_s in log.done_at_s.values())
    service_s = [ms / 1000 for ms in log.service_ms]
    # Until the first results there was no work, only Python starting: what the first of them took is not part of it.
    start_s = done_s[0] - service_s[0]
    chance = random.Random(0)
    limits = Limits(max_concurrency=workers, first_pollers=workers)
    simulated = Fleet(count, limits, lambda taken: sum(chance.choices(service_s, k=taken)), start_s, coarse=False).run()
    show(
        f"{count} recordings, {workers} workers; each took {statistics.mean(service_s):.2f} s, a start {start_s:.1f} s",
        ["drained in", "seconds"],
        [["the embedded stack", f"{done_s[-1]:.1f}"], ["simulated", f"{simulated.drained_s:.1f}"]],
    )
    print(json.dumps({"real_s": round(done_s[-1], 2), "simulated_s": round(simulated.drained_s, 2)}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=int, metavar="COUNT", help="compare with so many real recordings instead")
    parser.add_argument("--workers", type=int, default=2, help="how many workers drain the real ones")
    given = parser.parse_args(arguments)
    if given.real:
        compare_with_real(given.real, given.workers)
    else:
        simulate()


if __name__ == "__main__":
    main()
