"""From decoded blocks to utterances: what the classifier sees.

Up to six seconds are one utterance, untrimmed, as the published program would hear them. Longer recordings are mixed to
mono and cut into consecutive windows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from core.audio.decode import Block
from core.waveform import SAMPLE_RATE_HZ, WINDOW_SAMPLES, Waveform

SILENCE_PEAK = 1e-4
"""A window that never exceeds this (-80 dB of full scale) is digital silence or its dither, not speech."""


@dataclass(frozen=True)
class Utterance:
    """A stretch of speech on one channel.

    Attributes
    ----------
    channel
        Its index in the recording; 0 for a mix.
    start_s, end_s
        From the recording's start.
    waveform
        Mono samples at 16 kHz, at most `WINDOW_SAMPLES` of them.
    """

    channel: int
    start_s: float
    end_s: float
    waveform: Waveform

    @property
    def duration_s(self) -> float:
        """How long it lasts."""
        return self.end_s - self.start_s


def cut(blocks: Iterable[Block]) -> Iterator[Utterance]:
    """Cut a recording, given as blocks of shape ``(channels, n)``, into utterances, in memory that does not grow."""
    start = 0
    for window in _windows(block.mean(axis=0) for block in blocks):
        end = start + window.size
        if np.abs(window).max() > SILENCE_PEAK:
            yield Utterance(0, start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, window)
        start = end


def _windows(pieces: Iterable[Waveform]) -> Iterator[Waveform]:
    waiting = np.empty(0, np.float32)
    for piece in pieces:
        waiting = np.concatenate([waiting, piece])
        # Only when more is known to follow: what is exactly one window long is one utterance.
        while waiting.size > WINDOW_SAMPLES:
            yield waiting[:WINDOW_SAMPLES]
            waiting = waiting[WINDOW_SAMPLES:]
    if waiting.size:
        yield waiting
