"""Copies of utterances as telephones, noisy places and halls change them: to train with, and to test with.

libsndfile has the codecs of telephones and scipy has the filters: docs/decisions/0044-augmentation.md.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.errors import RecordingError, TrainingRefused
from core.settings import MediaLimits
from core.training.cache import hash_of

KINDS = ("telephone", "noise", "reverb", "gain")
"""The values of `--augment`."""
NO_AUGMENTATION = "none"

_VERSION = 3
"""Raised when the same options give other copies, so that the cache is not used."""
_TELEPHONE_HZ = 8_000
_TELEPHONE_BAND_HZ = (300.0, 3_400.0)
_MIN_SNR_DB, _MAX_SNR_DB = 0.0, 20.0
_TESTED_SNR_DB = 10.0
_WHITE, _PINK, _BROWN = 0.0, 1.0, 2.0
"""The powers of frequency with which the power of generated noise falls."""
_MIN_NOISE_HZ = 20.0
_DECAY_S = (0.2, 0.6)
"""The time in which a room's sound decays by 60 dB."""
_DIRECT_DB = (0.0, 12.0)
"""The direct sound's energy relative to the room's."""
_GAIN_DB = (-20.0, 10.0)
_MAX_NOISE_S = 20.0
"""Of a recording of noise, only the beginning is kept in memory."""
_MAX_NOISE_FILES = 300


@dataclass(frozen=True)
class Codec:
    """A codec of telephones, as libsndfile names it.

    Attributes
    ----------
    level
        Opus's bit rate, from 0 (256 kb/s) to 1 (the lowest).
    """

    format: str
    subtype: str
    level: float | None = None


MU_LAW = Codec("WAV", "ULAW")
A_LAW = Codec("WAV", "ALAW")
GSM = Codec("WAV", "GSM610")
OPUS = Codec("OGG", "OPUS", 0.98)
_CODECS, _SHARES = (MU_LAW, A_LAW, GSM, OPUS), (0.35, 0.35, 0.2, 0.1)
"""Opus takes ten times the processor time of GSM."""


class Copy(Protocol):
    """Changes an utterance. The same key always gives the same copy."""

    @property
    def identity(self) -> tuple[object, ...]:
        """Everything that the copy depends on besides the utterance, for keys in the cache."""

    def __call__(self, waveform: Waveform, key: str) -> Waveform:
        """Return a copy of the same length. The key is the utterance's own."""


@dataclass(frozen=True)
class Noise:
    """Recordings of noise from a folder, or generated noise if there are none.

    Attributes
    ----------
    recordings
        Mono samples at 16 kHz, none of them silent.
    key
        The hash of the recordings.
    """

    recordings: Sequence[Waveform] = field(default=(), compare=False, repr=False)
    key: str = ""

    def draw(self, samples: int, random: np.random.Generator, exponent: float) -> Waveform:
        """Return noise with a root mean square of 1.

        Parameters
        ----------
        exponent
            Of generated noise: 0 for white, 1 for pink.
        """
        if self.recordings:
            recording = self.recordings[int(random.integers(len(self.recordings)))]
            first = int(random.integers(max(1, recording.size - samples + 1)))
            part = np.resize(recording[first : first + samples], samples)
            if part.any():
                return (part / _rms(part)).astype(np.float32)
        return coloured_noise(samples, random, exponent)


@dataclass(frozen=True)
class Augmentation:
    """Random changes.

    Attributes
    ----------
    kinds
        Some of `KINDS`.
    """

    kinds: tuple[str, ...] = ()
    noise: Noise = Noise()

    @property
    def identity(self) -> tuple[object, ...]:
        """Everything that the copies depend on, for keys in the cache."""
        return ("augmentation", _VERSION, self.kinds, self.noise.key)

    def apply(self, waveform: Waveform, random: np.random.Generator) -> Waveform:
        """Return a changed copy of the same length, in the order of a call: the room, then the telephone."""
        steps: dict[str, tuple[float, Callable[[Waveform, np.random.Generator], Waveform]]] = {
            "reverb": (0.2, _reverberate),
            "noise": (0.5, self._add_noise),
            "gain": (0.3, _amplify),
            "telephone": (0.3, _telephone),
        }
        for kind, (share, change) in steps.items():
            # Drawn for other kinds too: with one kind less, the others stay the same.
            seed, is_drawn = random.integers(2**32), random.random() < share
            if is_drawn and kind in self.kinds:
                waveform = change(waveform, np.random.default_rng(seed))
        return waveform

    def _add_noise(self, waveform: Waveform, random: np.random.Generator) -> Waveform:
        snr_db = random.uniform(_MIN_SNR_DB, _MAX_SNR_DB)
        exponent = random.choice([_WHITE, random.uniform(_WHITE, _BROWN)])
        return add_noise(waveform, self.noise.draw(waveform.size, random, exponent), snr_db)


@dataclass(frozen=True)
class Clean:
    """The utterance as it is."""

    identity: tuple[object, ...] = ()

    def __call__(self, waveform: Waveform, key: str) -> Waveform:  # noqa: ARG002
        """Return the utterance."""
        return waveform


@dataclass(frozen=True)
class Telephone:
    """The utterance on a telephone line: 300 to 3,400 Hz, mu-law."""

    identity: tuple[object, ...] = ("telephone", _VERSION)

    def __call__(self, waveform: Waveform, key: str) -> Waveform:  # noqa: ARG002
        """Return the copy."""
        return through_telephone(waveform, MU_LAW, is_filtered=True)


@dataclass(frozen=True)
class Noisy:
    """The utterance in noise at 10 dB: pink noise, or that of the folder."""

    noise: Noise = Noise()

    @property
    def identity(self) -> tuple[object, ...]:
        """The noise."""
        return ("noise", _VERSION, self.noise.key)

    def __call__(self, waveform: Waveform, key: str) -> Waveform:
        """Return the copy."""
        noise = self.noise.draw(waveform.size, _generator(key, *self.identity), _PINK)
        return add_noise(waveform, noise, _TESTED_SNR_DB)


@dataclass(frozen=True)
class RandomCopy:
    """The utterance with random changes, which its key chooses."""

    augmentation: Augmentation
    seed: int

    @property
    def identity(self) -> tuple[object, ...]:
        """The augmentation and the seed."""
        return (*self.augmentation.identity, self.seed)

    def __call__(self, waveform: Waveform, key: str) -> Waveform:
        """Return the copy."""
        return self.augmentation.apply(waveform, _generator(key, *self.identity))


CLEAN = Clean()
CLEAN_NAME = "clean"
"""The condition of the recordings as they are."""


def conditions(noise: Noise) -> dict[str, Copy]:
    """Return the conditions of the test, by name."""
    return {CLEAN_NAME: CLEAN, "telephone": Telephone(), f"noise, {_TESTED_SNR_DB:g} dB": Noisy(noise)}


def parse_kinds(text: str) -> tuple[str, ...]:
    """Parse the option `--augment`.

    Raises
    ------
    TrainingRefused
        If a kind does not exist.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if names == [NO_AUGMENTATION]:
        return ()
    if not names or set(names) - set(KINDS):
        raise TrainingRefused(f"--augment needs some of {', '.join(KINDS)}, or {NO_AUGMENTATION}.")
    return tuple(kind for kind in KINDS if kind in names)


def read_noise(folder: Path, limits: MediaLimits, note: Callable[[str], None]) -> Noise:
    """Read the recordings of noise in a folder and its subfolders; leave out files that are no recordings.

    Raises
    ------
    TrainingRefused
        If there is none.
    """
    if not folder.is_dir():
        raise TrainingRefused(f"--noise {folder} is not a folder.")
    recordings, left_out = [], 0
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    step = -(-len(files) // _MAX_NOISE_FILES) or 1
    if step > 1:
        note(f"{folder} has {len(files):,} files, of which one in {step} is used.")
    for file in files[::step]:
        try:
            waveform = _beginning(file, limits)
        except RecordingError:
            left_out += 1
            continue
        if waveform.any():
            recordings.append(waveform)
        else:
            left_out += 1
    if not recordings:
        raise TrainingRefused(f"--noise {folder} has no recording that can be read.")
    if left_out:
        note(f"Left out {left_out:,} of the files in {folder}: they cannot be read, or are silent.")
    digests = [hashlib.sha256(recording.tobytes()).hexdigest() for recording in recordings]
    return Noise(tuple(recordings), hash_of(digests))


def through_telephone(waveform: Waveform, codec: Codec, *, is_filtered: bool) -> Waveform:
    """Return an utterance after a telephone line at 8 kHz.

    Parameters
    ----------
    is_filtered
        Whether the line passes only 300 to 3,400 Hz, as analogue lines do.
    """
    narrow = resample_poly(waveform, 1, SAMPLE_RATE_HZ // _TELEPHONE_HZ)
    if is_filtered:
        narrow = sosfilt(butter(4, _TELEPHONE_BAND_HZ, "bandpass", fs=_TELEPHONE_HZ, output="sos"), narrow)
    file = io.BytesIO()
    level = {} if codec.level is None else {"compression_level": codec.level}
    soundfile.write(file, np.clip(narrow, -1, 1), _TELEPHONE_HZ, format=codec.format, subtype=codec.subtype, **level)
    file.seek(0)
    decoded, _ = soundfile.read(file, frames=narrow.size, dtype="float32")
    return _fit(resample_poly(decoded, SAMPLE_RATE_HZ // _TELEPHONE_HZ, 1), waveform.size)


def add_noise(waveform: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Add noise of root mean square 1 at a ratio of signal to noise, of the whole utterance."""
    return (waveform + noise * _rms(waveform) * 10 ** (-snr_db / 20)).astype(np.float32)


def coloured_noise(samples: int, random: np.random.Generator, exponent: float) -> Waveform:
    """Return noise whose power falls with frequency to the power of `exponent`, with a root mean square of 1."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    frequencies_hz = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ), _MIN_NOISE_HZ)
    noise = np.fft.irfft(spectrum * frequencies_hz ** (-exponent / 2), samples)
    return (noise / _rms(noise)).astype(np.float32)


def reverberate(waveform: Waveform, random: np.random.Generator, decay_s: float, direct_db: float) -> Waveform:
    """Add a room's sound: noise that decays by 60 dB in `decay_s`, and is `direct_db` weaker than the direct sound."""
    seconds = np.arange(1, round(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    room = random.standard_normal(seconds.size) * 10 ** (-3 * seconds / decay_s)
    room *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(room**2))
    mixed = fftconvolve(waveform, np.concatenate([[1.0], room]))[: waveform.size]
    mixed *= _rms(waveform) / max(_rms(mixed), float(np.finfo(np.float32).tiny))
    return np.asarray(mixed, np.float32)


def _reverberate(waveform: Waveform, random: np.random.Generator) -> Waveform:
    return reverberate(waveform, random, random.uniform(*_DECAY_S), random.uniform(*_DIRECT_DB))


def _amplify(waveform: Waveform, random: np.random.Generator) -> Waveform:
    """Change the level; a level that is too high is clipped."""
    amplified: Waveform = np.clip(waveform * 10 ** (random.uniform(*_GAIN_DB) / 20), -1, 1).astype(np.float32)
    return amplified


def _telephone(waveform: Waveform, random: np.random.Generator) -> Waveform:
    codec = _CODECS[random.choice(len(_CODECS), p=_SHARES)]
    return through_telephone(waveform, codec, is_filtered=bool(random.integers(2)))


def _beginning(file: Path, limits: MediaLimits) -> Waveform:
    """Decode the beginning of a recording, and return the mean of its channels."""
    blocks, seconds = [], 0.0
    with closing(decode(file, probe(file, limits), limits)) as decoded:
        for block in decoded:
            blocks.append(block.mean(axis=0))
            seconds += block.shape[1] / SAMPLE_RATE_HZ
            if seconds >= _MAX_NOISE_S:
                break
    return np.concatenate(blocks).astype(np.float32)


def _fit(waveform: Waveform, samples: int) -> Waveform:
    """Cut or pad with zeros."""
    fitted: Waveform = np.pad(waveform[:samples], (0, max(0, samples - waveform.size))).astype(np.float32)
    return fitted


def _rms(waveform: npt.NDArray[np.floating[Any]]) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def _generator(*parts: object) -> np.random.Generator:
    return np.random.default_rng(int(hash_of(*parts), 16))
