"""The journal of a command that classifies many recordings, with which a second run continues the first."""

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.pipeline import Pipeline

FileVersion = tuple[str, int, int]
"""Path, size in bytes and modification time, which change when a recording is replaced."""


def version_of(path: Path) -> FileVersion | None:
    """Return the version of a file, or None if it is not a regular file, such as standard input."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (str(path), status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def hash_of(pipeline: Pipeline) -> str:
    """Return a hash of everything besides the recording that changes a result: the model, its labels and settings."""
    parts = (each.model_dump_json() for each in (pipeline.model, *pipeline.settings))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Journal:
    """A file with one line for each recording that was classified.

    Parameters
    ----------
    file
        The file, which is created if it does not exist.
    made_by
        `hash_of` the pipeline. Lines with another hash are ignored.
    name
        The name of the field with the classification.
    fresh
        Whether to discard the lines of earlier runs.
    """

    def __init__(self, file: Path, made_by: str, name: str, *, fresh: bool) -> None:
        self._file = file
        self._made_by = made_by
        self._name = name
        with file.open("wb" if fresh else "ab+") as stream:
            if stream.tell() > 0:
                stream.seek(-1, 2)
                if stream.read() != b"\n":
                    # An earlier run was killed while it wrote this line. The next line must not be appended to it.
                    stream.write(b"\n")

    def entries(self) -> Iterator[tuple[FileVersion, Any]]:
        """Yield what earlier runs with the same model and settings have added, oldest first."""
        with self._file.open("rb") as stream:
            for line in stream:
                try:
                    row = json.loads(line)
                    if row["made_by"] == self._made_by:
                        yield (row["path"], row["size_bytes"], row["modified_ns"]), row[self._name]
                except (ValueError, KeyError, TypeError):
                    continue

    def current(self) -> Iterator[tuple[FileVersion, Any]]:
        """Yield one entry for each recording that has not changed since, or that no longer exists."""
        paths: set[str] = set()
        for version, classification in self.entries():
            path = version[0]
            if path not in paths and version_of(Path(path)) in (version, None):
                paths.add(path)
                yield version, classification

    def add(self, version: FileVersion, classification: Any) -> None:
        """Append a line."""
        path, size_bytes, modified_ns = version
        row = {"path": path, "size_bytes": size_bytes, "modified_ns": modified_ns, self._name: classification}
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row | {"made_by": self._made_by}) + "\n")
