"""Where the utterances of one channel begin and end.

Speech begins where the voice activity network is sure, and ends where it has been unsure for as long as a pause. Speech
that goes on for more than six seconds is split at its quietest point, and the parts touch: nothing spoken is lost
between them.
"""

from collections.abc import Iterator

import numpy as np

from core.audio.voice_activity import FRAME_SAMPLES, VadStream
from core.audio.waveform import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Waveform
from core.settings import SegmentationSettings

Span = tuple[int, int]
"""The first sample and the one after the last."""

MIN_SAMPLES = SAMPLE_RATE_HZ // 2
"""Half a second: a shorter utterance is given some of what surrounds it."""

_HYSTERESIS = 0.15
"""Speech that has begun goes on down to this much below the threshold: the network's authors' own choice."""
_FAINT = 0.1
"""A frame of this probability right before sure speech is its beginning: a breathed or faint consonant."""
_MAX_ONSET_FRAMES = 6
_SPLIT_FROM_SAMPLES = 2 * SAMPLE_RATE_HZ
"""The earliest split, from the start. What follows is at least half a second too, for a split comes before 5.5 s."""
_SPLIT_UNTIL_SAMPLES = WINDOW_SAMPLES - MIN_SAMPLES
_SMOOTHING_FRAMES = 5
"""0.16 s: shorter than a pause, longer than the closure of a stop, so that no word is split at its "t"."""


class Segmenter:
    """Hears one channel and says where its utterances are.

    Attributes
    ----------
    quiet_until
        How far nobody speaks behind the span that was yielded last, as far as that is known.
    """

    def __init__(self, stream: VadStream, options: SegmentationSettings) -> None:
        self._stream = stream
        self._begin = options.speech_threshold
        self._go_on = max(options.speech_threshold - _HYSTERESIS, 0.01)
        self._pause = round(options.min_silence_s * SAMPLE_RATE_HZ)
        self._padding = round(options.speech_pad_s * SAMPLE_RATE_HZ)
        self._shortest_speech = options.min_speech_s * SAMPLE_RATE_HZ
        self._unjudged = np.empty(0, np.float32)
        self._frame = 0
        self._samples = 0
        self._faint_frames = 0
        self._speech: _Speech | None = None
        self._held: Span | None = None
        self._closed_at = 0
        self.quiet_until = 0

    @property
    def needed_from(self) -> int:
        """No span will begin before this sample."""
        if self._held:
            return max(self._closed_at, self._held[0] - MIN_SAMPLES)
        lookback = MIN_SAMPLES + self._padding + _MAX_ONSET_FRAMES * FRAME_SAMPLES
        position = self._speech.start if self._speech else self._frame * FRAME_SAMPLES
        return max(self._closed_at, position - lookback)

    def feed(self, samples: Waveform) -> Iterator[Span]:
        """Take the next samples, shape ``(n,)``; yields the spans that are settled by them."""
        self._samples += samples.size
        self._unjudged = np.concatenate([self._unjudged, samples])
        yield from self._judge(self._stream.process(samples))

    def finish(self) -> Iterator[Span]:
        """The spans that the end of the recording settles."""
        yield from self._judge(self._stream.finish())
        if self._speech:
            yield from self._close(self._speech, self._samples)
        if self._held:
            yield from self._release(self._held, self._samples)

    def _judge(self, probabilities: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> Iterator[Span]:
        levels = _levels(self._unjudged[: probabilities.size * FRAME_SAMPLES])
        self._unjudged = self._unjudged[probabilities.size * FRAME_SAMPLES :]
        for probability, level in zip(probabilities.tolist(), levels.tolist(), strict=True):
            yield from self._step(probability, level)
            self._frame += 1

    def _step(self, probability: float, level: float) -> Iterator[Span]:
        start = self._frame * FRAME_SAMPLES
        speech = self._speech
        if speech is None:
            if self._held and start - self._held[1] >= MIN_SAMPLES:
                yield from self._release(self._held, start)
            self._faint_frames = self._faint_frames + 1 if probability >= _FAINT else 0
            if probability < self._begin:
                return
            onset = start - min(self._faint_frames - 1, _MAX_ONSET_FRAMES) * FRAME_SAMPLES
            speech = self._speech = _Speech(max(onset - self._padding, self._last_end, 0), start)
            self._faint_frames = 0
        speech.levels.append(level)
        if probability >= self._begin:
            speech.sure += FRAME_SAMPLES
        if probability >= self._go_on:
            speech.end = start + FRAME_SAMPLES
            if speech.end - speech.start > WINDOW_SAMPLES:
                yield from self._split(speech)
        elif start + FRAME_SAMPLES >= max(speech.end + self._pause, speech.start + MIN_SAMPLES):
            yield from self._close(speech, start + FRAME_SAMPLES)

    @property
    def _last_end(self) -> int:
        return self._held[1] if self._held else self._closed_at

    def _split(self, speech: "_Speech") -> Iterator[Span]:
        at = speech.quietest(speech.start + _SPLIT_FROM_SAMPLES, speech.start + _SPLIT_UNTIL_SAMPLES)
        yield from self._hold((speech.start, at))
        self._speech = speech.from_(at)

    def _close(self, speech: "_Speech", heard: int) -> Iterator[Span]:
        self._speech = None
        if speech.sure < self._shortest_speech:
            return
        end = min(speech.end + self._padding, heard, speech.start + WINDOW_SAMPLES)
        start = speech.start
        missing = MIN_SAMPLES - (end - start)
        if missing > 0:
            start = max(start - missing // 2, self._last_end, 0)
            end = min(start + MIN_SAMPLES, heard)
            start = max(min(start, end - MIN_SAMPLES), self._last_end, 0)
        yield from self._hold((start, end))

    def _hold(self, span: Span) -> Iterator[Span]:
        """Keep a span back until the next is known: one at the very end may have no room but by taking from this."""
        held, (start, end) = self._held, span
        if held and end - start < MIN_SAMPLES:
            if end - held[0] <= WINDOW_SAMPLES:
                self._held = (held[0], end)
                return
            start = end - MIN_SAMPLES
            held = (held[0], min(held[1], start))
        if held:
            yield from self._release(held, start)
        self._held = (start, end)

    def _release(self, held: Span, quiet_until: int) -> Iterator[Span]:
        self.quiet_until = quiet_until
        self._closed_at = held[1]
        self._held = None
        yield held


class _Speech:
    """Speech that is going on.

    Attributes
    ----------
    start, end
        In samples: with padding in front, and behind the last frame that sounded like speech.
    sure
        How many samples of it were surely speech.
    """

    def __init__(self, start: int, first_frame: int) -> None:
        self.start = start
        self.end = first_frame
        self.sure = 0
        self.levels: list[float] = []
        self._first_frame = first_frame

    def quietest(self, earliest: int, latest: int) -> int:
        """The sample in the middle of the quietest stretch between two samples."""
        first = max(0, -(-(earliest - self._first_frame) // FRAME_SAMPLES))
        last = (latest - self._first_frame) // FRAME_SAMPLES
        smoothed = np.convolve(self.levels, np.ones(_SMOOTHING_FRAMES) / _SMOOTHING_FRAMES, "same")[first:last]
        frame = first + int(smoothed.argmin())
        return self._first_frame + frame * FRAME_SAMPLES + FRAME_SAMPLES // 2

    def from_(self, at: int) -> "_Speech":
        """What of it comes after a split."""
        rest = _Speech(at, self._first_frame)
        skipped = (at - self._first_frame) // FRAME_SAMPLES
        rest._first_frame = self._first_frame + skipped * FRAME_SAMPLES
        rest.levels = self.levels[skipped:]
        rest.end = self.end
        # Part of something that was sure, however short it is itself: all of it is kept.
        rest.sure = self.sure
        return rest


def _levels(samples: Waveform) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """The level of each frame in dB, the last one filled up with silence."""
    frames = np.pad(samples, (0, -samples.size % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    return np.asarray(10 * np.log10(np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / FRAME_SAMPLES + 1e-10))
