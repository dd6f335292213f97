"""The time limit for classifying a recording, and an estimate of whether the recording will meet it."""

import time
from dataclasses import dataclass
from math import inf, isfinite

from core.errors import DeadlineExceeded

_MIN_SHARE_LEFT = 0.5
"""Share of the budget that must be left to start a recording.

With less, the recording is retried with a full budget instead of failing with `deadline_exceeded`.
"""


@dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock, shared by all work on one recording.

    Attributes
    ----------
    budget_s
        Time from the start of the work until the deadline.
    """

    at_s: float = inf
    budget_s: float = inf

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return a deadline some seconds from now."""
        return cls(time.monotonic() + seconds, seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.remaining_s == 0.0

    @property
    def is_half_spent(self) -> bool:
        """Whether too little of the budget is left to start a recording."""
        return self.remaining_s < self.budget_s * _MIN_SHARE_LEFT

    def restarted(self) -> "Deadline":
        """Return the same deadline with the remaining time as its budget."""
        return Deadline(self.at_s, self.remaining_s)

    def sooner(self, seconds: float) -> "Deadline":
        """Return the earlier of this deadline and one some seconds from now."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.at_s)


_CHECK_INTERVAL_S = 60.0
"""Seconds of audio between two estimates. The first minute may be ringing tone, so one estimate is not enough."""
_REFUSAL_FACTOR = 1.25
"""A recording is refused if the estimate exceeds the remaining time by this factor. Speech is not spread evenly."""
_SAFETY_FACTOR = 0.9
"""Applied to the duration that the error message says would fit."""

_MIN_BITS_PER_S = {"mp3": 8_000, "aac": 4_000, "amr_nb": 1_800, "amr_wb": 1_800}
"""Lowest bit rate of each codec that defines one."""
_DEFAULT_MIN_BITS_PER_S = 500
_MIN_MINUTES_S = 120.0


class ProgressEstimate:
    """Estimates, while a recording is processed, whether it will be finished by its deadline.

    Parameters
    ----------
    duration_s
        The recording's duration, if it is known.
    """

    def __init__(self, duration_s: float | None, deadline: Deadline) -> None:
        self._duration_s = duration_s
        self._deadline = deadline
        self._started = time.monotonic()
        self._allowed_s = deadline.remaining_s
        self._next_check_s = _CHECK_INTERVAL_S

    def check(self, done_s: float) -> None:
        """Check the deadline after `done_s` seconds of audio were processed.

        Raises
        ------
        DeadlineExceeded
            If no time is left, or the rest would take too long. The message says which duration would fit.
        """
        if self._deadline.passed:
            raise DeadlineExceeded(f"There was only time for the first {_spoken_duration(done_s)}. {_ADVICE}")
        if self._duration_s is None or not isfinite(self._allowed_s) or done_s < self._next_check_s:
            return
        self._next_check_s = done_s + _CHECK_INTERVAL_S
        taken_s = time.monotonic() - self._started
        needed_s = taken_s / done_s * (self._duration_s - done_s)
        if needed_s > _REFUSAL_FACTOR * self._deadline.remaining_s:
            fits_s = _SAFETY_FACTOR * self._allowed_s * done_s / taken_s
            raise DeadlineExceeded(
                f"This recording of {_spoken_duration(self._duration_s)} cannot be finished in time; at this rate, up "
                f"to {_spoken_duration(fits_s)} would fit. {_ADVICE}"
            )


_ADVICE = "Split the recording, or give the function more memory or a longer timeout."


def plausible_duration_s(header_s: float | None, codec: str, size_bytes: int, min_pcm_bytes_per_s: int) -> float | None:
    """Return the duration from a file's header, or None if a file of this size cannot contain that much audio.

    Parameters
    ----------
    min_pcm_bytes_per_s
        The lowest rate of PCM: one byte per sample of each channel.
    """
    if header_s is None or not isfinite(header_s) or header_s <= 0:
        return None
    min_bits_per_s = 8 * min_pcm_bytes_per_s if codec.startswith("pcm_") else _MIN_BITS_PER_S.get(codec)
    max_s = size_bytes * 8 / (min_bits_per_s or _DEFAULT_MIN_BITS_PER_S)
    return header_s if header_s <= max_s else None


def _spoken_duration(seconds: float) -> str:
    """Format a duration for a message, rounded down: "2 h 5 min", "7 min", "40 s"."""
    if seconds == inf:
        return "any duration"
    if seconds < _MIN_MINUTES_S:
        return f"{int(seconds)} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
