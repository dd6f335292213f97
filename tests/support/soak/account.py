"""Analysis of a soak: the function's log and the workers' notes, without any input or output."""

import json
import statistics
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

DONE = frozenset({"classified", "no_speech", "failed", "duplicate"})
"""Statuses of a delivery after which the result exists."""

MAX_GROWTH_KB = 30.0
"""For each recording: 30 MB after a thousand."""
_MIN_SAMPLES = 20
_MIN_RECORDINGS = 200
"""An allocator takes memory by the megabyte, and one step looks like a slope over fewer recordings."""


@dataclass
class Log:
    """The function's log, up to the last line read."""

    done_at_s: dict[str, float] = field(default_factory=dict)
    service_ms: list[float] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    superseded: int = 0

    def read(self, line: bytes) -> None:
        """Add one line. Lines that do not report a recording are skipped."""
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            return
        if not isinstance(entry, dict) or entry.get("message") != "recording":
            return
        status = entry["status"]
        # A batch of one message with one upload: one request, one line.
        self.outcomes[entry["function_request_id"]] = status
        if status in DONE:
            at_s = datetime.strptime(entry["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z").timestamp()
            self.done_at_s.setdefault(entry["key"], at_s)
            if status == "duplicate":
                self.duplicates += 1
            else:
                self.service_ms.append(entry["total_ms"])
        elif status == "superseded":
            self.superseded += 1
        else:
            self.retries[entry.get("error") or status] += 1


@dataclass
class Pass:
    """One run of the pipeline on a recording, in one process."""

    pid: int
    begun_s: float
    ended_s: float | None
    outcome: str | None
    """The status of its delivery in the log; None if the process was killed before."""

    @property
    def counts(self) -> bool:
        """Whether its result was stored, even if S3's response was lost."""
        return self.outcome in DONE


def passes(notes: Iterable[bytes], outcomes: Mapping[str, str]) -> dict[str, list[Pass]]:
    """Return the passes of every key, in the order of their start."""
    found: dict[str, list[Pass]] = {}
    by_request: dict[str, Pass] = {}
    for line in notes:
        note = json.loads(line)
        if note["what"] == "begun":
            one = Pass(note["pid"], note["at_s"], None, outcomes.get(note["request_id"]))
            by_request[note["request_id"]] = one
            found.setdefault(note["key"], []).append(one)
        else:
            by_request[note["request_id"]].ended_s = note["at_s"]
    return found


def is_repeated(of_one_version: Sequence[Pass]) -> bool:
    """Return whether inference was repeated after a result was stored, or ran twice at the same time.

    A pass that was killed or whose result could not be stored has to be repeated.
    """
    finished = [one for one in of_one_version if one.counts]
    again = len(finished) > 1 or any(one.begun_s > (finished[0].ended_s or 0) for one in of_one_version if finished)
    at_once = any(
        earlier.ended_s is not None and later.begun_s < earlier.ended_s for earlier, later in pairwise(of_one_version)
    )
    return again or at_once


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return the fields in which a result differs from the one without faults."""
    changing = {"source", "processing"}
    return sorted(name for name in (expected.keys() | found.keys()) - changing if expected.get(name) != found.get(name))


@dataclass(frozen=True)
class Sample:
    """The memory of a worker at one time."""

    at_s: float
    rss_mb: float


@dataclass(frozen=True)
class Growth:
    """A worker's memory after the warm-up. First and last are medians of a tenth of the samples."""

    recordings: int
    first_mb: float
    last_mb: float
    highest_mb: float
    per_recording_kb: float

    @property
    def flat(self) -> bool:
        """Whether memory grows by less than `MAX_GROWTH_KB` for each recording."""
        return self.per_recording_kb < MAX_GROWTH_KB


def growth(samples: Sequence[Sample], classified_at_s: Sequence[float], warm_after: int) -> Growth | None:
    """Return how a worker's memory changed after `warm_after` recordings; None if too few followed.

    Parameters
    ----------
    classified_at_s
        The end of each of the worker's own passes, in order.
    """
    counted = [(bisect(classified_at_s, sample.at_s), sample.rss_mb) for sample in samples]
    warm = [(classified, rss_mb) for classified, rss_mb in counted if classified >= warm_after]
    if not warm or warm[-1][0] - warm[0][0] < _MIN_RECORDINGS or len(warm) < _MIN_SAMPLES:
        return None
    classified, memory_mb = zip(*warm, strict=True)
    tenth = len(warm) // 10
    return Growth(
        recordings=classified[-1] - classified[0],
        first_mb=statistics.median(memory_mb[:tenth]),
        last_mb=statistics.median(memory_mb[-tenth:]),
        highest_mb=max(memory_mb),
        per_recording_kb=statistics.linear_regression(classified, memory_mb).slope * 1024,
    )


def percentiles(values: Sequence[float], which: Sequence[int] = (50, 90, 95, 99)) -> list[float]:
    """Return the given percentiles, then the maximum."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] for percent in which] + ordered[-1:]
