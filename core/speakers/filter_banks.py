"""The input of the speaker network: log mel filter banks as Kaldi computes them, in NumPy.

Tests compare them with kaldi-native-fbank. The options are those that CAM++ was trained with: 80 banks, the Povey
window, no dither, and samples in [-1, 1]. The scale matters, because Kaldi's floor of the energies does not scale with
the samples: silence and the empty upper half of a telephone band are below it. See docs/decisions/0045-two-voices.md.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform

BANKS = 80
FRAME_SAMPLES = 400
"""25 ms."""
HOP_SAMPLES = 160
"""10 ms."""

FilterBanks = npt.NDArray[np.float32]
"""Log mel energies, shape ``(frames, BANKS)``."""

_FFT_SAMPLES = 512
_PREEMPHASIS = 0.97
_POVEY_EXPONENT = 0.85
_MIN_FREQUENCY_HZ = 20.0
_MIN_ENERGY = np.finfo(np.float32).eps


def filter_banks(samples: Waveform) -> FilterBanks:
    """Return the log mel energies of each frame.

    Parameters
    ----------
    samples
        Mono samples at 16 kHz, shape ``(n,)``, float32 in [-1, 1].

    Returns
    -------
    Shape ``(frames, 80)``. A frame lies completely within the samples, so there are ``1 + (n - 400) // 160`` frames,
    and none if ``n < 400``.
    """
    if samples.size < FRAME_SAMPLES:
        return np.empty((0, BANKS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES)[::HOP_SAMPLES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    windowed = (frames - np.float32(_PREEMPHASIS) * previous) * _window()
    power = np.square(np.abs(np.fft.rfft(windowed, _FFT_SAMPLES)[:, : _FFT_SAMPLES // 2]))
    return np.log(np.maximum(power @ _mel_weights(), _MIN_ENERGY))


@cache
def _window() -> npt.NDArray[np.float32]:
    """Return Kaldi's Povey window: a Hann window to the power of 0.85."""
    return np.power(np.hanning(FRAME_SAMPLES), _POVEY_EXPONENT).astype(np.float32)


@cache
def _mel_weights() -> npt.NDArray[np.float32]:
    """Return the weight of each frequency in each bank, shape ``(256, 80)``: triangles of equal width in mel."""
    edges = np.linspace(_mel(_MIN_FREQUENCY_HZ), _mel(SAMPLE_RATE_HZ / 2), BANKS + 2)
    bins = _mel(np.arange(_FFT_SAMPLES // 2) * SAMPLE_RATE_HZ / _FFT_SAMPLES)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return np.maximum(triangles, 0.0).astype(np.float32)


def _mel(frequency_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(frequency_hz, np.float64) / 700.0)
