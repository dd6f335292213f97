"""The two folders of the embedded stack: an inbox that is uploaded, and result documents that come back."""

import hashlib
import logging
from pathlib import Path

from core.local.stack import RESULTS_PREFIX, Stack

_logger = logging.getLogger(__name__)

_MAX_NAME_BYTES = 255
_MAX_PARALLEL = 50


class ResultFiles:
    """Keeps a folder of result documents in step with the results bucket."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder

    def fetch_new(self) -> list[Path]:
        """Write what is new or has changed; returns the files."""
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
        # Only what we wrote: the folder is the user's choice.
        for file in self._folder.rglob("*.json"):
            if b'"schema_version"' in file.read_bytes()[:100]:
                file.unlink()


def path_for(folder: Path, key: str) -> Path:
    """A path below the folder for any key: keys are the uploader's, and may climb or hold what no file name can."""
    parts = ["_" if part in ("", ".", "..") else part.replace("\0", "_") for part in key.split("/")]
    return folder.joinpath(*(_short(part) for part in parts))


def _short(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    ending = "-" + hashlib.sha256(name.encode()).hexdigest()[:16] + Path(name).suffix[:16]
    return name.encode()[: _MAX_NAME_BYTES - len(ending.encode())].decode("utf-8", "ignore") + ending


class Inbox:
    """A folder whose files are uploaded once they are completely there."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._growing: dict[Path, tuple[int, int]] = {}
        self._uploaded: dict[Path, tuple[int, int]] = {}

    def upload_new(self) -> list[str]:
        """Upload files that have not changed since the last call; returns the keys.

        Not all at once: whoever drops thousands wants to see the first results before the last upload.
        """
        keys: list[str] = []
        for file in sorted(self._folder.rglob("*")):
            if len(keys) >= _MAX_PARALLEL:
                break
            if file.name.startswith("."):
                continue
            try:
                keys += self._upload_if_complete(file)
            except (OSError, UnicodeError) as error:
                # Unreadable, gone again, or with a name that is no text: the next file is none the worse for it.
                _logger.warning("%a is left out: %s", str(file), error)
        return keys

    def _upload_if_complete(self, file: Path) -> list[str]:
        if not file.is_file():
            return []
        status = file.stat()
        state = (status.st_size, status.st_mtime_ns)
        if self._uploaded.get(file) == state:
            return []
        # A file that is still being copied grows between two looks.
        complete = self._growing.get(file) == state
        self._growing[file] = state
        if not complete:
            return []
        self._uploaded[file] = state
        return [self._stack.upload(file, file.relative_to(self._folder).as_posix())]
