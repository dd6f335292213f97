"""The second pass over a recording: labels the classified utterances of a lane with their speakers.

The pass decodes the recording again, so that neither samples nor embeddings are part of a recording's stored progress.
Embeddings are biometric data: they exist only in memory and only during the pass.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.audio.channels import ChannelGroup, mix
from core.audio.waveform import SAMPLE_RATE_HZ, Block, Waveform
from core.errors import DecoderUnavailable, SpeakersNotOffered, SpeakersUnavailable
from core.settings import SpeakerMode, SpeakerSettings

if TYPE_CHECKING:
    import numpy.typing as npt

    from core.speakers.clustering import Mode, Voices
    from core.speakers.embedding import SpeakerEmbedder

MIN_UTTERANCES = 2
"""A lane with fewer utterances has one speaker."""

Times = tuple[float, float]
"""Start and end of an utterance in seconds, without its margins."""


class SpeakerSeparator:
    """Labels utterances with their speakers. Thread-safe.

    Parameters
    ----------
    options
        The default mode and the network. The network is loaded now if the mode needs it, or by the first recording
        that requests another mode.
    threads
        The number of threads to compute with.

    Raises
    ------
    SpeakersUnavailable
        If the mode needs the network, and it is missing or damaged.
    """

    def __init__(self, options: SpeakerSettings, threads: int = 1) -> None:
        self.options = options
        self._threads = threads
        self._lock = threading.Lock()
        self._embedder: SpeakerEmbedder | None = None
        if self.mode != "off":
            if not self.is_available:
                raise SpeakersUnavailable(
                    f"SPEAKERS={self.mode} needs {options.speakers_model}, which does not exist. Run `make speakers` "
                    "(for a stack, also `make deploy`), or set SPEAKERS=off."
                )
            self._embedder = self._load()

    @property
    def mode(self) -> SpeakerMode:
        """The mode of recordings that do not request another one."""
        return self.options.speakers

    @property
    def is_available(self) -> bool:
        """Whether the network is installed."""
        return self._embedder is not None or self.options.speakers_model.is_file()

    def check(self, mode: SpeakerMode) -> None:
        """Check whether a recording can request a mode.

        Raises
        ------
        SpeakersNotOffered
            If the mode needs the network, and it is not installed.
        """
        if mode != "off" and not self.is_available:
            raise SpeakersNotOffered(
                f"speakers={mode} needs the speaker network, which is not installed here: see `make speakers`."
            )

    def separate(
        self, blocks: Iterable[Block], lanes: Mapping[ChannelGroup, Sequence[Times]], mode: "Mode"
    ) -> "dict[ChannelGroup, Voices]":
        """Label the utterances of some lanes. Of the whole recording, only the current utterance is in memory.

        Parameters
        ----------
        blocks
            The whole recording: shape ``(channels, n)`` at 16 kHz.
        lanes
            The utterances of each lane, in order of time and without overlap.

        Raises
        ------
        DecoderUnavailable
            If the recording has become shorter.
        SpeakersNotOffered
            If the network is damaged.
        """
        from core.speakers.clustering import split

        embedder = self._loaded()
        embeddings: dict[ChannelGroup, list[npt.NDArray[np.float32]]] = {group: [] for group in lanes}
        for group, samples in utterance_samples(blocks, lanes):
            embeddings[group].append(embedder.embed(samples))
        found = {}
        for group, times in lanes.items():
            if len(embeddings[group]) != len(times):
                raise DecoderUnavailable("The recording became shorter while it was processed.")
            durations_s = np.array([end_s - start_s for start_s, end_s in times])
            found[group] = split(np.stack(embeddings[group]), durations_s, mode)
        return found

    def _loaded(self) -> "SpeakerEmbedder":
        with self._lock:
            if self._embedder is None:
                try:
                    self._embedder = self._load()
                except SpeakersUnavailable as error:
                    raise SpeakersNotOffered(str(error)) from error
            return self._embedder

    def _load(self) -> "SpeakerEmbedder":
        # Imported here, so that SPEAKERS=off loads nothing.
        from core.speakers.embedding import SpeakerEmbedder

        return SpeakerEmbedder(self.options.speakers_model, self._threads)


def utterance_samples(
    blocks: Iterable[Block], lanes: Mapping[ChannelGroup, Sequence[Times]]
) -> Iterator[tuple[ChannelGroup, Waveform]]:
    """Yield the samples of each utterance as soon as they are decoded.

    Parameters
    ----------
    blocks
        The whole recording: shape ``(channels, n)`` at 16 kHz.
    lanes
        The utterances of each lane, in order of time and without overlap.

    Yields
    ------
    The lane, and mono samples of shape ``(n,)``. The utterances of each lane are in their order.
    """
    pending = {group: deque(_spans(times)) for group, times in lanes.items()}
    parts: dict[ChannelGroup, list[Waveform]] = {group: [] for group in lanes}
    position = 0
    for block in blocks:
        end = position + block.shape[1]
        for group, spans in pending.items():
            if not spans or spans[0][0] >= end:
                continue
            samples = mix(block, group)
            while spans and spans[0][0] < end:
                first, last = spans[0]
                parts[group].append(samples[max(0, first - position) : last - position])
                if last > end:
                    break
                spans.popleft()
                yield group, np.concatenate(parts[group])
                parts[group] = []
        position = end
    for group, rest in parts.items():
        # Times are rounded to milliseconds, so the last utterance may end after the last sample.
        if rest:
            yield group, np.concatenate(rest)


def _spans(times: Sequence[Times]) -> Iterator[tuple[int, int]]:
    for start_s, end_s in times:
        yield round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
