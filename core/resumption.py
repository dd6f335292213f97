"""The progress of a recording that takes more than one invocation.

Progress is stored between two blocks of audio: when the deadline approaches, and every two minutes in case the process
is killed. The next invocation decodes the recording from its beginning, because decoding is cheap, and skips what is
classified. Its segments are exactly those of one long invocation (docs/decisions/0019-long-recordings.md).
"""

import json
from collections.abc import Callable
from typing import Protocol

from core import __version__
from core.audio.state import State
from core.audio.utterances import RecordingCutter
from core.audio.waveform import SAMPLE_RATE_HZ
from core.deadline import Deadline
from core.errors import DeadlineExceeded, RecordingUnfinished, StorageRefused, StorageUnavailable

_SAVE_INTERVAL_S = 120.0
"""A killed worker costs this much work at most."""
_SHORT_S = 60.0
_RESERVED_STEPS = 2.0
"""The work stops when less time is left than this many times the slowest block took."""
_MIN_RESERVE = 0.02
"""Or less than this share of the invocation: after silence, no block has shown how long an utterance takes."""
_MIN_SPEED = 0.05
"""Seconds of audio that a second of an invocation must finish on average, otherwise the recording fails.

It limits 12 hours of audio to a thousand invocations of 15 minutes."""


class ProgressStore(Protocol):
    """The stored progress of one recording."""

    def load(self, *, is_short: bool) -> bytes | None:
        """Return the stored progress, or None. `is_short`: the header says that the recording is short."""

    def save(self, content: bytes) -> None:
        """Replace the stored progress.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If it may not be stored.
        RecordingInProgress
            If another delivery has stored progress meanwhile.
        """


class Resumption:
    """Continues a recording, and stops it in time for another invocation to continue.

    Parameters
    ----------
    identity
        What the progress depends on: the model and the settings. Progress with another identity is not used.
    """

    def __init__(self, store: ProgressStore | None, deadline: Deadline, identity: State) -> None:
        self._store = store
        self._deadline = deadline
        self._identity = {"version": __version__, **identity}
        self._started_s = self._saved_s = deadline.remaining_s
        self._slowest_s = 0.0
        self._first_position = self._saved_position = 0

    def load(self, duration_s: float | None) -> State | None:
        """Return the stored progress, or None.

        Parameters
        ----------
        duration_s
            The recording's duration, if it is known.
        """
        is_short = duration_s is not None and duration_s < _SHORT_S
        content = self._store.load(is_short=is_short) if self._store else None
        stored: State | None = json.loads(content) if content else None
        if stored is None or stored.get("identity") != json.loads(json.dumps(self._identity)):
            return None
        self._first_position = self._saved_position = stored["cutter"]["position"]
        return stored

    def after_block(self, started_remaining_s: float, cutter: RecordingCutter, progress: Callable[[], State]) -> None:
        """Store the progress if it is time, after the segments of a block were classified.

        Parameters
        ----------
        started_remaining_s
            The time that remained until the deadline before the block.
        progress
            Returns what the next invocation needs beside the cutter's state.

        Raises
        ------
        RecordingUnfinished
            If the next block may not be finished by the deadline.
        """
        remaining_s = self._deadline.remaining_s
        self._slowest_s = max(self._slowest_s, started_remaining_s - remaining_s)
        if self._store is None or not cutter.can_continue:
            return
        must_stop = remaining_s < max(_RESERVED_STEPS * self._slowest_s, _MIN_RESERVE * self._started_s)
        if not must_stop and self._saved_s - remaining_s < _SAVE_INTERVAL_S:
            return
        self._saved_s = remaining_s
        content = {"identity": self._identity, "cutter": cutter.state(), **progress()}
        try:
            self._store.save(json.dumps(content).encode())
        except (StorageUnavailable, StorageRefused):
            if must_stop:
                raise
            return
        self._saved_position = cutter.position
        if must_stop:
            self.stop(DeadlineExceeded("The recording cannot be classified within one invocation."))

    def stop_between_passes(self, samples: int, progress: State) -> None:
        """Store the progress after all utterances were classified. The next invocation separates the speakers.

        Parameters
        ----------
        samples
            The number of samples of the recording.
        progress
            What the next invocation needs beside the number of samples.

        Raises
        ------
        RecordingUnfinished
            Always, unless the progress cannot be stored.
        """
        assert self._store is not None
        cutter = {"position": samples, "channels": []}
        content = {"identity": self._identity, "cutter": cutter, "decoded_samples": samples, **progress}
        self._store.save(json.dumps(content).encode())
        raise RecordingUnfinished("All utterances are classified; their speakers are not separated.")

    def stop(self, error: DeadlineExceeded) -> None:
        """End the work of this invocation.

        Raises
        ------
        RecordingUnfinished
            If the next invocation should continue.
        DeadlineExceeded
            If this invocation stored no progress, or too little: `error`.
        """
        advanced_s = (self._saved_position - self._first_position) / SAMPLE_RATE_HZ
        if advanced_s <= 0 or advanced_s < _MIN_SPEED * (self._started_s - self._deadline.remaining_s):
            raise error
        raise RecordingUnfinished(f"{self._saved_position / SAMPLE_RATE_HZ:,.0f} s are classified.")
