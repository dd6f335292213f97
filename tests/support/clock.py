"""A clock for tests that would otherwise sleep."""

import time
from dataclasses import dataclass


@dataclass
class Clock:
    """The machine's clock, which a test can advance; takes the place of a module's `time`."""

    ahead_s: float = 0.0

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + self.ahead_s

    def monotonic(self) -> float:
        """Return seconds on the monotonic clock."""
        return time.monotonic() + self.ahead_s

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.ahead_s += seconds
