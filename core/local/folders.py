"""The folders of the local stack: an inbox whose files are uploaded, and copies of the result documents."""

import hashlib
import logging
from pathlib import Path

from core.local.stack import RESULTS_PREFIX, Stack

_logger = logging.getLogger(__name__)

_MAX_NAME_BYTES = 255
_MAX_UPLOADS = 50
"""Uploads in one pass, so that the first results appear before thousands of files are uploaded."""


class ResultFiles:
    """A folder with a copy of every result document."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def fetch_new(self) -> list[Path]:
        """Write the documents that are new or have changed, and return their files."""
        written = []
        for key in self._stack.take_new_results():
            file = path_for(self._folder, key.removeprefix(RESULTS_PREFIX))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self._stack.result(key))
            written.append(file)
        return written

    def clear(self) -> None:
        """Remove the documents of earlier runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # The folder may contain other files.
        for file in self._folder.rglob("*.json"):
            if b'"schema_version"' in file.read_bytes()[:100]:
                file.unlink()


def path_for(folder: Path, key: str) -> Path:
    """Return a valid path below the folder for every key, even one with `..`, a null byte or an overlong part."""
    parts = ["_" if part in ("", ".", "..") else part.replace("\0", "_") for part in key.split("/")]
    return folder.joinpath(*(_short(part) for part in parts))


def _short(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    ending = "-" + hashlib.sha256(name.encode()).hexdigest()[:16] + Path(name).suffix[:16]
    return name.encode()[: _MAX_NAME_BYTES - len(ending.encode())].decode("utf-8", "ignore") + ending


class Inbox:
    """A folder whose files are uploaded once they have stopped growing."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._growing: dict[Path, tuple[int, int]] = {}
        self._uploaded: dict[Path, tuple[int, int]] = {}

    def upload_new(self) -> list[str]:
        """Upload some of the new files that have not changed since the last call, and return their keys."""
        keys: list[str] = []
        for file in sorted(self._folder.rglob("*")):
            if len(keys) >= _MAX_UPLOADS:
                break
            if file.name.startswith("."):
                continue
            try:
                keys += self._upload_if_complete(file)
            except (OSError, UnicodeError) as error:
                # Unreadable, deleted, or with a name that is not UTF-8.
                _logger.warning("%a was skipped: %s", str(file), error)
        return keys

    def _upload_if_complete(self, file: Path) -> list[str]:
        if not file.is_file():
            return []
        status = file.stat()
        state = (status.st_size, status.st_mtime_ns)
        if self._uploaded.get(file) == state:
            return []
        # A file that is still being copied grows between two calls.
        complete = self._growing.get(file) == state
        self._growing[file] = state
        if not complete:
            return []
        self._uploaded[file] = state
        return [self._stack.upload(file, file.relative_to(self._folder).as_posix())]
