"""A backlog drained by Lambda, simulated: pollers that multiply, environments that start, and S3 that throttles.

One SimPy process for each environment, not for each recording: an environment takes a share of what is left, works for
as long as that takes, and takes the next. Shares are large while much is left and end at one batch, so that a hundred
million recordings are some ten thousand events and the end is as exact as the beginning. S3 is a server with a queue of
its own: whoever writes faster than it allows waits, as botocore's retries do.
"""

from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from math import ceil, inf

import simpy

from core.operations.requests import CLAIM_DELETES, CLAIM_PUTS, RESULT_PUTS, RESULT_READS, UPLOAD_READS

Events = Generator[simpy.Event, None, None]

_SHARES = 3
"""An environment takes one part in so many of what would be its own; fewer events with less, finer with more."""
_STEPS = 30
"""Nor more than one part in so many of its part of the whole: the course of the drain is to be seen, too."""
_LOOKED_EVERY_S, _SELDOM_AFTER_S = 1.0, 60.0

WRITES_PER_S, READS_PER_S = 3500.0, 5500.0
"""S3, for each partition of a bucket; a new bucket is a single one."""
MOST_IN_FLIGHT = 120_000
"""SQS, for a standard queue."""
RETENTION_S = 14 * 24 * 3600.0
"""SQS, at most, and what template.yaml sets: what is older is lost."""


@dataclass(frozen=True)
class Limits:
    """What an operator, the account and AWS allow.

    Attributes
    ----------
    max_concurrency
        MaxConcurrency of template.yaml: of the event source mapping.
    quota
        The account's, or the function's reserved concurrency.
    first_pollers, pollers_per_minute
        How the event source mapping begins, and grows.
    environments_per_10_s
        How fast Lambda starts environments of one function.
    partitions
        Into how many S3 has split each of the buckets, which bear the requests evenly.
    claims
        Whether deliveries leave notes that they are at work.
    """

    max_concurrency: int = 10
    quota: int = 1000
    first_pollers: int = 5
    pollers_per_minute: float = 300.0
    environments_per_10_s: float = 1000.0
    batch_size: int = 1
    partitions: int = 1
    claims: bool = True

    @property
    def ceiling(self) -> int:
        """How many environments there can ever be."""
        return min(self.max_concurrency, self.quota, MOST_IN_FLIGHT // self.batch_size)

    @property
    def recordings_per_s(self) -> tuple[float, str]:
        """How many S3 bears, and where it gives way."""
        writes, reads = WRITES_PER_S * self.partitions, READS_PER_S * self.partitions
        # Results and claims lie in one bucket, and share what its partitions bear.
        result_writes = RESULT_PUTS + (CLAIM_PUTS + CLAIM_DELETES if self.claims else 0)
        bears = {
            "S3: uploads bucket": reads / UPLOAD_READS,
            "S3: results bucket": min(writes / result_writes, reads / RESULT_READS),
        }
        where = min(bears, key=lambda name: bears[name])
        return bears[where], where

    def allowed(self, at_s: float) -> tuple[int, str]:
        """How many environments may run at a moment, and what keeps them from being more."""
        bounds = {
            "pollers": self.first_pollers + self.pollers_per_minute * at_s / 60,
            "Lambda's ramp": self.environments_per_10_s * (1 + at_s / 10),
            "MaxConcurrency": self.max_concurrency,
            "quota": self.quota,
            "in flight": MOST_IN_FLIGHT // self.batch_size,
        }
        # At equal bounds, what an operator can turn is named, so the ramps stand last.
        order = ["MaxConcurrency", "quota", "in flight", "pollers", "Lambda's ramp"]
        name = min(order, key=lambda bound: bounds[bound])
        return int(bounds[name]), name


@dataclass
class Drain:
    """What happened.

    Attributes
    ----------
    served
        By each environment.
    left
        Pairs of a moment and how many were not done with, at most one for each second.
    bottlenecks
        Seconds under each.
    busy_s
        Seconds of all environments together: what Lambda bills, waiting for S3 and starting included.
    """

    count: int
    served: list[int] = field(default_factory=list)
    left: list[tuple[float, int]] = field(default_factory=list)
    bottlenecks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    busy_s: float = 0.0
    drained_s: float = 0.0

    @property
    def longest_bottleneck(self) -> str:
        """What it was for most of the time."""
        return max(self.bottlenecks, key=lambda name: self.bottlenecks[name])


class Fleet:
    """A backlog and what drains it.

    Parameters
    ----------
    service_s
        Seconds for so many recordings, one after another.
    start_s
        Of a new environment, before its first recording.
    coarse
        Whether environments take shares; otherwise a batch at a time.
    """

    def __init__(
        self,
        count: int,
        limits: Limits,
        service_s: Callable[[int], float],
        start_s: float = 0.0,
        *,
        coarse: bool = True,
    ) -> None:
        self._limits = limits
        self._service_s = service_s
        self._start_s = start_s
        self._coarse = coarse
        self._waiting = count
        self._unfinished = count
        self._s3_free_at_s: float = 0.0
        self._held_until_s: float = 0.0
        self._clock = simpy.Environment(0.0)
        self._drain = Drain(count, left=[(0.0, count)])

    def run(self) -> Drain:
        """Drain it."""
        self._clock.process(self._scale())
        self._clock.run()
        return self._drain

    def _scale(self) -> Events:
        """Start environments as they are allowed, and note what holds things up."""
        while self._unfinished:
            allowed, why = self._limits.allowed(self._clock.now)
            for _ in range(min(allowed - len(self._drain.served), self._waiting)):
                self._drain.served.append(0)
                self._clock.process(self._environment(len(self._drain.served) - 1))
            # Seldom, once nothing grows: a hundred million recordings may take years.
            grows = allowed < self._limits.ceiling or self._clock.now < _SELDOM_AFTER_S
            pause_s = _LOOKED_EVERY_S if grows else self._clock.now / _SELDOM_AFTER_S
            if self._held_until_s > self._clock.now:
                why = self._limits.recordings_per_s[1]
            elif not self._waiting:
                why = "the last ones"
            self._drain.bottlenecks[why] += pause_s
            yield self._clock.timeout(pause_s)

    def _environment(self, number: int) -> Events:
        began_s = self._clock.now
        yield self._clock.timeout(self._start_s)
        while self._waiting:
            taken = self._take()
            work_s, s3_s = self._service_s(taken), self._s3_wait_s(taken)
            if s3_s > work_s:
                self._held_until_s = max(self._held_until_s, self._clock.now + s3_s)
            yield self._clock.timeout(max(work_s, s3_s))
            self._drain.served[number] += taken
            self._unfinished -= taken
            self._drain.drained_s = float(self._clock.now)
            if self._clock.now - self._drain.left[-1][0] >= _LOOKED_EVERY_S or not self._unfinished:
                self._drain.left.append((self._clock.now, self._unfinished))
        self._drain.busy_s += self._clock.now - began_s

    def _take(self) -> int:
        batch = self._limits.batch_size
        share = 0
        if self._coarse:
            share = min(self._waiting // _SHARES, self._drain.count // _STEPS) // self._limits.ceiling
        taken = min(self._waiting, max(batch, share // batch * batch))
        self._waiting -= taken
        return taken

    def _s3_wait_s(self, taken: int) -> float:
        """Until S3 has taken everything that was sent to it before, and this."""
        self._s3_free_at_s = max(self._s3_free_at_s, self._clock.now) + taken / self._limits.recordings_per_s[0]
        return self._s3_free_at_s - self._clock.now


def most_within(seconds: float, drain: Callable[[int], Drain]) -> int:
    """How many recordings drain within so many seconds, where that is far more than the fleet takes to grow."""
    count = 1_000_000
    for _ in range(3):
        # All but the beginning is in proportion, so that each try comes much closer.
        count = int(count * seconds / drain(count).drained_s)
    return count


def steady_s(count: int, environments: int, service_s: float) -> float:
    """How long a fixed number of environments takes when every recording takes the same: the closed form."""
    return ceil(count / environments) * service_s


def ramp_s(count: int, limits: Limits, service_s: float) -> float:
    """The same while pollers multiply, as a fluid: ``first t + growth t^2 / 2`` environment seconds, then a line."""
    growth = limits.pollers_per_minute / 60
    needed = count * service_s
    ramp_ends_s = (limits.ceiling - limits.first_pollers) / growth if growth else inf
    during = limits.first_pollers * ramp_ends_s + growth * ramp_ends_s**2 / 2
    if needed <= during:
        return float((-limits.first_pollers + (limits.first_pollers**2 + 2 * growth * needed) ** 0.5) / growth)
    return float(ramp_ends_s + (needed - during) / limits.ceiling)
