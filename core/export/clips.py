"""Clips for the comparison of a package with its reference: recordings, and variants of each.

With fewer than a hundred clips, a single ambiguous one decides whether a package agrees on 99 %. The samples are a
dozen, so variants that differ as recordings do are added. They are the same in every run
(docs/decisions/0027-clips-of-the-parity-gate.md).
"""

from collections.abc import Iterable, Iterator

import numpy as np

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform

_TELEPHONE_BAND_HZ = (300.0, 3_400.0)


def with_variants(clips: Iterable[Waveform]) -> Iterator[Waveform]:
    """Yield each clip, shape ``(n,)`` at 16 kHz, and eight variants: two levels, speeds, noises, telephones."""
    for number, clip in enumerate(clips):
        rng = np.random.default_rng(number)
        yield clip
        yield from (_scaled(clip, -10.0), _scaled(clip, -20.0))
        yield from (_at_speed(clip, 0.9), _at_speed(clip, 1.1))
        yield from (_noisy(clip, 30.0, rng), _noisy(clip, 20.0, rng))
        telephone = _over_telephone(clip)
        yield from (telephone, _noisy(telephone, 20.0, rng))


def _scaled(clip: Waveform, gain_db: float) -> Waveform:
    # In steps of 16 bits, because a network that normalises its input would undo the gain alone.
    return np.asarray(np.rint(clip * 10 ** (gain_db / 20) * 2**15) / 2**15, np.float32)


def _at_speed(clip: Waveform, speed: float) -> Waveform:
    return np.asarray(np.interp(np.arange(0, clip.size - 1, speed), np.arange(clip.size), clip), np.float32)


def _noisy(clip: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
    level = 10 ** (-snr_db / 20) * np.sqrt(np.mean(np.square(clip)))
    return np.asarray(clip + level * rng.standard_normal(clip.size), np.float32)


def _over_telephone(clip: Waveform) -> Waveform:
    spectrum = np.fft.rfft(clip)
    frequency_hz = np.fft.rfftfreq(clip.size, 1 / SAMPLE_RATE_HZ)
    low_hz, high_hz = _TELEPHONE_BAND_HZ
    spectrum[(frequency_hz < low_hz) | (frequency_hz > high_hz)] = 0
    return np.fft.irfft(spectrum, clip.size).astype(np.float32)
