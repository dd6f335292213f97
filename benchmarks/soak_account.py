"""What a soak is judged by: what the function's log and the notes of `soak_worker` say of every upload.

Nothing here talks to anybody: lines go in, verdicts come out.
"""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

DONE = frozenset({"classified", "no_speech", "failed", "duplicate"})
"""What the log says of a delivery after which the result is there."""

GROWTH_SHARE = 0.05
GROWTH_MB = 10.0
"""A worker's memory is flat if the end is above the beginning by less than the greater of these two."""


@dataclass
class Log:
    """The function's log, as far as it has been read."""

    done_at_s: dict[str, float] = field(default_factory=dict)
    service_ms: list[float] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    superseded: int = 0

    def read(self, line: bytes) -> None:
        """Take in one line; what is no word on a recording is passed over."""
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
    """One recording's way through the pipeline, in one process."""

    pid: int
    begun_s: float
    ended_s: float | None
    outcome: str | None
    """What the log says of its delivery; None if the process was killed before it could say anything."""

    @property
    def counts(self) -> bool:
        """Whether its result was stored, by itself or, where S3's answer was lost, as it then found out."""
        return self.outcome in DONE


def passes(notes: Iterable[bytes], outcomes: Mapping[str, str]) -> dict[str, list[Pass]]:
    """All passes of every key, in the order in which they began."""
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


def done_twice(of_one_version: Sequence[Pass]) -> bool:
    """Whether a version's inference was done again after it had come to a result, or twice at the same moment.

    A pass that was killed, or whose result could not be stored, has to be done again.
    """
    finished = [one for one in of_one_version if one.counts]
    again = len(finished) > 1 or any(one.begun_s > (finished[0].ended_s or 0) for one in of_one_version if finished)
    at_once = any(
        earlier.ended_s is not None and later.begun_s < earlier.ended_s for earlier, later in pairwise(of_one_version)
    )
    return again or at_once


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Which fields of a result document are not what the same file gets without faults."""
    changing = {"source", "processing"}
    return sorted(name for name in (expected.keys() | found.keys()) - changing if expected.get(name) != found.get(name))


@dataclass(frozen=True)
class Sample:
    """How much memory a worker had, when so many recordings were done."""

    done: int
    rss_mb: float


@dataclass(frozen=True)
class Growth:
    """A worker's memory from after the warming up to the end, as medians of a tenth of the samples each."""

    first_mb: float
    last_mb: float
    highest_mb: float
    per_recording_kb: float

    @property
    def flat(self) -> bool:
        """Whether the end is as the beginning, within what an allocator does."""
        return self.last_mb - self.first_mb < max(GROWTH_MB, GROWTH_SHARE * self.first_mb)


def growth(samples: Sequence[Sample], warm_after: int) -> Growth | None:
    """How a worker's memory changed after so many recordings; None if it did not live from the start, or not long."""
    if not samples or samples[0].done > warm_after // 10:
        return None  # one that took the place of another warms up later, and nobody knows when it is done with that
    warm = [sample for sample in samples if sample.done >= warm_after]
    if len(warm) < 20:
        return None
    tenth = len(warm) // 10
    slope = statistics.linear_regression([s.done for s in warm], [s.rss_mb for s in warm]).slope
    return Growth(
        first_mb=statistics.median(sample.rss_mb for sample in warm[:tenth]),
        last_mb=statistics.median(sample.rss_mb for sample in warm[-tenth:]),
        highest_mb=max(sample.rss_mb for sample in warm),
        per_recording_kb=slope * 1024,
    )


def percentiles(values: Sequence[float], which: Sequence[int] = (50, 90, 95, 99)) -> list[float]:
    """The percentiles asked for, then the greatest."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] for percent in which] + ordered[-1:]
