"""Normalises samples as the networks were trained: the padded window, or the clip alone.

This is `Wav2Vec2FeatureExtractor` in NumPy, because importing transformers takes four seconds. Tests compare the two:

- For the window, with ``padding="max_length", truncation=True, max_length=96000`` and without a mask.
- For the clip, in a batch padded to its longest clip, with a mask. The result for a clip does not depend on the others.
"""

import numpy as np

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.errors import EmptyRecording

VARIANCE_FLOOR = 1e-7
"""The number that is added to the variance. It is that of `Wav2Vec2FeatureExtractor` since transformers 4.9; earlier
releases used 1e-5."""


def normalise(
    waveform: Waveform, window_samples: int = WINDOW_SAMPLES, variance_floor: float = VARIANCE_FLOOR
) -> Waveform:
    """Pad with zeros or cut to the window, then scale to zero mean and unit variance.

    The order matters: the checkpoint was trained on statistics that include the padding.

    Parameters
    ----------
    waveform
        Mono samples at 16 kHz, shape ``(n,)``, ``n >= 1``.
    window_samples
        The length of the window.
    variance_floor
        The number that is added to the variance.

    Returns
    -------
    Shape ``(window_samples,)``, float32.

    Raises
    ------
    EmptyRecording
        If there are no samples.
    """
    window = np.zeros(window_samples, np.float32)
    clip = waveform[:window_samples]
    window[: clip.size] = clip
    mean, scale = window_statistics(clip, window_samples, variance_floor)
    return (window - np.float32(mean)) / np.float32(scale)


def normalise_clip(
    waveform: Waveform,
    receptive_field: int,
    max_samples: int = WINDOW_SAMPLES,
    variance_floor: float = VARIANCE_FLOOR,
) -> Waveform:
    """Scale a clip to zero mean and unit variance over itself, then pad a clip that is too short for one frame.

    The padding follows the normalisation, as in a batch of the reference: a click of 10 ms becomes one frame with zeros
    after the click.

    Parameters
    ----------
    waveform
        Mono samples at 16 kHz, shape ``(n,)``, ``n >= 1``.
    receptive_field
        Samples that one frame of the feature encoder depends on: 400 in the published networks.
    max_samples
        Longer clips are cut to this length. No utterance is longer, and attention's cost grows with the square.
    variance_floor
        The number that is added to the variance.

    Returns
    -------
    Shape ``(max(min(n, max_samples), receptive_field),)``, float32.

    Raises
    ------
    EmptyRecording
        If there are no samples.
    """
    clip = waveform[:max_samples]
    return cut_clip(normalise(clip, clip.size, variance_floor), receptive_field, max_samples)


def cut_clip(waveform: Waveform, receptive_field: int, max_samples: int = WINDOW_SAMPLES) -> Waveform:
    """Cut a clip to a length, and pad a clip that is too short for one frame; as in `normalise_clip`.

    Raises
    ------
    EmptyRecording
        If there are no samples.
    """
    clip = waveform[:max_samples]
    _check_not_empty(clip)
    return np.pad(clip, (0, max(0, receptive_field - clip.size)))


def window_statistics(
    clip: Waveform, window_samples: int = WINDOW_SAMPLES, variance_floor: float = VARIANCE_FLOOR
) -> tuple[float, float]:
    """Compute the mean and the scale of the zero-padded window without building the window.

    Returns
    -------
    The mean, and the square root of the variance plus `variance_floor`.

    Raises
    ------
    EmptyRecording
        If there are no samples.
    """
    _check_not_empty(clip)
    samples = clip.astype(np.float64)
    mean = samples.sum() / window_samples
    # Centred before squaring: otherwise a large constant offset would cancel significant digits.
    squares = np.square(samples - mean).sum() + (window_samples - clip.size) * mean**2
    return float(mean), float(np.sqrt(squares / window_samples + variance_floor))


def _check_not_empty(clip: Waveform) -> None:
    if clip.size == 0:
        raise EmptyRecording("There are no samples to classify.")
