"""Removes a DC offset: a constant that a sound card or converter adds to every sample.

Padding with zeros turns an offset into a step, which changes the classified emotion and looks like speech to the voice
activity network. Only an evident offset is removed, because training data has small ones, and networks learn them. The
thresholds are measured in docs/decisions/0022-evident-offsets.md.
"""

import numpy as np

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform

_MIN_SAMPLES = SAMPLE_RATE_HZ // 4
"""0.25 s. The quarters of a shorter sound may have a common mean without an offset."""
_PARTS = 4
"""All quarters of the samples must share the offset. A rumble or a pop moves the mean of one quarter only."""
_MIN_OFFSET = 0.01
"""1 % of full scale. The quarters of recordings without a fault stay below 0.5 %."""
_MIN_OFFSET_TO_LEVEL = 1.0
"""A smaller offset is evident if it exceeds the standard deviation, because the networks scale every clip alike."""


def remove_offset(waveform: Waveform) -> Waveform:
    """Subtract an evident offset, or return the same array if there is none.

    Parameters
    ----------
    waveform
        Mono samples at 16 kHz, shape ``(n,)``.
    """
    offset = evident_offset(waveform)
    return waveform - offset if offset else waveform


def evident_offset(waveform: Waveform) -> np.float32:
    """Return the mean of samples at 16 kHz, shape ``(n,)``, if it is an evident offset, and 0 otherwise."""
    if waveform.size < _MIN_SAMPLES:
        return np.float32(0.0)
    parts = waveform[: waveform.size // _PARTS * _PARTS].reshape(_PARTS, -1).mean(axis=1, dtype=np.float64)
    if parts.min() <= 0.0 <= parts.max():
        return np.float32(0.0)
    smallest = np.abs(parts).min()
    # Float files may exceed full scale. Their loudest sample replaces it.
    is_large = smallest > _MIN_OFFSET and smallest > _MIN_OFFSET * np.abs(waveform).max()
    if is_large or smallest > _MIN_OFFSET_TO_LEVEL * waveform.std(dtype=np.float64):
        return np.float32(waveform.mean(dtype=np.float64))
    return np.float32(0.0)
