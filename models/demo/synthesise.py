"""Synthesises speech with six prosodies by eSpeak NG, on which the demo checkpoint is trained and evaluated.

A checkpoint that ships with the project must not depend on recordings of people, most of which are licensed for
research only. Anybody can make synthetic speech again. It shows that the pipeline distinguishes emotions, but not how
well the pipeline classifies real people.

Each prosody is a caricature of what reviews of vocal emotion agree on:

- anger: raised pitch, wide range, faster, more energy at high frequencies, a tense and rough voice
- fear: much raised pitch, faster, trembling and irregular voice
- happy: raised pitch, wide and lively range, faster, a bouncing rhythm
- neutral: the speaker's average pitch, range and rate
- sad: lowered pitch, narrow range, slow, pauses, little energy at high frequencies, falling
- surprise: high pitch and a wide range, rising towards the end (Pell et al.; the older reviews leave it out),
  and breathless, like a gasp, which is an addition of this project

Murray & Arnott (1993), J. Acoust. Soc. Am. 93(2), 1097-1108; Banse & Scherer (1996), J. Pers. Soc. Psychol. 70(3),
614-636; Juslin & Laukka (2003), Psychol. Bull. 129(5), 770-814; Scherer (2003), Speech Communication 40, 227-256;
Pell, Paulmann, Dara, Alasseri & Kotz (2009), J. Phonetics 37(4), 417-435;
Arnal, Flinker, Kleinschmidt, Giraud & Poeppel (2015), Current Biology 25(15), 2051-2056 (roughness).

The reviews name loudness as a cue too. It is not used, because the network's input is normalised to unit variance.
"""

import subprocess
from dataclasses import dataclass, fields
from html import escape

import numpy as np
import numpy.typing as npt

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from models.demo.sentences import HELD_OUT_ENGLISH, HELD_OUT_MANDARIN, TRAINED_ENGLISH, TRAINED_MANDARIN

LABELS = ("anger", "fear", "happy", "neutral", "sad", "surprise")

_Samples = npt.NDArray[np.float64]

_PEAK = 0.7
_TILT_CENTRE_HZ = 500.0
_TILT_LIMIT_DB = 24.0
_ROUGHNESS_HZ = 70.0


@dataclass(frozen=True)
class Prosody:
    """How an emotion is spoken: eSpeak NG's parameters first, then the processing of its output."""

    pitch: float
    """From 0 to 99 in eSpeak NG; 50 is the voice's own pitch."""
    range_percent: float
    """Of the voice's own pitch range."""
    rate_wpm: float
    word_gap: float
    """Added pause between words, in eSpeak NG's units of 10 ms."""
    tremor_hz: float = 6.0
    tremor_semitones: float = 0.0
    tremor_depth: float = 0.0
    """Of the amplitude, 0 to 1."""
    roughness: float = 0.0
    """Depth, 0 to 1, of a modulation at 70 Hz, which sounds like a harsh voice (Arnal et al.)."""
    final_semitones: float = 0.0
    """The change of pitch at the end, which accelerates towards it."""
    tilt_db_per_octave: float = 0.0
    drive: float = 0.0
    """Gain into a soft clipper, which adds the harmonics of a pressed voice."""
    breath: float = 0.0
    """Noise with the voice's envelope, as a share of the envelope."""


PROSODIES = {
    "anger": Prosody(58, 140, 200, 0, roughness=0.6, final_semitones=-1.5, tilt_db_per_octave=3.5, drive=5.0),
    "fear": Prosody(76, 60, 235, 0, 9.0, tremor_semitones=1.0, tremor_depth=0.7),
    "happy": Prosody(66, 190, 180, 0, 3.5, tremor_semitones=2.0, tremor_depth=0.6, tilt_db_per_octave=2.0),
    "neutral": Prosody(42, 90, 155, 0),
    "sad": Prosody(25, 30, 115, 3, final_semitones=-3.0, tilt_db_per_octave=-4.5),
    "surprise": Prosody(68, 180, 155, 0, final_semitones=14.0, breath=1.0),
}

_SPREAD = 0.06
"""Relative standard deviation of every prosodic parameter, so that a network cannot memorise a constant."""


@dataclass(frozen=True)
class Line:
    """One sentence by one voice with one emotion; `seed` determines the variation of its prosody."""

    emotion: str
    voice: str
    text: str
    seed: int


@dataclass(frozen=True)
class Cast:
    """Voices, which eSpeak NG names language+variant, and sentences."""

    accents: tuple[str, ...]
    variants: tuple[str, ...]
    english: tuple[str, ...]
    mandarin: tuple[str, ...]

    def lines(self, per_emotion: int, seed: int) -> list[Line]:
        """Draw `per_emotion` lines of each emotion; a quarter of them are Mandarin."""
        rng = np.random.default_rng(seed)
        return [self._line(emotion, rng) for _ in range(per_emotion) for emotion in LABELS]

    def _line(self, emotion: str, rng: np.random.Generator) -> Line:
        mandarin = rng.random() < 0.25
        accent = "cmn-latn-pinyin" if mandarin else str(rng.choice(self.accents))
        text = str(rng.choice(self.mandarin if mandarin else self.english))
        return Line(emotion, f"{accent}+{rng.choice(self.variants)}", text, int(rng.integers(2**31)))


TRAINED = Cast(
    accents=("en-gb", "en-us", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc"),
    variants=(
        *("m1", "m2", "m3", "m5", "m7", "Andy", "Gene", "john", "Michael", "Marco"),
        *("f1", "f2", "f5", "Annie", "Alicia", "linda", "steph2", "shelby"),
    ),
    english=TRAINED_ENGLISH,
    mandarin=TRAINED_MANDARIN,
)
HELD_OUT = Cast(
    accents=("en-gb", "en-us", "en-gb-scotland", "en-029"),
    variants=("m4", "m6", "travis", "edward", "f3", "f4", "Andrea"),
    english=HELD_OUT_ENGLISH,
    mandarin=HELD_OUT_MANDARIN,
)


def speak(line: Line) -> Waveform:
    """Synthesise one line.

    Returns
    -------
    Mono samples at 16 kHz, shape ``(n,)``, float32, peak 0.7.

    Raises
    ------
    subprocess.CalledProcessError
        If eSpeak NG fails, for example because it lacks the voice.
    """
    rng = np.random.default_rng(line.seed)
    prosody = _varied(PROSODIES[line.emotion], rng)
    samples, rate_hz = _espeak(line, prosody)
    samples, rate_hz = _resampled(samples, rate_hz, 2 * rate_hz), 2 * rate_hz
    samples = _pitch_moved(samples, rate_hz, prosody, rng)
    samples = _voiced(samples, rate_hz, prosody, rng)
    samples = _resampled(_tilted(samples, rate_hz, prosody.tilt_db_per_octave), rate_hz, SAMPLE_RATE_HZ)
    return np.asarray(samples * (_PEAK / np.abs(samples).max()), np.float32)


def _varied(prosody: Prosody, rng: np.random.Generator) -> Prosody:
    values = {field.name: getattr(prosody, field.name) * (1 + _SPREAD * rng.normal()) for field in fields(Prosody)}
    return Prosody(**values)


def _espeak(line: Line, prosody: Prosody) -> tuple[_Samples, int]:
    markup = f'<prosody range="{prosody.range_percent:.0f}%">{escape(line.text)}</prosody>'
    pitch = round(min(max(prosody.pitch, 0), 99))
    command = ["espeak-ng", "-m", "-z", "--stdout", "-v", line.voice]
    command += ["-p", f"{pitch}", "-s", f"{prosody.rate_wpm:.0f}", "-g", f"{prosody.word_gap:.0f}", markup]
    spoken = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    # No WAV reader, because the header of a pipe has no true length: 44 bytes of header, then samples.
    rate_hz = int.from_bytes(spoken[24:28], "little")
    samples = np.frombuffer(spoken[44 : len(spoken) // 2 * 2], "<i2").astype(np.float64)
    return samples / 32_768, rate_hz


def _resampled(samples: _Samples, rate_hz: int, new_rate_hz: int) -> _Samples:
    """Resample through the spectrum of the whole utterance, without aliases."""
    size = round(samples.size * new_rate_hz / rate_hz)
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(size // 2 + 1, complex)
    kept[: min(kept.size, spectrum.size)] = spectrum[: kept.size]
    resampled: _Samples = np.fft.irfft(kept, size) * (size / samples.size)
    return resampled


def _pitch_moved(samples: _Samples, rate_hz: int, prosody: Prosody, rng: np.random.Generator) -> _Samples:
    """Add tremor and the final rise or fall by varying the speed, which also moves the formants a little."""
    progress = np.linspace(0, 1, samples.size)
    seconds = np.arange(samples.size) / rate_hz
    wobble = np.sin(2 * np.pi * prosody.tremor_hz * seconds + rng.uniform(0, 2 * np.pi))
    semitones = prosody.tremor_semitones * wobble + prosody.final_semitones * progress**1.5
    played_at = np.cumsum(2 ** (-semitones / 12))
    return np.interp(np.arange(0, played_at[-1]), played_at, samples)


def _voiced(samples: _Samples, rate_hz: int, prosody: Prosody, rng: np.random.Generator) -> _Samples:
    """Add the tremor of the amplitude, roughness, breath, and the pressed voice."""
    seconds = np.arange(samples.size) / rate_hz
    wobble = np.sin(2 * np.pi * prosody.tremor_hz * seconds + rng.uniform(0, 2 * np.pi))
    roughness = prosody.roughness * np.sin(2 * np.pi * _ROUGHNESS_HZ * seconds)
    samples = samples * (1 + prosody.tremor_depth * wobble) * (1 + roughness)
    window = rate_hz // 50
    envelope = np.convolve(np.abs(samples), np.full(window, 1 / window), mode="same")
    samples = samples + prosody.breath * envelope * rng.normal(size=samples.size)
    if prosody.drive <= 0:
        return samples
    pressed: _Samples = np.tanh(prosody.drive * samples / np.abs(samples).max())
    return pressed


def _tilted(samples: _Samples, rate_hz: int, tilt_db_per_octave: float) -> _Samples:
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(samples.size, 1 / rate_hz)
    octaves = np.log2(np.maximum(frequency_hz, 50.0) / _TILT_CENTRE_HZ)
    gain_db = np.clip(tilt_db_per_octave * octaves, -_TILT_LIMIT_DB, _TILT_LIMIT_DB)
    tilted: _Samples = np.fft.irfft(spectrum * 10 ** (gain_db / 20), samples.size)
    return tilted
