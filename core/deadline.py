"""The moment by which the work on a recording must be done, so that a result can still be written."""

import time
from dataclasses import dataclass
from math import inf, isfinite

from core.errors import DeadlineExceeded


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


_CHECK_INTERVAL_S = 60.0
"""Of audio. The first minute may be the ringing before the talk, so it is asked again after each."""
_DOUBT = 1.25
"""A recording is refused when it seems to need this times the time that is left. Speech is not spread evenly."""
_CAUTION = 0.9
"""What is said to fit is that much less than what seems to."""

_MIN_BITS_PER_S = {"mp3": 8_000, "aac": 4_000, "amr_nb": 1_800, "amr_wb": 1_800}
"""Of codecs that have a least: a header that claims more seconds than the file has room for is lying."""
_DEFAULT_MIN_BITS_PER_S = 500
_MIN_MINUTES_S = 120.0


class Pace:
    """Watches the progress through one recording.

    Parameters
    ----------
    claimed_s
        The duration that the header claims, if it can be believed.
    """

    def __init__(self, claimed_s: float | None, deadline: Deadline) -> None:
        self._claimed_s = claimed_s
        self._deadline = deadline
        self._started = time.monotonic()
        self._allowed_s = deadline.remaining_s
        self._next_look_s = _CHECK_INTERVAL_S

    def check(self, done_s: float) -> None:
        """Take note that so many seconds of audio are done with.

        Raises
        ------
        DeadlineExceeded
            If there is no time left, or there will not be; the message says what would fit.
        """
        if self._deadline.passed:
            raise DeadlineExceeded(f"There was time for the first {_spoken_duration(done_s)} only: {_ADVICE}.")
        if self._claimed_s is None or not isfinite(self._allowed_s) or done_s < self._next_look_s:
            return
        self._next_look_s = done_s + _CHECK_INTERVAL_S
        taken_s = time.monotonic() - self._started
        needed_s = taken_s / done_s * (self._claimed_s - done_s)
        if needed_s > _DOUBT * self._deadline.remaining_s:
            fits_s = _CAUTION * self._allowed_s * done_s / taken_s
            raise DeadlineExceeded(
                f"This recording of {_spoken_duration(self._claimed_s)} cannot be finished in time; at its pace, up to "
                f"{_spoken_duration(fits_s)} would fit: {_ADVICE}."
            )


_ADVICE = "split it, or give the function more memory or a longer time-out"


def believable(claimed_s: float | None, codec: str, size_bytes: int, bytes_per_s_of_pcm: int) -> float | None:
    """The duration that a header claims, unless a file of this size cannot hold it.

    Parameters
    ----------
    bytes_per_s_of_pcm
        At one byte a sample, the least that PCM takes.
    """
    if claimed_s is None or not isfinite(claimed_s) or claimed_s <= 0:
        return None
    least = 8 * bytes_per_s_of_pcm if codec.startswith("pcm_") else _MIN_BITS_PER_S.get(codec)
    longest_s = size_bytes * 8 / (least or _DEFAULT_MIN_BITS_PER_S)
    return claimed_s if claimed_s <= longest_s else None


def _spoken_duration(seconds: float) -> str:
    """As a person says it, rounded down: "2 h 5 min", "7 min", "40 s"."""
    if seconds == inf:
        return "any duration"
    if seconds < _MIN_MINUTES_S:
        return f"{int(seconds)} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
