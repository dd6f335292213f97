"""The moment by which the work on a recording must be done, so that a result can still be written."""

import time
from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock; shared by everything that works on one recording."""

    at_s: float = inf

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """A deadline so many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether there is no time left."""
        return self.remaining_s == 0.0

    def sooner(self, seconds: float) -> "Deadline":
        """This deadline, or one so many seconds from now, whichever comes first."""
        return Deadline(min(self.at_s, time.monotonic() + seconds))
