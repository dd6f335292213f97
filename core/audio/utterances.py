"""Cuts decoded blocks into the speech segments that the classifier scores.

A recording of up to six seconds with speech is one untrimmed segment, as in the published program. Each channel of a
longer one is cut at pauses while the recording is decoded, so memory does not grow with the duration.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from core.audio.channels import GROUPING_S, ChannelGroup, group_channels, mix
from core.audio.offset import remove_offset
from core.audio.segmenter import Segmenter, Span
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Block, Waveform
from core.settings import SegmentationSettings

MAX_SILENCE_PEAK = 1e-4
"""-80 dB of full scale. Audio that never exceeds it is digital silence or its dither."""

_MAX_MARGIN_SAMPLES = SAMPLE_RATE_HZ // 2
"""The classifier also gets up to 0.5 s of the pauses before and after a segment. The margins end at the neighbouring
segment.

The model was trained on recordings that begin and end quietly, and is less accurate on trimmed ones:
docs/decisions/0013-audio-around-an-utterance.md.
"""


@dataclass(frozen=True)
class SpeechSegment:
    """A stretch of speech on one channel.

    Attributes
    ----------
    channels
        The index of its channel in the recording, or the indices of the channels that were mixed.
    start_s, end_s
        From the start of the recording, without the margins.
    waveform
        Mono samples at 16 kHz, shape ``(n,)``, ``n <= WINDOW_SAMPLES``, including margins from the surrounding pauses.
    """

    channels: ChannelGroup
    start_s: float
    end_s: float
    waveform: Waveform

    @property
    def channel(self) -> int:
        """The index of the segment's first channel, as stored in results."""
        return self.channels[0]

    @property
    def duration_s(self) -> float:
        """The duration without the margins."""
        return self.end_s - self.start_s


def cut(blocks: Iterable[Block], options: SegmentationSettings, vad: VoiceActivityDetector) -> Iterator[SpeechSegment]:
    """Cut a recording into speech segments.

    Parameters
    ----------
    blocks
        Shape ``(channels, n)`` at 16 kHz.
    options
        How channels are grouped and speech is cut.
    vad
        The voice activity detector.

    Yields
    ------
    Each channel's segments in their order, soon after they end. Segments of several channels interleave.
    """
    remaining = iter(blocks)
    head_blocks = read_head(remaining, options)
    if not head_blocks:
        return
    head = np.concatenate(head_blocks, axis=1)
    groups = group_channels(head, options.channels)
    if head.shape[1] <= WINDOW_SAMPLES:
        yield from _cut_short(head, groups, options, vad)
        return
    del head
    cutters = [_Cutter(group, Segmenter(vad.stream(), options)) for group in groups]
    for block in chain(consume(head_blocks), remaining):
        for cutter in cutters:
            yield from cutter.feed(block)
    for cutter in cutters:
        yield from cutter.finish()


def read_head(blocks: Iterator[Block], options: SegmentationSettings) -> list[Block]:
    """Read enough blocks to know whether the recording is short, and which of its channels carry the same speech."""
    head: list[Block] = []
    samples = 0
    for block in blocks:
        head.append(block)
        samples += block.shape[1]
        undecided = options.channels == "auto" and block.shape[0] > 1
        if samples > (GROUPING_S * SAMPLE_RATE_HZ if undecided else WINDOW_SAMPLES):
            break
    return head


def consume(head: list[Block]) -> Iterator[Block]:
    """Yield blocks and release the memory of each."""
    head.reverse()
    while head:
        yield head.pop()


def _cut_short(
    recording: Block, groups: Sequence[ChannelGroup], options: SegmentationSettings, vad: VoiceActivityDetector
) -> Iterator[SpeechSegment]:
    """Yield one segment for each group of channels with speech."""
    for group in groups:
        waveform = mix(recording, group)
        centred = remove_offset(waveform)
        if np.abs(centred).max(initial=0.0) <= MAX_SILENCE_PEAK:
            continue
        if vad.probabilities(centred).max() >= options.short_speech_threshold:
            yield SpeechSegment(group, 0.0, waveform.size / SAMPLE_RATE_HZ, waveform)


class _Cutter:
    """Cuts one channel, or several that are mixed, and keeps only the samples that later segments can contain."""

    def __init__(self, group: ChannelGroup, segmenter: Segmenter) -> None:
        self._group = group
        self._segmenter = segmenter
        self._kept = np.empty(0, np.float32)
        self._kept_from = 0
        self._last_end = 0

    def feed(self, block: Block) -> Iterator[SpeechSegment]:
        samples = mix(block, self._group)
        self._kept = np.concatenate([self._kept, samples])
        for span in self._segmenter.feed(samples):
            yield self._segment(span)
        outdated = self._segmenter.needed_from - self._kept_from
        if outdated > 0:
            # A copy, because a view would keep the whole array in memory.
            self._kept = self._kept[outdated:].copy()
            self._kept_from += outdated

    def finish(self) -> Iterator[SpeechSegment]:
        for span in self._segmenter.finish():
            yield self._segment(span)

    def _segment(self, span: Span) -> SpeechSegment:
        start, end = span
        before = min(_MAX_MARGIN_SAMPLES, start - self._last_end)
        after = max(0, min(_MAX_MARGIN_SAMPLES, self._segmenter.quiet_until - end))
        self._last_end = end
        room = WINDOW_SAMPLES - (end - start)
        if before + after > room:
            before, after = min(before, room // 2), min(after, room // 2)
        first = max(start - before, self._kept_from) - self._kept_from
        first = _skip_digital_silence(self._kept, first, start - self._kept_from)
        waveform = self._kept[first : end + after - self._kept_from].copy()
        return SpeechSegment(self._group, start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, waveform)


def _skip_digital_silence(samples: Waveform, first: int, start: int) -> int:
    """Return the first sample from `first` on that is not digital silence, but `start` at the latest.

    Phone lines are often muted between words, but no recording of the training data begins with digital silence.
    Digital silence at the end is harmless, because the window is padded with zeros
    (docs/decisions/0013-audio-around-an-utterance.md).
    """
    audible = np.flatnonzero(np.abs(samples[first:start]) > MAX_SILENCE_PEAK)
    return first + int(audible[0]) if audible.size else start
