"""Where a recording lies while it is worked on: a folder of its own, by whose name leftovers are known."""

import shutil
import tempfile
from pathlib import Path

PREFIX = "recording-"


def scratch_folder() -> "tempfile.TemporaryDirectory[str]":
    """A folder that is gone when its `with` block is left."""
    return tempfile.TemporaryDirectory(prefix=PREFIX)


def lasting_folder() -> Path:
    """A folder that whoever asked for it removes."""
    return Path(tempfile.mkdtemp(prefix=PREFIX))


def remove_leftovers() -> None:
    """Remove the folders of all recordings: only for a process that has the temporary folder to itself.

    An invocation in Lambda that was killed leaves its recording behind, and /tmp outlives it.
    """
    for left_behind in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
