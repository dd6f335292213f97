"""Combines the tracks of a recording, which may differ in length, into blocks with the channels of all tracks."""

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from core.audio.waveform import Block
from core.errors import EmptyRecording


def align(tracks: Sequence[Iterator[Block]], channels: Sequence[int]) -> Generator[Block, None, None]:
    """Combine tracks whose samples begin at the same time.

    Parameters
    ----------
    tracks
        At least one; blocks of shape ``(channels[i], n)``.
    channels
        The number of channels of each track.

    Yields
    ------
    Blocks of shape ``(sum(channels), n)``, as long as the longest track. Other tracks are silent after their end.

    Raises
    ------
    EmptyRecording
        If no track has samples. A track without samples is silent if another one has some.
    """
    if len(tracks) == 1:
        yield from tracks[0]
        return
    pending = [np.empty((count, 0), np.float32) for count in channels]
    empty: list[EmptyRecording] = []
    while True:
        for number, track in enumerate(tracks):
            if pending[number].shape[1] == 0:
                try:
                    pending[number] = next(track, pending[number])
                except EmptyRecording as error:
                    empty.append(error)
        length = min((block.shape[1] for block in pending if block.shape[1]), default=0)
        if length == 0:
            break
        yield np.concatenate([_first(block, length) for block in pending])
        pending = [block[:, length:] for block in pending]
    if len(empty) == len(tracks):
        raise empty[0]


def _first(block: Block, length: int) -> Block:
    return block[:, :length] if block.shape[1] else np.zeros((block.shape[0], length), np.float32)
