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
from core.audio.state import State, pack, unpack
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
    for segments in RecordingCutter(options, vad).cut(blocks):
        yield from segments


class RecordingCutter:
    """Cuts a recording block by block, and can continue after an interruption between two blocks.

    Parameters
    ----------
    state
        The state of a cutter of the same recording, with equal options; None to begin.

    Attributes
    ----------
    position
        The number of samples that were cut. A continued cutter skips them.
    """

    def __init__(self, options: SegmentationSettings, vad: VoiceActivityDetector, state: State | None = None) -> None:
        self._options = options
        self._vad = vad
        self.position = 0
        self._channels: list[_ChannelCutter] = []
        if state:
            self.position = state["position"]
            self._channels = [self._channel(tuple(channel["group"])) for channel in state["channels"]]
            for channel, channel_state in zip(self._channels, state["channels"], strict=True):
                channel.restore(channel_state)

    @property
    def can_continue(self) -> bool:
        """Whether another cutter can continue after the last yielded segments."""
        return bool(self._channels)

    def state(self) -> State:
        """Return the state after the last yielded segments, which must all have been consumed."""
        return {"position": self.position, "channels": [channel.state() for channel in self._channels]}

    def cut(self, blocks: Iterable[Block]) -> Iterator[Iterator[SpeechSegment]]:
        """Cut the recording.

        Parameters
        ----------
        blocks
            The whole recording, also for a cutter that continues: shape ``(channels, n)`` at 16 kHz.

        Yields
        ------
        The segments that each block completes. The caller consumes them before the next block.
        """
        remaining = iter(blocks)
        if self._channels:
            remaining = _skip(remaining, self.position)
        else:
            head_blocks = read_head(remaining, self._options)
            if not head_blocks:
                return
            head = np.concatenate(head_blocks, axis=1)
            groups = group_channels(head, self._options.channels)
            if head.shape[1] <= WINDOW_SAMPLES:
                yield _cut_short(head, groups, self._options, self._vad)
                return
            del head
            self._channels = [self._channel(group) for group in groups]
            remaining = chain(consume(head_blocks), remaining)
        for block in remaining:
            self.position += block.shape[1]
            yield chain.from_iterable(channel.feed(block) for channel in self._channels)
        channels, self._channels = self._channels, []
        yield chain.from_iterable(channel.finish() for channel in channels)

    def _channel(self, group: ChannelGroup) -> "_ChannelCutter":
        return _ChannelCutter(group, Segmenter(self._vad.stream(), self._options))


def _skip(blocks: Iterator[Block], samples: int) -> Iterator[Block]:
    for block in blocks:
        if samples < block.shape[1]:
            yield block[:, samples:]
        samples = max(0, samples - block.shape[1])


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


class _ChannelCutter:
    """Cuts one channel, or several that are mixed, and keeps only the samples that later segments can contain."""

    def __init__(self, group: ChannelGroup, segmenter: Segmenter) -> None:
        self._group = group
        self._segmenter = segmenter
        self._kept = np.empty(0, np.float32)
        self._kept_from = 0
        self._last_end = 0

    def state(self) -> State:
        return {
            "group": self._group,
            "segmenter": self._segmenter.state(),
            "kept": pack(self._kept),
            "kept_from": self._kept_from,
            "last_end": self._last_end,
        }

    def restore(self, state: State) -> None:
        self._segmenter.restore(state["segmenter"])
        self._kept = unpack(state["kept"])
        self._kept_from, self._last_end = state["kept_from"], state["last_end"]

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
