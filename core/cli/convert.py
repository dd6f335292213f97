"""`audio-emotion convert`: convert recordings to 16 kHz mono WAV files."""

from collections.abc import Iterable, Iterator
from math import log10
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from core import settings
from core.audio.conversion import ConvertedFiles, convert
from core.cli.streams import reason_of
from core.errors import AudioEmotionError
from core.formatting import printable
from core.library.recordings import descriptor_of, open_recording, recordings_in
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings


def convert_files(files: Iterable[Path], out: Path) -> int:
    """Convert each file to new files in a folder; return the exit status."""
    console, errors = Console(), Console(stderr=True)
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
    out.mkdir(parents=True, exist_ok=True)
    failed = False
    for file in recordings_in(files):
        try:
            with open_recording(file, limits) as path:
                converted = convert(path, out, _stem(file), limits, segmentation)
        except (AudioEmotionError, OSError) as error:
            failed = True
            reason = reason_of(error) if isinstance(error, OSError) else error
            errors.print(f"[red]{_escaped(file)}: {_escaped(reason)}[/red]", soft_wrap=True)
        else:
            for line in _report(file, converted):
                console.print(_escaped(line), soft_wrap=True)
    return int(failed)


def _stem(file: Path) -> str:
    return file.stem if descriptor_of(file) is None else "stdin"


def _report(file: Path, converted: ConvertedFiles) -> Iterator[str]:
    yield f"{file} -> {', '.join(map(str, converted.files))}"
    if converted.number > 1:
        yield f"{file}: A file of this name exists already, so the new one has the number {converted.number}."
    if converted.gain != 1.0:
        change_db = 20 * log10(converted.gain)
        verb, reason = ("lowered", "exceeds") if change_db < 0 else ("raised", "is too quiet for")
        yield f"{file}: The level was {verb} by {abs(change_db):.1f} dB, because the sound {reason} 16 bits."


def _escaped(text: object) -> str:
    return escape(printable(str(text)))
