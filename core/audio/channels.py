"""Which channels of a recording belong together.

The two sides of a phone call come as two channels, and so does one microphone that was saved in stereo. What tells them
apart first is the difference in level between the channels: in a call it swings by tens of decibels, as one side speaks
and the other is quiet; with one microphone, or two in one recorder, it nearly stays what it is. Loud noise on a line
hides the swing, so the samples have to go together as well, give or take the way of the sound from one microphone to
the next. Channels of opposite phase carry the same, but are kept apart: mixed, they would cancel each other out.

With more than two channels, each joins the first one before it that carries the same; those that carry the same are
mixed into one, which bears the number of the first.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from core.audio.decode import Block
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform

Mode = Literal["auto", "split", "mix"]
ChannelGroup = tuple[int, ...]
"""Channels that are mixed, in ascending order; most often one alone."""

LISTENED_S = 60.0
"""How much of a recording `auto` hears before it decides, and so holds in memory: 4 MB a channel."""

_FRAME_SAMPLES = SAMPLE_RATE_HZ // 20
_FAINTEST = 1e-5
"""Levels are not measured below this (-100 dB): digital silence has none."""
_SILENT_DB = -75.0
"""Below this a channel holds nothing but its own noise."""
_ACTIVE_DB = 25.0
"""Frames that are so much below the loud ones are pauses, whose noise says nothing of who speaks."""
_MAX_SWING_DB = 10.0
"""Between the 10th and the 90th percentile of the level difference. One microphone: 0. Two of a stereo recorder, which
a conversation moves between: a few. A call: 30 and more."""
_MIN_CORRELATION = 0.3
"""Of the samples, at the best of the delays. Lines that have nothing but the mains' hum in common stay below 0.1."""
_MAX_DELAY_SAMPLES = SAMPLE_RATE_HZ // 1000
"""The way of the sound between two microphones 34 cm apart."""
_MAX_DIFFERENCE_DB = 15.0
"""A channel that is steadily so much fainter than another holds its echo, or nothing."""


def group_channels(head: Block, mode: Mode) -> tuple[ChannelGroup, ...]:
    """Decide which channels are mixed.

    Parameters
    ----------
    head
        The beginning of the recording, or all of it: shape ``(channels, n)``.
    """
    channels = range(head.shape[0])
    if mode == "mix":
        return (tuple(channels),)
    if mode == "split":
        return tuple((channel,) for channel in channels)
    groups: list[list[int]] = []
    levels = _levels_db(head)

    def carry_the_same(one: int, other: int) -> bool:
        return _go_up_and_down_together(levels[one], levels[other]) and _correlate(head[one], head[other])

    for channel in channels:
        same = next((group for group in groups if carry_the_same(group[0], channel)), None)
        if same is None:
            groups.append([channel])
        else:
            same.append(channel)
    return tuple(map(tuple, groups))


def mix(block: Block, group: ChannelGroup) -> Waveform:
    """The mean of a group's channels: shape ``(channels, n)`` in, ``(n,)`` out."""
    if len(group) == 1:
        return np.ascontiguousarray(block[group[0]])
    chosen = block if len(group) == block.shape[0] else block[list(group)]
    return np.asarray(chosen.mean(axis=0), np.float32)


def _levels_db(head: Block) -> Sequence[npt.NDArray[np.float64]]:
    frames = -(-head.shape[1] // _FRAME_SAMPLES)
    levels = []
    for samples in head:  # one at a time: sixteen channels at once would be another sixty megabytes
        padded = np.pad(samples, (0, frames * _FRAME_SAMPLES - samples.size)).reshape(frames, _FRAME_SAMPLES)
        levels.append(20 * np.log10(np.maximum(padded.std(axis=1), _FAINTEST)).astype(np.float64))
    return levels


def _go_up_and_down_together(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    if not one.size:
        return True
    louder = np.maximum(one, other)
    loud = np.percentile(louder, 98)
    if loud < _SILENT_DB:
        return False  # nothing to tell from; keeping apart what is the same does less harm than mixing two people
    active = louder >= loud - _ACTIVE_DB
    difference = (one - other)[active]
    low, middle, high = np.percentile(difference, (10, 50, 90))
    return bool(high - low <= _MAX_SWING_DB and abs(middle) <= _MAX_DIFFERENCE_DB)


def _correlate(one: Waveform, other: Waveform) -> bool:
    energy = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    if energy == 0.0:
        return False
    delays = range(min(_MAX_DELAY_SAMPLES + 1, one.size))
    sums = [float(np.dot(a[delay:], b[: b.size - delay])) for a, b in ((one, other), (other, one)) for delay in delays]
    return max(sums) / energy >= _MIN_CORRELATION
