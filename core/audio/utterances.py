"""From decoded blocks to utterances: what the classifier sees.

Up to six seconds with speech in them are one utterance, untrimmed, as the published program would hear them. Anything
longer is cut where people pause, on each channel by itself, while it is decoded: what is held in memory does not grow
with the recording.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from core.audio.channels import LISTENED_S, ChannelGroup, group_channels, mix
from core.audio.decode import Block
from core.audio.segmenter import Segmenter, Span
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Waveform
from core.settings import SegmentationSettings

SILENCE_PEAK = 1e-4
"""What never exceeds this (-80 dB of full scale) is digital silence or its dither, not speech."""

_MARGIN_SAMPLES = SAMPLE_RATE_HZ // 2
"""Of the pauses around an utterance, up to 0.5 s each are given to the classifier too, though not counted as
speech: the network learned from recordings that begin and end quietly. Clips trimmed to what is spoken in them lost
30 points of accuracy. No other utterance gets in, and no digital silence in front: see `_begins_with_sound`."""


@dataclass(frozen=True)
class SpeechSegment:
    """A stretch of speech on one channel.

    Attributes
    ----------
    channels
        Its index in the recording, or those of several that were mixed.
    start_s, end_s
        From the recording's start.
    waveform
        Mono samples at 16 kHz, at most `WINDOW_SAMPLES` of them; a little of the pauses around it included.
    """

    channels: ChannelGroup
    start_s: float
    end_s: float
    waveform: Waveform

    @property
    def channel(self) -> int:
        """The first of its channels, by whose number results know it."""
        return self.channels[0]

    @property
    def duration_s(self) -> float:
        """How long it lasts."""
        return self.end_s - self.start_s


def cut(blocks: Iterable[Block], options: SegmentationSettings, vad: VoiceActivityDetector) -> Iterator[SpeechSegment]:
    """Cut a recording, given as blocks of shape ``(channels, n)``, into utterances.

    Yields
    ------
    Each channel's utterances in their order, soon after they end; those of several channels interleave.
    """
    coming = iter(blocks)
    head = _head(coming, options)
    if not head:
        return
    beginning = np.concatenate(head, axis=1)
    groups = group_channels(beginning, options.channels)
    if beginning.shape[1] <= WINDOW_SAMPLES:
        yield from _whole(beginning, groups, options, vad)
        return
    del beginning
    cutters = [_Cutter(group, Segmenter(vad.stream(), options)) for group in groups]
    for block in chain(_released(head), coming):
        for cutter in cutters:
            yield from cutter.feed(block)
    for cutter in cutters:
        yield from cutter.finish()


def _head(blocks: Iterator[Block], options: SegmentationSettings) -> list[Block]:
    """Enough blocks to know whether the recording is short, and which of its channels are the same."""
    head: list[Block] = []
    samples = 0
    for block in blocks:
        head.append(block)
        samples += block.shape[1]
        undecided = options.channels == "auto" and block.shape[0] > 1
        if samples > (LISTENED_S * SAMPLE_RATE_HZ if undecided else WINDOW_SAMPLES):
            break
    return head


def _released(head: list[Block]) -> Iterator[Block]:
    head.reverse()
    while head:
        yield head.pop()


def _whole(
    recording: Block, groups: Sequence[ChannelGroup], options: SegmentationSettings, vad: VoiceActivityDetector
) -> Iterator[SpeechSegment]:
    for group in groups:
        waveform = mix(recording, group)
        if waveform.size == 0 or np.abs(waveform).max() <= SILENCE_PEAK:
            continue
        if vad.probabilities(waveform).max() >= options.short_speech_threshold:
            yield SpeechSegment(group, 0.0, waveform.size / SAMPLE_RATE_HZ, waveform)


class _Cutter:
    """Cuts one channel, or several mixed, and keeps just the samples that may still be needed."""

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
            yield self._utterance(span)
        outdated = self._segmenter.needed_from - self._kept_from
        if outdated > 0:
            # A copy, so that what is no longer needed is really given back.
            self._kept = self._kept[outdated:].copy()
            self._kept_from += outdated

    def finish(self) -> Iterator[SpeechSegment]:
        for span in self._segmenter.finish():
            yield self._utterance(span)

    def _utterance(self, span: Span) -> SpeechSegment:
        start, end = span
        before = min(_MARGIN_SAMPLES, start - self._last_end)
        after = max(0, min(_MARGIN_SAMPLES, self._segmenter.quiet_until - end))
        self._last_end = end
        room = WINDOW_SAMPLES - (end - start)
        if before + after > room:
            before, after = min(before, room // 2), min(after, room // 2)
        first = max(start - before, self._kept_from) - self._kept_from
        first = _begins_with_sound(self._kept, first, start - self._kept_from)
        waveform = self._kept[first : end + after - self._kept_from].copy()
        return SpeechSegment(self._group, start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, waveform)


def _begins_with_sound(samples: Waveform, first: int, start: int) -> int:
    """The first sample between the two that is more than digital silence; `start` if there is none.

    Lines that are switched to silence between words are common in phone calls, and no recording that the network
    learned from begins like that: silence of 0.1 s in front of clips cost 4.6 points of accuracy. Behind, it is what
    the window is filled up with anyway.
    """
    audible = np.flatnonzero(np.abs(samples[first:start]) > SILENCE_PEAK)
    return first + int(audible[0]) if audible.size else start
