"""Finds where the speech segments of one channel begin and end.

Speech begins where its probability reaches a threshold, and ends where the probability has stayed below a lower one for
as long as a pause. Speech longer than six seconds is split at its quietest point. The parts touch, so no speech is lost
between them. The defaults are measured in docs/decisions/0012-segmentation-defaults.md.
"""

from collections.abc import Iterator

import numpy as np

from core.audio.offset import evident_offset
from core.audio.state import State, pack, unpack
from core.audio.voice_activity import BLOCK_SAMPLES, FRAME_SAMPLES, Probabilities, VadStream
from core.audio.waveform import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Waveform
from core.settings import SegmentationSettings

Span = tuple[int, int]
"""The index of the first sample, and of the sample after the last."""

MIN_SAMPLES = SAMPLE_RATE_HZ // 2
"""Half a second. A shorter segment is extended into the pauses around it."""

_HYSTERESIS = 0.15
"""Speech continues down to this much below the threshold, as the network's authors recommend."""
_MIN_ONSET_PROBABILITY = 0.1
"""Frames of at least this probability right before speech are part of the speech: breathed or faint consonants."""
_MAX_ONSET_FRAMES = 6
_MIN_SPLIT_SAMPLES = 2 * SAMPLE_RATE_HZ
_MAX_SPLIT_SAMPLES = WINDOW_SAMPLES - MIN_SAMPLES
"""The earliest and the latest split, from the start of the speech. A split after 5.5 s may leave less than half a
second."""
_STATE_NUMBERS = ("_frame", "_samples", "_onset_frames", "_pending_span", "_closed_at", "quiet_until")
_SMOOTHING_FRAMES = 5
"""0.16 s: shorter than a pause, but longer than the closure of a stop, so that words are not split at a "t"."""


class Segmenter:
    """Turns the samples of one channel into the spans of its speech segments.

    Attributes
    ----------
    quiet_until
        The index of the first sample after the pause that follows the last yielded span, as far as it is known.
    """

    def __init__(self, stream: VadStream, options: SegmentationSettings) -> None:
        self._stream = stream
        self._threshold = options.speech_threshold
        self._end_threshold = max(options.speech_threshold - _HYSTERESIS, 0.01)
        self._min_silence = round(options.min_silence_s * SAMPLE_RATE_HZ)
        self._padding = round(options.speech_pad_s * SAMPLE_RATE_HZ)
        self._min_speech = options.min_speech_s * SAMPLE_RATE_HZ
        self._pending = np.empty(0, np.float32)
        self._offset = np.float32(0.0)
        self._frame = 0
        self._samples = 0
        self._onset_frames = 0
        self._speech: _Speech | None = None
        self._pending_span: Span | None = None
        self._closed_at = 0
        self.quiet_until = 0

    @property
    def needed_from(self) -> int:
        """The first sample that a later span can contain."""
        if self._pending_span:
            return max(self._closed_at, self._pending_span[0] - MIN_SAMPLES)
        lookback = MIN_SAMPLES + self._padding + _MAX_ONSET_FRAMES * FRAME_SAMPLES
        position = self._speech.start if self._speech else self._frame * FRAME_SAMPLES
        return max(self._closed_at, position - lookback)

    def state(self) -> State:
        """Return everything that later spans depend on."""
        return {
            "stream": self._stream.state(),
            "pending": pack(self._pending),
            "offset": float(self._offset),
            "speech": vars(self._speech) if self._speech else None,
            **{name: getattr(self, name) for name in _STATE_NUMBERS},
        }

    def restore(self, state: State) -> None:
        """Continue from another segmenter's state."""
        self._stream.restore(state["stream"])
        self._pending = unpack(state["pending"])
        self._offset = np.float32(state["offset"])
        self._speech = _Speech.restored(state["speech"]) if state["speech"] else None
        for name in _STATE_NUMBERS:
            setattr(self, name, state[name])
        self._pending_span = tuple(state["_pending_span"]) if state["_pending_span"] else None

    def feed(self, samples: Waveform) -> Iterator[Span]:
        """Process the next samples, shape ``(n,)``, and yield the spans that are final."""
        self._samples += samples.size
        self._pending = np.concatenate([self._pending, samples])
        while self._pending.size >= BLOCK_SAMPLES:
            block, self._pending = np.split(self._pending, [BLOCK_SAMPLES])
            self._offset = evident_offset(block)
            block = block - self._offset
            yield from self._process(self._stream.process(block), block)

    def finish(self) -> Iterator[Span]:
        """End the recording, and yield the remaining spans."""
        # The rest may be too short to show an offset by itself.
        rest = self._pending - self._offset
        yield from self._process(np.concatenate([self._stream.process(rest), self._stream.finish()]), rest)
        if self._speech:
            yield from self._close(self._speech, self._samples)
        if self._pending_span:
            yield from self._release(self._pending_span, self._samples)

    def _process(self, probabilities: Probabilities, samples: Waveform) -> Iterator[Span]:
        for probability, level in zip(probabilities.tolist(), _levels(samples).tolist(), strict=True):
            yield from self._step(probability, level)
            self._frame += 1

    def _step(self, probability: float, level: float) -> Iterator[Span]:
        start = self._frame * FRAME_SAMPLES
        speech = self._speech
        if speech is None:
            if self._pending_span and start - self._pending_span[1] >= MIN_SAMPLES:
                yield from self._release(self._pending_span, start)
            self._onset_frames = self._onset_frames + 1 if probability >= _MIN_ONSET_PROBABILITY else 0
            if probability < self._threshold:
                return
            onset = start - min(self._onset_frames - 1, _MAX_ONSET_FRAMES) * FRAME_SAMPLES
            speech = self._speech = _Speech(max(onset - self._padding, self._last_end, 0), start)
            self._onset_frames = 0
        speech.levels.append(level)
        if probability >= self._threshold:
            speech.voiced += FRAME_SAMPLES
        if probability >= self._end_threshold:
            speech.end = start + FRAME_SAMPLES
            if speech.end - speech.start > WINDOW_SAMPLES:
                yield from self._split(speech)
        elif start + FRAME_SAMPLES >= max(speech.end + self._min_silence, speech.start + MIN_SAMPLES):
            yield from self._close(speech, start + FRAME_SAMPLES)

    @property
    def _last_end(self) -> int:
        return self._pending_span[1] if self._pending_span else self._closed_at

    def _split(self, speech: "_Speech") -> Iterator[Span]:
        at = speech.quietest_point(speech.start + _MIN_SPLIT_SAMPLES, speech.start + _MAX_SPLIT_SAMPLES)
        yield from self._hold((speech.start, at))
        self._speech = speech.after_split(at)

    def _close(self, speech: "_Speech", known_until: int) -> Iterator[Span]:
        self._speech = None
        if speech.voiced < self._min_speech:
            return
        end = min(speech.end + self._padding, known_until, speech.start + WINDOW_SAMPLES)
        start = speech.start
        missing = MIN_SAMPLES - (end - start)
        if missing > 0:
            start = max(start - missing // 2, self._last_end, 0)
            end = min(start + MIN_SAMPLES, known_until)
            start = max(min(start, end - MIN_SAMPLES), self._last_end, 0)
        yield from self._hold((start, end))

    def _hold(self, span: Span) -> Iterator[Span]:
        """Hold a span until the next one is known, because a short last span is extended into the one before."""
        previous, (start, end) = self._pending_span, span
        if previous and end - start < MIN_SAMPLES:
            if end - previous[0] <= WINDOW_SAMPLES:
                self._pending_span = (previous[0], end)
                return
            start = end - MIN_SAMPLES
            previous = (previous[0], min(previous[1], start))
        if previous:
            yield from self._release(previous, start)
        self._pending_span = (start, end)

    def _release(self, span: Span, quiet_until: int) -> Iterator[Span]:
        self.quiet_until = quiet_until
        self._closed_at = span[1]
        self._pending_span = None
        yield span


class _Speech:
    """Speech that has not ended yet.

    Attributes
    ----------
    start, end
        The first sample, padding included, and the end of the last frame above the lower threshold.
    voiced
        The number of samples in frames above the threshold.
    levels
        The level of each frame since the onset, in dB.
    """

    def __init__(self, start: int, first_frame: int) -> None:
        self.start = start
        self.end = first_frame
        self.voiced = 0
        self.levels: list[float] = []
        self._first_frame = first_frame

    @classmethod
    def restored(cls, state: State) -> "_Speech":
        """Return the speech that a state describes."""
        speech = cls(state["start"], state["_first_frame"])
        vars(speech).update(state)
        return speech

    def quietest_point(self, earliest: int, latest: int) -> int:
        """Return the sample in the middle of the quietest 0.16 s between two samples."""
        first = max(0, -(-(earliest - self._first_frame) // FRAME_SAMPLES))
        last = (latest - self._first_frame) // FRAME_SAMPLES
        smoothed = np.convolve(self.levels, np.ones(_SMOOTHING_FRAMES) / _SMOOTHING_FRAMES, "same")[first:last]
        frame = first + int(smoothed.argmin())
        return self._first_frame + frame * FRAME_SAMPLES + FRAME_SAMPLES // 2

    def after_split(self, at: int) -> "_Speech":
        """Return the part after a split."""
        rest = _Speech(at, self._first_frame)
        skipped = (at - self._first_frame) // FRAME_SAMPLES
        rest._first_frame = self._first_frame + skipped * FRAME_SAMPLES
        rest.levels = self.levels[skipped:]
        rest.end = self.end
        # The whole stretch of speech is long enough, so the rest is kept even if it is short.
        rest.voiced = self.voiced
        return rest


def _levels(samples: Waveform) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Compute the level of each frame in dB; the last one is padded with zeros."""
    frames = np.pad(samples, (0, -samples.size % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    return np.asarray(10 * np.log10(np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / FRAME_SAMPLES + 1e-10))
