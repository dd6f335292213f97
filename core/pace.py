"""Whether a recording can be finished in time, told from how fast its beginning went.

A recording that cannot is better refused after its first minute than at the time-out: the same is known, for a tenth of
the cost.
"""

import time
from math import inf, isfinite

from core.deadline import Deadline
from core.errors import DeadlineExceeded

_LOOKED_AT_EVERY_S = 60.0
"""Of audio. The first minute may be the ringing before the talk, so it is asked again after each."""
_DOUBT = 1.25
"""A recording is refused when it seems to need this times the time that is left. Speech is not spread evenly."""
_CAUTION = 0.9
"""What is said to fit is that much less than what seems to."""

_LEAST_BITS_PER_S = {"mp3": 8_000, "aac": 4_000, "amr_nb": 1_800, "amr_wb": 1_800}
"""Of codecs that have a least: a header that claims more seconds than the file has room for is lying."""
_LEAST_BITS_PER_S_OTHERWISE = 500
_SECONDS_SAY_MORE_BELOW_S = 120.0


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
        self._next_look_s = _LOOKED_AT_EVERY_S

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
        self._next_look_s = done_s + _LOOKED_AT_EVERY_S
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
    least = 8 * bytes_per_s_of_pcm if codec.startswith("pcm_") else _LEAST_BITS_PER_S.get(codec)
    longest_s = size_bytes * 8 / (least or _LEAST_BITS_PER_S_OTHERWISE)
    return claimed_s if claimed_s <= longest_s else None


def _spoken_duration(seconds: float) -> str:
    """As a person says it, rounded down: "2 h 5 min", "7 min", "40 s"."""
    if seconds == inf:
        return "any duration"
    if seconds < _SECONDS_SAY_MORE_BELOW_S:
        return f"{int(seconds)} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
