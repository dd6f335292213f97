"""How surely somebody speaks, 31 times a second: Silero's network, run by ONNX Runtime.

The network comes out of the package `silero-vad`, which imports PyTorch when it is imported. So it is installed without
its dependencies, and only its file is read. Of its files, the "sequence" one takes many frames in a call and hands back
its state; core/audio/silero.py lays it out anew, which halves what it costs.

Two things are done to what it hears, both measured on phone calls. After some seconds of quiet the network's state
expects quiet, and it sleeps through a short "uh" that it hears well when it starts afresh: so it starts afresh while
nobody speaks. And it hears best what is neither faint nor clipped: so faint sound is amplified.
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.audio.silero import HIDDEN, HOP_SAMPLES, SPECTRA, WINDOW_SAMPLES, rearranged
from core.audio.waveform import Waveform
from core.errors import VoiceActivityUnavailable
from core.onnx_session import onnx_session

Probabilities = npt.NDArray[np.float32]
"""One for each frame, shape ``(frames,)``."""

Frames = npt.NDArray[np.float32]
"""Shape ``(frames, FRAME_SAMPLES)``."""

FRAME_SAMPLES = 512
"""32 ms: what the network was made for."""

_PACKAGE = "silero_vad"
_FILE = Path("data", "silero_vad_16k_sequence.onnx")
_CONTEXT_SAMPLES = 64
"""Of the frame before, which each frame carries in front. Behind, it is mirrored for as long."""
_STATE_SHAPE = (1, 1, HIDDEN)
_BLOCK_FRAMES = 32
"""Frames in one call: a second, so that what is decoded in a second can be judged at once."""
_QUIET = 0.2
"""A block in which no frame reaches this leaves nothing behind that the next one should expect."""

_TARGET_PEAK = 0.5
_MAX_GAIN = 30.0
"""The network misses a fifth of the speech at a thirtieth of full scale. Amplified noise is still no voice to it."""
_PEAK_DECAY = 0.95
"""A block's share of the loudest peak before it: a loud word stops counting after half a minute."""

_DIGITAL_SILENCE = 1e-4
"""The dither of 16 bits: -80 dB of full scale."""
_INAUDIBLE = 1e-3
"""What is 60 dB below the loudest of the last half minute is no part of a conversation."""

_TONE_SHARE = 0.999
"""A frame with this share of its energy in five neighbouring bins (150 Hz) is a tone, not a voice: of the speech frames
in 446 utterances, 0.02 % are so pure. Without it, some steady tones count as voices for minutes."""
_WORTH_A_LOOK = 0.1
_HANN = np.hanning(FRAME_SAMPLES).astype(np.float32)


class VoiceActivityDetector:
    """The network; one serves any number of channels."""

    def __init__(self, network: bytes) -> None:
        # More threads only get in each other's way: the work is a chain of small steps.
        try:
            self._session = onnx_session(rearranged(network), threads=1)
        except ValueError as error:
            raise VoiceActivityUnavailable(
                f"{_PACKAGE}/{_FILE} is not the network that is known here: {error}."
            ) from error

    @classmethod
    @cache
    def load(cls) -> "VoiceActivityDetector":
        """Load the network, once in a process.

        Raises
        ------
        VoiceActivityUnavailable
            If the package is not installed, lacks the file, or has another network in it.
        """
        return cls(_network_file().read_bytes())

    def stream(self, *, peak: float = 0.0) -> "VadStream":
        """Start listening to one channel.

        Parameters
        ----------
        peak
            The loudest sample that will come, where that is known beforehand.
        """
        return VadStream(self._session, peak)

    def probabilities(self, waveform: Waveform) -> Probabilities:
        """Judge a whole recording of shape ``(n,)``; the last frame is filled up with silence."""
        stream = self.stream(peak=float(np.abs(waveform).max(initial=0.0)))
        return np.concatenate([stream.process(waveform), stream.finish()])


class VadStream:
    """What the network remembers of one channel."""

    def __init__(self, session: Any, peak: float) -> None:
        self._session = session
        self._waiting = np.empty(0, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._peak = peak
        self._forget()

    def process(self, samples: Waveform) -> Probabilities:
        """Take the next samples, shape ``(n,)``; judge what fills whole blocks of 1.024 s.

        How the samples are cut up makes no difference.
        """
        self._waiting = np.concatenate([self._waiting, samples])
        block_samples = _BLOCK_FRAMES * FRAME_SAMPLES
        whole = self._waiting.size // block_samples * block_samples
        judged = [self._judge(block) for block in self._waiting[:whole].reshape(-1, block_samples)]
        self._waiting = self._waiting[whole:]
        return np.concatenate([np.empty(0, np.float32), *judged])

    def finish(self) -> Probabilities:
        """Judge what is left."""
        if not self._waiting.size:
            return np.empty(0, np.float32)
        left, self._waiting = self._waiting, np.empty(0, np.float32)
        whole = np.pad(left, (0, -left.size % FRAME_SAMPLES))
        looked_at = whole.reshape(-1, FRAME_SAMPLES).copy()
        if left.size >= FRAME_SAMPLES:
            # A tone that ends within a frame is no pure one there.
            looked_at[-1] = left[-FRAME_SAMPLES:]
        return self._judge(whole, looked_at)

    def _forget(self) -> None:
        self._hidden = np.zeros(_STATE_SHAPE, np.float32)
        self._cell = np.zeros(_STATE_SHAPE, np.float32)

    def _judge(self, samples: Waveform, looked_at: Frames | None = None) -> Probabilities:
        """Judge whole frames; those to be looked at for tones may differ from those to be heard."""
        frames = samples.reshape(-1, FRAME_SAMPLES)
        peak = float(np.abs(samples).max())
        self._peak = max(self._peak * _PEAK_DECAY, peak)
        gain = min(_MAX_GAIN, max(1.0, _TARGET_PEAK / max(self._peak, 1e-9)))
        context, self._context = self._context, frames[-1, -_CONTEXT_SAMPLES:]
        if peak <= max(_DIGITAL_SILENCE, self._peak * _INAUDIBLE):
            # As in the pauses of many phone calls: nothing to ask the network.
            self._forget()
            return np.zeros(len(frames), np.float32)
        probabilities, self._hidden, self._cell = self._session.run(
            ["speech_probs", "hn", "cn"],
            {"windows": _windows(frames, context, gain), "h": self._hidden, "c": self._cell},
        )
        voices = _without_tones(probabilities.reshape(-1), frames if looked_at is None else looked_at)
        if voices.max() < _QUIET:
            self._forget()
        return voices


def _windows(frames: Frames, context: Waveform, gain: float) -> Frames:
    """What the network takes spectra of, four of each frame; `context` is what came before the first."""
    padded = np.empty((len(frames), _CONTEXT_SAMPLES + FRAME_SAMPLES + _CONTEXT_SAMPLES), np.float32)
    padded[0, :_CONTEXT_SAMPLES] = context
    padded[1:, :_CONTEXT_SAMPLES] = frames[:-1, -_CONTEXT_SAMPLES:]
    padded[:, _CONTEXT_SAMPLES:-_CONTEXT_SAMPLES] = frames
    padded[:, -_CONTEXT_SAMPLES:] = frames[:, -2 : -_CONTEXT_SAMPLES - 2 : -1]
    padded *= np.float32(gain)
    # Windows overlap by half, so each is two of the five stretches between where they begin.
    stretches = padded.reshape(len(frames), SPECTRA + 1, HOP_SAMPLES)
    windows: Frames = np.concatenate([stretches[:, :-1], stretches[:, 1:]], axis=2).reshape(-1, WINDOW_SAMPLES)
    return windows


def _without_tones(probabilities: Probabilities, frames: Frames) -> Probabilities:
    doubtful = np.flatnonzero(probabilities > _WORTH_A_LOOK)
    if not doubtful.size:
        return probabilities
    chosen = frames[doubtful]
    # The mean under the window, so that taking it out leaves none of the tone in the lowest bins.
    offsets = chosen @ _HANN[:, None] / _HANN.sum()
    spectra = np.fft.rfft((chosen - offsets) * _HANN)
    energies = spectra.real**2 + spectra.imag**2
    peaks = energies.argmax(axis=1)
    around = np.pad(energies, ((0, 0), (2, 2)))
    near = np.take_along_axis(around, peaks[:, None] + np.arange(5), axis=1).sum(axis=1)
    voices = probabilities.copy()
    voices[doubtful[near >= _TONE_SHARE * energies.sum(axis=1)]] = 0.0
    return voices


def _network_file() -> Path:
    # Neither of these runs the package: find_spec imports parents only, and this has none.
    found = importlib.util.find_spec(_PACKAGE) if _PACKAGE not in sys.modules else sys.modules[_PACKAGE].__spec__
    for folder in (found.submodule_search_locations or ()) if found else ():
        file = Path(folder) / _FILE
        if file.exists():
            return file
    raise VoiceActivityUnavailable(
        f"{_PACKAGE}/{_FILE} was not found: install requirements/no-deps.txt, with pip's option --no-deps."
    )
