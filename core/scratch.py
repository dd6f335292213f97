"""Temporary folders for recordings, with a common prefix that identifies leftovers."""

import shutil
import tempfile
from pathlib import Path

PREFIX = "recording-"


def scratch_folder() -> "tempfile.TemporaryDirectory[str]":
    """Create a folder that is deleted at the end of the `with` block."""
    return tempfile.TemporaryDirectory(prefix=PREFIX)


def lasting_folder() -> Path:
    """Create a folder that the caller must delete."""
    return Path(tempfile.mkdtemp(prefix=PREFIX))


def remove_leftovers() -> None:
    """Delete all recordings in the temporary folder. Call it only in Lambda, where no other process uses `/tmp`.

    A killed invocation leaves its recording in `/tmp`, which the next process of the same environment inherits.
    """
    for leftover in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
