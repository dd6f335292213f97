"""Groups the channels of a recording that carry the same speech.

A phone call has a channel for each side. One microphone saved in stereo has two channels as well. Two tests distinguish
the cases:

- The difference in level between the channels. In a call it swings by tens of decibels, because one side speaks while
  the other is quiet. With one microphone, or with two in one recorder, it stays nearly constant.
- The correlation of the samples, because loud noise on a line hides the swing. The test allows for the time that sound
  takes from one microphone to the other.

Channels of opposite phase carry the same speech but stay separate, because mixed they cancel each other out.

With more than two channels, each joins the first earlier channel that carries the same speech. A group is mixed into
one channel, which has the number of the group's first channel.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from core.audio.offset import remove_offset
from core.audio.waveform import SAMPLE_RATE_HZ, Block, Waveform

Mode = Literal["auto", "split", "mix"]
ChannelGroup = tuple[int, ...]
"""Channels that are mixed, in ascending order; usually one."""

GROUPING_S = 60.0
"""`auto` decides by this much of the recording's beginning, which takes 4 MB of memory for each channel
(docs/decisions/0019-long-recordings.md)."""

_FRAME_SAMPLES = SAMPLE_RATE_HZ // 20
_MIN_LEVEL = 1e-5
"""-100 dB. It replaces the level of digital silence, whose logarithm is undefined."""
_SILENT_DB = -75.0
"""A channel whose loud frames are below this level contains only noise."""
_ACTIVE_DB = 25.0
"""Frames this much quieter than the loud ones are pauses, whose noise does not show which side speaks."""
_MAX_SWING_DB = 10.0
"""Maximum range from the 10th to the 90th percentile of the level difference. The range is 0 for one microphone, a few
dB for a stereo recorder, and 30 dB or more for a call."""
_MIN_CORRELATION = 0.3
"""Minimum correlation of the samples at the best delay. Lines that share only mains hum stay below 0.1."""
_MAX_DELAY_SAMPLES = SAMPLE_RATE_HZ // 1000
"""1 ms, the time that sound takes between two microphones 34 cm apart."""
_MAX_DIFFERENCE_DB = 15.0
"""A channel that is always fainter than another by more than this contains an echo or nothing."""


def group_channels(head: Block, mode: Mode) -> tuple[ChannelGroup, ...]:
    """Decide which channels to mix.

    Parameters
    ----------
    head
        The first `GROUPING_S` of the recording, or all of a shorter one: shape ``(channels, n)`` at 16 kHz.
    mode
        ``mix`` mixes all channels, ``split`` none, ``auto`` those that carry the same speech.

    Returns
    -------
    The groups, in the order of their first channels.
    """
    channels = range(head.shape[0])
    if mode == "mix":
        return (tuple(channels),)
    if mode == "split":
        return tuple((channel,) for channel in channels)
    groups: list[list[int]] = []
    levels = _levels_db(head)

    def carry_same_speech(one: int, other: int) -> bool:
        return _levels_move_together(levels[one], levels[other]) and _correlate(head[one], head[other])

    for channel in channels:
        same = next((group for group in groups if carry_same_speech(group[0], channel)), None)
        if same is None:
            groups.append([channel])
        else:
            same.append(channel)
    return tuple(map(tuple, groups))


def mix(block: Block, group: ChannelGroup) -> Waveform:
    """Average a group's channels: shape ``(channels, n)`` in, ``(n,)`` out."""
    if len(group) == 1:
        return np.ascontiguousarray(block[group[0]])
    chosen = block if len(group) == block.shape[0] else block[list(group)]
    return np.asarray(chosen.mean(axis=0), np.float32)


def _levels_db(head: Block) -> Sequence[npt.NDArray[np.float64]]:
    frames = -(-head.shape[1] // _FRAME_SAMPLES)
    levels = []
    for samples in head:  # one at a time: sixteen channels at once take another 60 MB
        padded = np.pad(samples, (0, frames * _FRAME_SAMPLES - samples.size)).reshape(frames, _FRAME_SAMPLES)
        levels.append(20 * np.log10(np.maximum(padded.std(axis=1), _MIN_LEVEL)).astype(np.float64))
    return levels


def _levels_move_together(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> bool:
    if not one.size:
        return True
    louder = np.maximum(one, other)
    loud = np.percentile(louder, 98)
    if loud < _SILENT_DB:
        return False  # undecidable; keeping equal channels separate does less harm than mixing two people
    active = louder >= loud - _ACTIVE_DB
    difference = (one - other)[active]
    low, middle, high = np.percentile(difference, (10, 50, 90))
    return bool(high - low <= _MAX_SWING_DB and abs(middle) <= _MAX_DIFFERENCE_DB)


def _correlate(one: Waveform, other: Waveform) -> bool:
    one, other = remove_offset(one), remove_offset(other)
    energy = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    if energy == 0.0:
        return False
    delays = range(min(_MAX_DELAY_SAMPLES + 1, one.size))
    sums = [float(np.dot(a[delay:], b[: b.size - delay])) for a, b in ((one, other), (other, one)) for delay in delays]
    return max(sums) / energy >= _MIN_CORRELATION
