"""Places decoded sound at the times that a player shows.

Decoders return samples without gaps. The time stamps of a file may start late, because the camera ran before the
microphone, and they leap where packets are missing. ffmpeg reports each leap (`REPORT_LEAPS`), and `Timeline` inserts
silence (docs/decisions/0024-times-of-a-player.md):

- Time 0 is the start of the file: the earliest time stamp of any of its streams.
- Sound is never removed or moved back. Where time stamps repeat or go back, the sound follows what is before it.
- A leap counts from 0.15 s. Rounding and jitter of time stamps leave the samples as they are.
- Broken time stamps must not invent hours. A leap is closed if it ends after the duration that the file claims and
  could hold. Without such a claim, and after its end, which a file of several recordings may have, a leap of more than
  10 minutes is closed. Silence never extends a recording beyond `MAX_DURATION_S`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from core.audio.waveform import SAMPLE_RATE_HZ, Block

_MIN_LEAP_S = 0.15
"""More than a decoder's delay, which the first time stamp includes, and than the jitter of browsers' recordings."""
_MIN_RESTART_S = 1.0
"""Time stamps that go back further belong to another recording, appended to the first. There, time starts again."""
_CLAIM_TOLERANCE_S = 1.0
_MAX_UNCLAIMED_LEAP_S = 600.0
_BLOCK_SAMPLES = SAMPLE_RATE_HZ

REPORT_LEAPS = (
    f"if(not(isnan(t))*(eq(n,0)+gt(abs(t-ld(0)/sample_rate-ld(1)),{_MIN_LEAP_S})),"
    "print(ld(0)/sample_rate,16);print(st(1,t-ld(0)/sample_rate),16));"
    "st(0,ld(0)+samples_n);1"
)
"""Expression for ffmpeg's filter `aselect`, which passes all frames unchanged.

It prints two numbers for the first frame and for each leap: the seconds of sound before the frame, and the frame's time
stamp minus these. Variable 0 counts samples, variable 1 holds the difference that was printed last, and 16 is the log
level of errors. `asetpts` would evaluate the expression at the end of the file too, with a time stamp of another unit.
"""


@dataclass(frozen=True)
class Leap:
    """A place where the time stamps leap.

    Attributes
    ----------
    sound_s
        Sound before it.
    ahead_s
        The time stamp of the sound after it, minus `sound_s`.
    """

    sound_s: float
    ahead_s: float


class Timeline:
    """Inserts silence into the sound of one track, so that each sample has the time that a player shows.

    Parameters
    ----------
    claimed_s
        The duration that the file claims and could hold, or None.
    max_duration_s
        The limit beyond which silence does not extend the recording.
    start_s
        The time stamp of the file's start.
    """

    def __init__(self, claimed_s: float | None, max_duration_s: float, start_s: float = 0.0) -> None:
        self._start_s = start_s
        self._claimed_s = claimed_s
        self._max_duration_s = max_duration_s
        self._inserted_s = 0.0
        self._closed_s = 0.0
        self._placed_samples = 0
        self._numbers: deque[float] = deque()
        self._leaps: deque[Leap] = deque()
        self._last_sound_s = -1.0

    def place(self, block: Block, numbers: Iterable[float]) -> Iterator[Block]:
        """Yield the next block of sound, with silence where it belongs.

        Parameters
        ----------
        block
            The samples that follow those of the previous call.
        numbers
            What `REPORT_LEAPS` has printed since the previous call. A frame's numbers must not come after its samples.

        Yields
        ------
        Blocks of one second or less.
        """
        self._numbers.extend(numbers)
        while len(self._numbers) > 1:
            self._add(Leap(self._numbers.popleft(), self._numbers.popleft() - self._start_s))
        while self._leaps and (before := self._samples_before(self._leaps[0])) < block.shape[1]:
            if before > 0:
                yield block[:, :before]
                block = block[:, before:]
                self._placed_samples += before
            yield from _silence(block.shape[0], self.silence_before(self._leaps.popleft()))
        if block.shape[1]:
            yield block
        self._placed_samples += block.shape[1]

    def silence_before(self, leap: Leap) -> float:
        """Return the seconds of silence to insert at a leap. Call it once for each leap, in order."""
        ahead_s = leap.ahead_s - self._inserted_s - self._closed_s
        if -ahead_s > self._inserted_s + _MIN_RESTART_S:
            self._closed_s += ahead_s
        if ahead_s < _MIN_LEAP_S:
            return 0.0
        if not self._is_plausible(leap.sound_s + self._inserted_s, ahead_s):
            self._closed_s += ahead_s
            return 0.0
        self._inserted_s += ahead_s
        return ahead_s

    def _is_plausible(self, from_s: float, duration_s: float) -> bool:
        if from_s + duration_s > self._max_duration_s:
            return False
        if self._claimed_s is not None and from_s <= self._claimed_s + _CLAIM_TOLERANCE_S:
            return from_s + duration_s <= self._claimed_s + _CLAIM_TOLERANCE_S
        return duration_s <= _MAX_UNCLAIMED_LEAP_S

    def _add(self, leap: Leap) -> None:
        """Queue a leap.

        ffmpeg counts sound from 0 again where the sample rate or the layout changes within a file. The places of later
        leaps are unknown, so they are closed.
        """
        if leap.sound_s <= self._last_sound_s:
            self._last_sound_s = inf
        if self._last_sound_s != inf:
            self._last_sound_s = leap.sound_s
            self._leaps.append(leap)

    def _samples_before(self, leap: Leap) -> int:
        return round(leap.sound_s * SAMPLE_RATE_HZ) - self._placed_samples


def _silence(channels: int, duration_s: float) -> Iterator[Block]:
    samples = round(duration_s * SAMPLE_RATE_HZ)
    for start in range(0, samples, _BLOCK_SAMPLES):
        yield np.zeros((channels, min(_BLOCK_SAMPLES, samples - start)), np.float32)
