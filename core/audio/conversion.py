"""Converts a recording to the sound that the classifier gets: 16 kHz, mono, 16-bit WAV files."""

import os
import wave
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO

import numpy as np

from core.audio.channels import ChannelGroup, group_channels, mix
from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.utterances import consume, read_head
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.settings import MediaLimits, SegmentationSettings

_FULL_SCALE = 2**15
"""One more than the largest 16-bit sample."""
_MIN_PEAK = 2.0**-10
"""-60 dB. Smaller sound would use fewer than seven of the 16 bits, and in the end none."""


@dataclass(frozen=True)
class ConvertedFiles:
    """The new files of one recording.

    Attributes
    ----------
    files
        One for each channel that is classified separately, so one for most recordings.
    number
        The number in the names; 1, which is left out, if the names without it were free.
    gain
        The factor of all samples; 1 if the level is unchanged.
    """

    files: tuple[Path, ...]
    number: int
    gain: float


def convert(
    path: Path, folder: Path, stem: str, limits: MediaLimits, segmentation: SegmentationSettings
) -> ConvertedFiles:
    """Write the channels of a recording as the classifier gets them.

    If the samples exceed full scale, or are too small for 16 bits, all files are scaled by one factor. A DC offset
    stays, because the classifier removes it from each utterance.

    Parameters
    ----------
    stem
        Name of a single new file without its extension. Several files get the numbers of their channels too. If a file
        has the name already, a number is added.

    Raises
    ------
    RecordingError
        If the recording cannot be decoded. No new file is left behind.
    OSError
        If the recording cannot be read, or a new file cannot be written. No new file is left behind.
    """
    info = probe(path, limits)

    def decoded() -> Generator[Mapping[ChannelGroup, Waveform], None, None]:
        with closing(decode(path, info, limits)) as blocks:
            head = read_head(blocks, segmentation)
            groups = group_channels(np.concatenate(head, axis=1), segmentation.channels) if head else ()
            for block in chain(consume(head), blocks):
                yield {group: mix(block, group) for group in groups}

    with closing(decoded()) as parts:
        first = next(parts)
        suffixes = [f"-channel-{group[0]}" for group in first] if len(first) > 1 else [""]
        number, paths = _free_names(folder, stem, suffixes)
        with _new_files(paths) as files:
            targets = dict(zip(first, files, strict=True))
            gain = _gain(_write(chain([first], parts), targets, 1.0))
            if gain != 1.0:
                with closing(decoded()) as again:
                    _write(again, targets, gain)
    return ConvertedFiles(paths, number, gain)


def _free_names(folder: Path, stem: str, suffixes: Sequence[str]) -> tuple[int, tuple[Path, ...]]:
    """Return the first number with which no file of these names exists, and the names."""
    for number in count(1):
        name = stem if number == 1 else f"{stem}-{number}"
        paths = tuple(folder / f"{name}{suffix}.wav" for suffix in suffixes)
        if not any(map(os.path.lexists, paths)):
            break
    return number, paths


@contextmanager
def _new_files(paths: Sequence[Path]) -> Iterator[Sequence[BinaryIO]]:
    """Create files, and delete them if the context ends with an error."""
    created = []
    try:
        with ExitStack() as stack:
            files = []
            for path in paths:
                files.append(stack.enter_context(path.open("xb")))
                created.append(path)
            yield files
    except BaseException:
        for path in created:
            path.unlink(missing_ok=True)
        raise


def _write(
    parts: Iterable[Mapping[ChannelGroup, Waveform]], targets: Mapping[ChannelGroup, BinaryIO], gain: float
) -> float:
    """Write each channel to its file, and return the highest absolute value before scaling."""
    peak = 0.0
    with ExitStack() as stack:
        wavs = {group: stack.enter_context(_wav(file)) for group, file in targets.items()}
        for part in parts:
            for group, waveform in part.items():
                peak = max(peak, float(np.abs(waveform).max(initial=0.0)))
                wavs[group].writeframesraw(_pcm(waveform, gain))
    return peak


def _wav(file: BinaryIO) -> wave.Wave_write:
    file.seek(0)
    file.truncate()
    wav = wave.Wave_write(file)
    wav.setnchannels(1)
    wav.setsampwidth(2)
    wav.setframerate(SAMPLE_RATE_HZ)
    return wav


def _pcm(waveform: Waveform, gain: float) -> bytes:
    scaled = np.rint(waveform * np.float32(gain * _FULL_SCALE))
    return bytes(np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").data)


def _gain(peak: float) -> float:
    if peak == 0.0 or _MIN_PEAK <= peak <= 1.0:
        return 1.0
    return (_FULL_SCALE - 1) / _FULL_SCALE / peak
