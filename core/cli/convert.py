"""`audio-emotion convert`: convert audio files to 16 kHz mono WAV files."""

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import soundfile
from rich.console import Console
from rich.markup import escape

from core import settings
from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ
from core.cli.recordings import descriptor_of, open_recording, recordings_in
from core.errors import AudioEmotionError
from core.formatting import printable
from core.settings import CLI_PREFIX, MediaLimits


def convert_files(files: Iterable[Path], out: Path) -> int:
    """Convert each file to a new file in a folder; return the exit status."""
    console, errors = Console(), Console(stderr=True)
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    out.mkdir(parents=True, exist_ok=True)
    failed = False
    for file in recordings_in(files):
        try:
            with open_recording(file, limits) as path:
                written = convert_file(path, out, limits, stem=_stem(file))
        except (AudioEmotionError, OSError) as error:
            failed = True
            reason = f"{error.strerror}." if isinstance(error, OSError) else error
            errors.print(f"[red]{_escaped(file)}: {_escaped(reason)}[/red]", soft_wrap=True)
        else:
            console.print(f"{_escaped(file)} -> {_escaped(written)}", soft_wrap=True)
    return int(failed)


def _stem(file: Path) -> str:
    return file.stem if descriptor_of(file) is None else "stdin"


def _escaped(text: object) -> str:
    return escape(printable(str(text)))


def convert_file(file: Path, out: Path, limits: MediaLimits, *, stem: str | None = None) -> Path:
    """Convert one file to 16-bit PCM, mixed to mono, and return the new file.

    Parameters
    ----------
    stem
        Name of the new file without its extension; None for the name of the file.

    Raises
    ------
    RecordingError
        If the file cannot be decoded. No new file is left behind.
    OSError
        If the file cannot be read or the folder cannot be written.
    """
    info = probe(file, limits)
    target = _new_file(out, stem or file.stem)
    try:
        with (
            soundfile.SoundFile(os.fsencode(target), "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="WAV") as wav,
            closing(decode(file, info, limits)) as blocks,
        ):
            for block in blocks:
                wav.write(block.mean(axis=0))
    except BaseException:
        target.unlink()
        raise
    return target


def _new_file(folder: Path, stem: str) -> Path:
    """Create an empty file with this name, or with the first free number after it."""
    number = 1
    while True:
        target = folder / (f"{stem}.wav" if number == 1 else f"{stem}-{number}.wav")
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return target
