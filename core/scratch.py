"""Temporary folders for recordings, with a common prefix that identifies leftovers."""

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import DiskUnavailable

PREFIX = "recording-"

_DEFAULT_FOLDER = "/tmp"  # noqa: S108 (Lambda's only writable folder)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, and the limit of `ulimit -f`."""

_logger = logging.getLogger(__name__)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a folder that is deleted at the end of the `with` block.

    Raises
    ------
    DiskUnavailable
        If no folder can be created.
    """
    folder = lasting_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lasting_folder() -> Path:
    """Create a folder that the caller must delete.

    Raises
    ------
    DiskUnavailable
        If no folder can be created.
    """
    with disk_errors():
        return Path(tempfile.mkdtemp(prefix=PREFIX))


@contextmanager
def disk_errors(place: str = "The temporary folder") -> Iterator[None]:
    """Raise `DiskUnavailable` in place of the system's errors when files of this place are written."""
    try:
        yield
    except OSError as error:
        problem = "is full" if error.errno in _FULL else "cannot be written"
        # Not the error's own text, which may contain paths of the server.
        reason = f" ({os.strerror(error.errno)})" if error.errno else ""
        raise DiskUnavailable(f"{place} {problem}{reason}.") from error


def warn_if_too_small(max_size_bytes: int) -> None:
    """Log a warning if the largest accepted recording does not fit into the temporary folder."""
    try:
        folder = tempfile.gettempdir()
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        _logger.warning("The temporary folder cannot be written: %s.", error.strerror)
        return
    if free_bytes < max_size_bytes:
        _logger.warning(
            "The temporary folder %s has %s bytes free, but a recording may have %s bytes (MAX_SIZE_BYTES). Lower "
            "MAX_SIZE_BYTES, or enlarge the folder: EphemeralStorageMb in Lambda, another TMPDIR elsewhere.",
            folder,
            f"{free_bytes:,}",
            f"{max_size_bytes:,}",
        )


def remove_leftovers() -> None:
    """Delete all recordings in the temporary folder. Call it only in Lambda, where no other process uses `/tmp`.

    A killed invocation leaves its recording in `/tmp`, which the next process of the same environment inherits.
    """
    # Not `tempfile.gettempdir`, which refuses a folder without room for a file.
    for leftover in Path(os.environ.get("TMPDIR") or _DEFAULT_FOLDER).glob(f"{PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
