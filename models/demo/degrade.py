"""Degrades speech like real recordings: silence before and after, noise, equalisers, telephones.

The demo network is trained on degraded speech, so that it classifies a WAV file and a telephone call alike.
"""

import numpy as np

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform

_TELEPHONE_BAND_HZ = (250.0, 3_500.0)
_MU = 255.0
"""The companding constant of ITU-T G.711."""


def degrade(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """Degrade one utterance at random, within limits that keep the emotion audible.

    Parameters
    ----------
    waveform
        Mono samples at 16 kHz, shape ``(n,)``, float32 in [-1, 1].
    rng
        The source of all randomness.

    Returns
    -------
    Mono samples at 16 kHz, up to 0.8 s longer than the waveform, float32 in [-1, 1].
    """
    padded = np.pad(waveform, (_silence(rng), _silence(rng)))
    telephone = rng.random() < 0.2
    low_hz, high_hz = _TELEPHONE_BAND_HZ if telephone else (20.0, rng.uniform(3_500, 9_000))
    filtered = _filtered(padded, low_hz, high_hz, tilt_db_per_octave=rng.normal(scale=0.5))
    noise_db = rng.uniform(-60, -30)
    noisy = filtered + 10 ** (noise_db / 20) * np.sqrt(np.mean(filtered**2)) * rng.normal(size=filtered.size)
    scaled = rng.uniform(0.2, 0.95) * noisy / max(float(np.abs(noisy).max()), 1e-9)
    return (_mu_law(scaled) if telephone else scaled).astype(np.float32)


def _silence(rng: np.random.Generator) -> int:
    return int(rng.integers(0, int(0.4 * SAMPLE_RATE_HZ)))


def _filtered(waveform: Waveform, low_hz: float, high_hz: float, tilt_db_per_octave: float) -> Waveform:
    # Padded to a round size, because a Fourier transform of a prime number of samples is several times slower.
    size = -(-waveform.size // 4_096) * 4_096
    spectrum = np.fft.rfft(waveform, size)
    frequency_hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    gain = 10 ** (tilt_db_per_octave * np.log2(np.maximum(frequency_hz, 50.0) / 1_000) / 20)
    gain = gain / (1 + (frequency_hz / high_hz) ** 16) / (1 + (low_hz / np.maximum(frequency_hz, 1.0)) ** 8)
    return np.asarray(np.fft.irfft(spectrum * gain, size)[: waveform.size], np.float32)


def _mu_law(waveform: Waveform) -> Waveform:
    """Quantise to G.711's 8 bits and decode."""
    companded = np.sign(waveform) * np.log1p(_MU * np.abs(waveform)) / np.log1p(_MU)
    stepped = np.round(companded * 127) / 127
    return np.asarray(np.sign(stepped) * np.expm1(np.abs(stepped) * np.log1p(_MU)) / _MU, np.float32)
