"""The audio format that modules pass to each other: float32 at 16 kHz."""

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]
"""Mono samples at 16 kHz, float32, nominally in [-1, 1], shape ``(n,)``."""

Block = npt.NDArray[np.float32]
"""Samples of all channels at 16 kHz, float32, nominally in [-1, 1], shape ``(channels, n)``."""

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 96_000
"""Six seconds: the length that the published HuBERT checkpoint was trained on, padding included."""
