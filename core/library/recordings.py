"""The recordings that paths name: files, the recordings in a folder, and standard input."""

import codecs
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from core.audio.formats import ACCEPTED_FORMATS
from core.errors import (
    DecoderUnavailable,
    RecordingError,
    RecordingNotFound,
    RecordingTooLarge,
    RecordingUnreadable,
)
from core.paths import is_ignored
from core.pipeline import Pipeline
from core.results import Result, Source
from core.scratch import scratch_folder
from core.settings import MediaLimits

_EXTENSIONS = frozenset(f".{extension}" for accepted in ACCEPTED_FORMATS for extension in accepted.extensions)
_STDIN = ("-", "/dev/stdin")
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
"""A shell passes the pipe of a process substitution, `<(command)`, under such a name."""
_CHUNK_BYTES = 1024 * 1024


def recordings_in(arguments: Iterable[Path], *, is_recursive: bool = False) -> Iterator[Path]:
    """Yield the arguments, with the recordings in a folder, sorted by name, in place of the folder.

    A folder counts a visible file as a recording if its name has the extension of an accepted format. A folder without
    recordings is yielded itself, and `open_recording` refuses it.

    Parameters
    ----------
    is_recursive
        Whether to include folders in folders, other than hidden ones and those that links point to.
    """
    for argument in arguments:
        files = _recordings_of_folder(argument, is_recursive=is_recursive)
        first = next(files, argument)
        yield first
        yield from files


def _recordings_of_folder(folder: Path, *, is_recursive: bool = False) -> Iterator[Path]:
    """Yield the recordings in a folder; none if it has none, is not a folder or cannot be listed."""
    if descriptor_of(folder) is not None or "\0" in str(folder):
        return
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if is_recursive and not is_ignored(name))
        for name in sorted(names):
            if not is_ignored(name) and is_recording_name(Path(name)):
                yield Path(parent, name)


def is_recording_name(file: Path) -> bool:
    """Return whether the name has the extension of an accepted format."""
    return file.suffix.lower() in _EXTENSIONS


def files_listed_in(name: Path) -> list[Path]:
    """Return the paths in a list: one a line, or separated by null bytes as `find -print0` writes them.

    Parameters
    ----------
    name
        The file with the list, or `-` for standard input.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    descriptor = descriptor_of(name)
    with open(name if descriptor is None else descriptor, "rb", closefd=descriptor is None) as stream:
        text = stream.read().removeprefix(codecs.BOM_UTF8)
    lines = text.split(b"\0") if b"\0" in text else text.replace(b"\r\n", b"\n").split(b"\n")
    return [Path(os.fsdecode(line)) for line in lines if line]


def descriptor_of(name: Path) -> int | None:
    """Return the file descriptor that a name such as `-` or `/dev/fd/63` stands for, or None for other names."""
    if str(name) in _STDIN:
        return 0
    match = _DESCRIPTOR.fullmatch(str(name))
    return int(match[1]) if match else None


def classify_file(file: Path, pipeline: Pipeline) -> Result:
    """Return the result of one file, with the status `failed` if it cannot be read or classified."""
    source = source_of(file)
    try:
        with open_recording(file, pipeline.limits) as path:
            source = source.model_copy(update={"size_bytes": path.stat().st_size})
            return pipeline.run(path, source)
    except RecordingError as error:
        return Result.failed(source, pipeline.model, error)
    except OSError as error:
        unreadable = RecordingUnreadable(f"The file cannot be read: {error.strerror}.")
        return Result.failed(source, pipeline.model, unreadable)


def source_of(file: Path) -> Source:
    """Return the source with the name of a file, in which U+FFFD replaces each byte that is not UTF-8."""
    return Source(key=os.fsencode(file).decode("utf-8", "replace"))


@contextmanager
def open_recording(name: Path, limits: MediaLimits) -> Iterator[Path]:
    """Provide a recording as a regular file, which for standard input is a temporary copy.

    Raises
    ------
    RecordingNotFound, RecordingUnreadable
        If there is no readable regular file of this name, or it was removed before the context exits.
    RecordingTooLarge
        If standard input exceeds the limit.
    """
    descriptor = descriptor_of(name)
    if descriptor is not None:
        with scratch_folder() as folder:
            copy = Path(folder) / "recording"
            _copy(descriptor, copy, limits)
            yield copy
        return
    path = check_file(name)
    try:
        yield path
    except DecoderUnavailable as error:
        check_file(name)
        raise RecordingUnreadable(str(error)) from error


def check_file(name: Path) -> Path:
    """Return the absolute path of a regular file that can be opened.

    Raises
    ------
    RecordingNotFound, RecordingUnreadable
        If it cannot. Opening a named pipe would wait for its writer, and a device may never end.
    """
    try:
        path = name.absolute()
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
            return path
        if stat.S_ISDIR(mode):
            next(path.iterdir(), None)  # raises an error if the folder cannot be listed
            has_some = any(_recordings_of_folder(path))
            raise RecordingUnreadable(
                "This is a folder, not a file." if has_some else "The folder contains no recordings."
            )
    except (FileNotFoundError, NotADirectoryError) as error:
        is_link = name.is_symlink()
        reason = "The link points to a file that does not exist." if is_link else "There is no such file."
        raise RecordingNotFound(reason) from error
    except (OSError, ValueError) as error:  # a path from a manifest may contain a null byte, which is a ValueError
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise RecordingUnreadable(f"The file cannot be read: {reason}.") from error
    if stat.S_ISFIFO(mode):
        raise RecordingUnreadable("This is a named pipe. To read it, pass `-` and redirect standard input from it.")
    raise RecordingUnreadable("This is a device or a socket, not a file.")


def _copy(descriptor: int, target: Path, limits: MediaLimits) -> None:
    try:
        with open(descriptor, "rb", closefd=False) as source, target.open("wb") as copy:
            if source.isatty():
                raise RecordingUnreadable("Standard input is a terminal. Redirect it from a recording: `- < FILE`.")
            _copy_bytes(source, copy, limits.max_size_bytes)
    except OSError as error:
        raise RecordingUnreadable(f"Standard input could not be copied: {error.strerror}.") from error


def _copy_bytes(source: BinaryIO, copy: BinaryIO, max_size_bytes: int) -> None:
    size_bytes = 0
    while chunk := source.read(_CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > max_size_bytes:
            raise RecordingTooLarge(f"Standard input has more bytes than the limit of {max_size_bytes:,}.")
        copy.write(chunk)
