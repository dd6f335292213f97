"""The probability of speech in each 32 ms of a recording: Silero VAD, run by ONNX Runtime.

`tools/make_silero.py` makes `silero.onnx` from the published network, in a form that computes faster. Two steps around
the network were tuned on phone calls:

- The state is reset during pauses. Otherwise the network would miss a short "uh" after seconds of quiet.
- Faint audio is amplified, because the network misses faint speech.

The figures are in docs/decisions/0011-voice-activity-network.md.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.audio.state import State, pack, unpack
from core.audio.waveform import Waveform
from core.errors import VoiceActivityUnavailable
from core.onnx_session import onnx_session

Probabilities = npt.NDArray[np.float32]
"""One probability for each frame, shape ``(frames,)``."""

Frames = npt.NDArray[np.float32]
"""Shape ``(frames, FRAME_SAMPLES)``."""

NETWORK_FILE = Path(__file__).with_name("silero.onnx")
"""The network, under the licence in `silero.LICENSE`."""
NETWORK_SHA256 = "a4a9c27348af5a77f9d1a50af9b38e9a5f965d6493f1bf5fef5bd3337404a23a"

FRAME_SAMPLES = 512
"""32 ms, the length that the network was trained on."""
FFT_SAMPLES = 256
"""Samples in the window of one spectrum."""
HOP_SAMPLES = 128
SPECTRA = 4
"""Number of spectra in a frame."""
HIDDEN = 128
"""Size of the network's state."""

_CONTEXT_SAMPLES = 64
"""Each frame is preceded by this much of the previous frame, and followed by its own last samples, mirrored."""
_STATE_SHAPE = (1, 1, HIDDEN)
_STATE_ARRAYS = ("waiting", "context", "hidden", "cell")
_BLOCK_FRAMES = 32
BLOCK_SAMPLES = _BLOCK_FRAMES * FRAME_SAMPLES
"""Samples in one call of the network: 1.024 s."""
_QUIET = 0.2
"""The state is reset after a block in which no frame reaches this probability."""

_TARGET_PEAK = 0.5
_MAX_GAIN = 30.0
"""Raises a peak of a sixtieth of full scale to the target. Amplified noise stays below the threshold for speech."""
_PEAK_DECAY = 0.95
"""The loudest peak decays by this factor in each block, so a loud word affects the gain for half a minute."""

_DIGITAL_SILENCE = 1e-4
"""The dither of 16 bits: -80 dB of full scale."""
_INAUDIBLE = 1e-3
"""Audio 60 dB below the loudest of the last half minute is not part of a conversation."""

_TONE_SHARE = 0.999
"""A frame with this share of its energy in five neighbouring bins (150 Hz) is a tone, not a voice.

Some steady tones would otherwise count as speech for minutes.
"""
_MIN_TONE_CHECK = 0.1
"""Frames below this probability are not checked for tones."""
_HANN = np.hanning(FRAME_SAMPLES).astype(np.float32)


class VoiceActivityDetector:
    """Silero VAD in ONNX Runtime. One detector serves any number of channels."""

    def __init__(self, network: bytes) -> None:
        # The network is a chain of small steps: a second thread would only add overhead.
        self._session = onnx_session(network, threads=1)

    @classmethod
    @cache
    def load(cls) -> "VoiceActivityDetector":
        """Load the network, once per process.

        Raises
        ------
        VoiceActivityUnavailable
            If the file is missing or damaged.
        """
        return cls(read_network(NETWORK_FILE))

    def stream(self, *, peak: float = 0.0) -> "VadStream":
        """Return a stream that processes one channel.

        Parameters
        ----------
        peak
            The loudest sample of the channel, if it is known in advance.
        """
        return VadStream(self._session, peak)

    def probabilities(self, waveform: Waveform) -> Probabilities:
        """Return the probabilities for a whole recording of shape ``(n,)``. The last frame is padded with zeros."""
        stream = self.stream(peak=float(np.abs(waveform).max(initial=0.0)))
        return np.concatenate([stream.process(waveform), stream.finish()])


class VadStream:
    """The network's state for one channel."""

    def __init__(self, session: Any, peak: float) -> None:
        self._session = session
        self._waiting = np.empty(0, np.float32)
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self._peak = peak
        self._reset_state()

    def process(self, samples: Waveform) -> Probabilities:
        """Process the next samples, shape ``(n,)``, and return the probabilities of the completed blocks.

        The result does not depend on how the caller splits the samples.
        """
        self._waiting = np.concatenate([self._waiting, samples])
        whole = self._waiting.size // BLOCK_SAMPLES * BLOCK_SAMPLES
        blocks = [self._classify(block) for block in self._waiting[:whole].reshape(-1, BLOCK_SAMPLES)]
        self._waiting = self._waiting[whole:]
        return np.concatenate([np.empty(0, np.float32), *blocks])

    def finish(self) -> Probabilities:
        """Return the probabilities of the remaining samples."""
        if not self._waiting.size:
            return np.empty(0, np.float32)
        rest, self._waiting = self._waiting, np.empty(0, np.float32)
        padded = np.pad(rest, (0, -rest.size % FRAME_SAMPLES))
        tone_frames = padded.reshape(-1, FRAME_SAMPLES).copy()
        if rest.size >= FRAME_SAMPLES:
            # Padding would cut off a tone in the last frame and hide it from the check.
            tone_frames[-1] = rest[-FRAME_SAMPLES:]
        return self._classify(padded, tone_frames)

    def state(self) -> State:
        """Return everything that later probabilities depend on."""
        arrays = {name: getattr(self, f"_{name}") for name in _STATE_ARRAYS}
        return {"peak": self._peak, **{name: pack(array) for name, array in arrays.items()}}

    def restore(self, state: State) -> None:
        """Continue from another stream's state."""
        self._peak = state["peak"]
        for name in _STATE_ARRAYS:
            setattr(self, f"_{name}", unpack(state[name]))

    def _reset_state(self) -> None:
        self._hidden = np.zeros(_STATE_SHAPE, np.float32)
        self._cell = np.zeros(_STATE_SHAPE, np.float32)

    def _classify(self, samples: Waveform, tone_frames: Frames | None = None) -> Probabilities:
        """Return the probabilities of whole frames; `tone_frames` replaces the frames in the check for tones."""
        frames = samples.reshape(-1, FRAME_SAMPLES)
        peak = float(np.abs(samples).max())
        self._peak = max(self._peak * _PEAK_DECAY, peak)
        gain = min(_MAX_GAIN, max(1.0, _TARGET_PEAK / max(self._peak, 1e-9)))
        context, self._context = self._context, frames[-1, -_CONTEXT_SAMPLES:]
        if peak <= max(_DIGITAL_SILENCE, self._peak * _INAUDIBLE):
            # Pauses in phone calls are often digitally silent, so skipping the network saves time.
            self._reset_state()
            return np.zeros(len(frames), np.float32)
        probabilities, self._hidden, self._cell = self._session.run(
            ["speech_probs", "hn", "cn"],
            {"windows": _windows(frames, context, gain), "h": self._hidden, "c": self._cell},
        )
        speech = _without_tones(probabilities.reshape(-1), frames if tone_frames is None else tone_frames)
        if speech.max() < _QUIET:
            self._reset_state()
        return speech


def _windows(frames: Frames, context: Waveform, gain: float) -> Frames:
    """Return the windows of the frames' spectra, `SPECTRA` for each frame; `context` precedes the first frame."""
    padded = np.empty((len(frames), _CONTEXT_SAMPLES + FRAME_SAMPLES + _CONTEXT_SAMPLES), np.float32)
    padded[0, :_CONTEXT_SAMPLES] = context
    padded[1:, :_CONTEXT_SAMPLES] = frames[:-1, -_CONTEXT_SAMPLES:]
    padded[:, _CONTEXT_SAMPLES:-_CONTEXT_SAMPLES] = frames
    padded[:, -_CONTEXT_SAMPLES:] = frames[:, -2 : -_CONTEXT_SAMPLES - 2 : -1]
    padded *= np.float32(gain)
    # Windows overlap by half, so each window is two neighbouring hops of five.
    hops = padded.reshape(len(frames), SPECTRA + 1, HOP_SAMPLES)
    windows: Frames = np.concatenate([hops[:, :-1], hops[:, 1:]], axis=2).reshape(-1, FFT_SAMPLES)
    return windows


def _without_tones(probabilities: Probabilities, frames: Frames) -> Probabilities:
    """Return the probabilities with those of pure tones set to zero."""
    candidates = np.flatnonzero(probabilities > _MIN_TONE_CHECK)
    if not candidates.size:
        return probabilities
    chosen = frames[candidates]
    # The mean is weighted by the window, so that subtracting it removes an offset from the lowest bins completely.
    offsets = chosen @ _HANN[:, None] / _HANN.sum()
    spectra = np.fft.rfft((chosen - offsets) * _HANN)
    energies = spectra.real**2 + spectra.imag**2
    peaks = energies.argmax(axis=1)
    around = np.pad(energies, ((0, 0), (2, 2)))
    near = np.take_along_axis(around, peaks[:, None] + np.arange(5), axis=1).sum(axis=1)
    speech = probabilities.copy()
    speech[candidates[near >= _TONE_SHARE * energies.sum(axis=1)]] = 0.0
    return speech


def read_network(file: Path) -> bytes:
    """Return the content of the network's file.

    Raises
    ------
    VoiceActivityUnavailable
        If the file is missing or its hash differs.
    """
    try:
        network = file.read_bytes()
    except OSError as error:
        raise VoiceActivityUnavailable(
            f"The voice activity network {file} cannot be read: install Audio Emotion again."
        ) from error
    if hashlib.sha256(network).hexdigest() != NETWORK_SHA256:
        raise VoiceActivityUnavailable(f"The voice activity network {file} is damaged: install Audio Emotion again.")
    return network
