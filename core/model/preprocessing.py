"""From samples to what a network was trained on: the window or the clip, and its normalisation.

This repeats what `Wav2Vec2FeatureExtractor` does, in NumPy, because importing transformers costs the function four
seconds; tests hold the two together. For the window it is called with
``padding="max_length", truncation=True, max_length=96000`` and returns no mask; for the clip it pads a batch to its
longest and returns a mask, and what it does to one clip does not depend on the others.
"""

import numpy as np

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.errors import EmptyRecording

_VARIANCE_FLOOR = 1e-7
"""`Wav2Vec2FeatureExtractor`'s own; releases before 4.9 had 1e-5."""


def normalise(waveform: Waveform, window_samples: int = WINDOW_SAMPLES) -> Waveform:
    """Pad with zeros to the window, or cut to it, then scale to zero mean and unit variance.

    The order matters: the checkpoint was trained on statistics that include the padding.

    Parameters
    ----------
    waveform
        Mono samples at 16 kHz, shape ``(n,)``, ``n >= 1``.
    window_samples
        The length to pad or cut to.

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
    mean, scale = window_statistics(clip, window_samples)
    return (window - np.float32(mean)) / np.float32(scale)


def normalise_clip(waveform: Waveform, receptive_field: int, most_samples: int = WINDOW_SAMPLES) -> Waveform:
    """Scale a clip to zero mean and unit variance over itself; one too short for a single frame is then padded.

    The padding comes after the normalisation, as it does in a batch of the reference: what is heard of a click of ten
    milliseconds is the click and zeros behind it, in one frame.

    Parameters
    ----------
    waveform
        Mono samples at 16 kHz, shape ``(n,)``, ``n >= 1``.
    receptive_field
        Samples that one frame of the feature encoder sees: 400 in the published networks.
    most_samples
        What lies behind is cut off: no utterance is longer, and attention's cost grows with the square.

    Returns
    -------
    Shape ``(max(min(n, most_samples), receptive_field),)``, float32.

    Raises
    ------
    EmptyRecording
        If there are no samples.
    """
    clip = waveform[:most_samples]
    normalised = normalise(clip, clip.size)
    return np.pad(normalised, (0, max(0, receptive_field - clip.size)))


def window_statistics(clip: Waveform, window_samples: int = WINDOW_SAMPLES) -> tuple[float, float]:
    """Mean and scale of the zero-padded window, without building it.

    Returns
    -------
    The mean, and the square root of the variance plus 1e-7.

    Raises
    ------
    EmptyRecording
        If there are no samples.
    """
    if clip.size == 0:
        raise EmptyRecording("There are no samples to classify.")
    samples = clip.astype(np.float64)
    mean = samples.sum() / window_samples
    # Centred before squaring: a recording with a large constant offset would lose its digits otherwise.
    squares = np.square(samples - mean).sum() + (window_samples - clip.size) * mean**2
    return float(mean), float(np.sqrt(squares / window_samples + _VARIANCE_FLOOR))
