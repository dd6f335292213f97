"""The utterances of labelled clips: decoded and cut as `classify` does, and kept in the cache."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.utterances import cut
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, Block, Waveform
from core.errors import EmptyRecording, RecordingError, RecordingNotFound, RecordingUnreadable, TrainingRefused
from core.formatting import counted
from core.settings import MediaLimits, SegmentationSettings
from core.training.augmentation import CLEAN, Copy
from core.training.cache import ArrayCache, hash_of
from core.training.manifest import Clip, check_agreement

_VERSION = 1
"""Raised when the same file and settings give other utterances, so that the cache is not used."""
_MAX_NAMED = 3
_WORKERS = 2

ItemT = TypeVar("ItemT")


class Track(Protocol):
    """Shows the progress of a step."""

    def __call__(self, items: Iterable[ItemT], description: str, count: int) -> Iterable[ItemT]:
        """Return the items, and show the description and how many of them were consumed."""


def untracked(items: Iterable[ItemT], description: str, count: int) -> Iterable[ItemT]:  # noqa: ARG001
    """Return the items, and show no progress."""
    return items


@dataclass(frozen=True)
class LabelledSpeech:
    """A clip with speech.

    Attributes
    ----------
    clip
        The line of the manifest.
    key
        The key of its utterances in the cache, which depends on the file's content.
    durations_s
        The duration of each utterance. A clip of up to six seconds is one utterance.
    """

    clip: Clip
    key: str
    durations_s: tuple[float, ...]

    def waveforms(self, cache: ArrayCache, copy: Copy = CLEAN) -> list[Waveform]:
        """Read the utterances or copies of them: mono samples at 16 kHz, shapes ``(n,)``."""
        return [copy(waveform, f"{self.key} {number}") for number, waveform in enumerate(cache.read(self.key)[1:])]


@dataclass(frozen=True)
class SpeechReader:
    """Decodes clips and cuts them into utterances."""

    cache: ArrayCache
    limits: MediaLimits
    segmentation: SegmentationSettings

    def read(self, manifest: Path, clips: Sequence[Clip], track: Track = untracked) -> Iterator[LabelledSpeech]:
        """Read the utterances of clips, and leave out clips without speech.

        Raises
        ------
        TrainingRefused
            If a clip cannot be decoded.
        ManifestUnreadable
            If clips with the same sound have different emotions or speakers.
        """
        by_path: dict[Path, list[Clip]] = {}
        for clip in clips:
            by_path.setdefault(clip.path, []).append(clip)
        VoiceActivityDetector.load()  # once, before the threads
        failures: dict[Path, RecordingError] = {}
        speech: dict[int, LabelledSpeech] = {}
        with ThreadPoolExecutor(_WORKERS) as pool:
            read = pool.map(self._read_file, by_path, by_path.values())
            for path, result in zip(by_path, track(read, "Reading clips", len(by_path)), strict=True):
                if isinstance(result, RecordingError):
                    failures[path] = result
                else:
                    speech.update((item.clip.line, item) for item in result)
        _refuse(failures)
        first_of: dict[str, Clip] = {}
        for clip in clips:
            item = speech[clip.line]
            check_agreement(manifest, first_of.setdefault(item.key, clip), clip)
            if item.durations_s:
                yield item

    def _read_file(self, path: Path, clips: Sequence[Clip]) -> list[LabelledSpeech] | RecordingError:
        """Return the speech of the clips of one file, or the reason why it cannot be read."""
        try:
            content = _digest(path, self.limits)
            keys = [self._key(content, clip) for clip in clips]
            missing = [(clip, key) for clip, key in zip(clips, keys, strict=True) if key not in self.cache]
            if missing:
                parts = self._decode(path, [clip for clip, _ in missing])
                for (_, key), part in zip(missing, parts, strict=True):
                    segments = list(cut(iter([part]), self.segmentation, VoiceActivityDetector.load()))
                    durations_s = np.array([segment.duration_s for segment in segments], np.float32)
                    self.cache.write(key, [durations_s, *(segment.waveform for segment in segments)])
            return [
                LabelledSpeech(clip, key, tuple(map(float, self.cache.read(key)[0])))
                for clip, key in zip(clips, keys, strict=True)
            ]
        except RecordingError as error:
            return error

    def _key(self, content: str, clip: Clip) -> str:
        settings = (self.limits.model_dump(), self.segmentation.model_dump())
        return hash_of("speech", _VERSION, content, clip.start_s, str(clip.end_s), clip.channel, settings)

    def _decode(self, path: Path, clips: Sequence[Clip]) -> list[Block]:
        """Decode a file once, and return the samples of each clip, shapes ``(channels, n)``."""
        parts: list[list[Block]] = [[] for _ in clips]
        position = 0
        info = probe(path, self.limits)
        for clip in clips:
            if clip.channel is not None and clip.channel >= info.channels:
                raise RecordingUnreadable(f"There is no channel {clip.channel}: it has {info.channels}.")
        with closing(decode(path, info, self.limits)) as blocks:
            for block in blocks:
                for clip, part in zip(clips, parts, strict=True):
                    rows = slice(None) if clip.channel is None else slice(clip.channel, clip.channel + 1)
                    first, end = _samples(clip.start_s) - position, _samples(clip.end_s) - position
                    part.append(block[rows, max(0, first) : max(0, end)])
                position += block.shape[1]
        joined = [np.concatenate(part, axis=1) for part in parts]
        for clip, samples in zip(clips, joined, strict=True):
            if samples.shape[1] == 0:
                raise EmptyRecording(f"There are no samples from {clip.start_s:g} to {clip.end_s:g} s.")
        return joined


def _samples(seconds: float) -> int:
    return round(min(seconds, 1e9) * SAMPLE_RATE_HZ)


def _digest(path: Path, limits: MediaLimits) -> str:
    try:
        if not path.is_file():
            raise RecordingNotFound("There is no such file.")
        limits.check_size(path.stat().st_size)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RecordingUnreadable(f"The file cannot be read: {error.strerror}.") from error


def _refuse(failures: dict[Path, RecordingError]) -> None:
    if not failures:
        return
    named = " ".join(f"{path}: {error}" for path, error in list(failures.items())[:_MAX_NAMED])
    more = f" And {len(failures) - _MAX_NAMED} more." if len(failures) > _MAX_NAMED else ""
    raise TrainingRefused(f"{counted(len(failures), 'recording')} cannot be read. {named}{more}")
