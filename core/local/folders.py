"""The folders of the local stack: an inbox whose files are uploaded, and copies of the result documents."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from core.errors import FolderRefused
from core.formatting import printable
from core.local.stack import RESULTS_PREFIX, Stack, key_for

_logger = logging.getLogger(__name__)

_MAX_NAME_BYTES = 255
_MAX_UPLOADS = 50
"""Uploads in one pass, so that the first results appear before thousands of files are uploaded."""
_SETTLE_S = 2.0
"""A program that copies a file pauses for less."""
_MAX_RETRY_DELAY_S = 60.0
_PARTIAL_SUFFIXES = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".opdownload", ".download")
"""Suffixes of files and folders that browsers and file transfer programs rename when the file is complete."""
_SYSTEM_NAMES = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"),
    *("$recycle.bin", "system volume information", "lost+found"),
)
"""Files and folders that operating systems create, in lower case."""
_HTTP_SERVER_ERROR = 500


class _Warnings:
    """Logs a warning once, until its subject has no problem or another one."""

    def __init__(self) -> None:
        self._current: dict[object, str] = {}

    def warn(self, subject: object, message: str) -> None:
        if self._current.get(subject) != message:
            _logger.warning("%s", printable(message))
        self._current[subject] = message

    def clear(self, subject: object) -> None:
        self._current.pop(subject, None)


class ResultFiles:
    """A folder with a copy of every result document.

    The folder may contain other files. A record in it names every file that the command has written, with the hash of
    its content, so that a file of another program and a file that the user has edited are neither replaced nor deleted.
    """

    def __init__(self, stack: Stack, folder: Path, record_fd: int) -> None:
        self._stack = stack
        self._folder = folder
        self._record_fd = record_fd
        self._files: dict[str, Path] = {}
        self._hashes: dict[Path, set[str]] = {}
        self._pending: dict[str, None] = {}
        self._warnings = _Warnings()
        self._read_record()

    def fetch_new(self) -> list[Path]:
        """Write the documents that are new or have changed, and return their files.

        A document that cannot be written, for example to a full disk, is written by a later call.
        """
        written = []
        try:
            self._pending |= dict.fromkeys(self._stack.take_new_results())
            for key in list(self._pending):
                try:
                    written.append(self._write(key, self._stack.result(key)))
                except OSError as error:
                    self._warnings.warn(error.errno, f"{error.filename or self._folder}: {error.strerror}. Retrying.")
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        break
                else:
                    del self._pending[key]
        except (BotoCoreError, ClientError) as error:
            self._warnings.warn(ClientError, f"The local S3 or SQS did not answer: {error}. Retrying.")
        else:
            self._warnings.clear(ClientError)
        return written

    def clear(self) -> None:
        """Delete the files that earlier runs of the command have written, unless they have been changed since."""
        for file in self._hashes:
            if self._is_own(file):
                file.unlink()
        self._files.clear()
        self._hashes.clear()
        os.ftruncate(self._record_fd, 0)

    def _read_record(self) -> None:
        for line in os.pread(self._record_fd, os.fstat(self._record_fd).st_size, 0).splitlines():
            try:
                entry = json.loads(line)
                relative = Path(entry["file"])
                if not relative.is_absolute() and ".." not in relative.parts:
                    self._remember(entry["key"], self._folder / relative, entry["sha256"])
            except (ValueError, KeyError, TypeError):
                continue  # empty, or an earlier run was killed while it wrote the line

    def _remember(self, key: str, file: Path, sha256: str) -> None:
        self._files[key] = file
        self._hashes.setdefault(file, set()).add(sha256)

    def _is_own(self, file: Path) -> bool:
        """Return whether the file still has a content that the command has written."""
        if not file.is_file() or file.is_symlink():
            return False
        return hashlib.sha256(file.read_bytes()).hexdigest() in self._hashes[file]

    def _write(self, key: str, document: bytes) -> Path:
        file = self._files.get(key)
        if file is None or not self._is_own(file):
            file = unused_path_for(self._folder, key.removeprefix(RESULTS_PREFIX))
        file.parent.mkdir(parents=True, exist_ok=True)
        # The record comes first: if the process is killed in between, no unknown file is left.
        self._record(key, file, hashlib.sha256(document).hexdigest())
        part = file.with_name(f".{hashlib.sha256(key.encode()).hexdigest()[:16]}.part")
        try:
            part.write_bytes(document)
            part.replace(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return file

    def _record(self, key: str, file: Path, sha256: str) -> None:
        if self._files.get(key) == file and sha256 in self._hashes[file]:
            return
        entry = {"key": key, "file": file.relative_to(self._folder).as_posix(), "sha256": sha256}
        # A new line first, because a full disk may have cut off the previous line.
        line = b"\n" + json.dumps(entry).encode()
        if os.write(self._record_fd, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
        self._remember(key, file, sha256)


@contextmanager
def result_files(stack: Stack, folder: Path, command: str) -> Iterator[ResultFiles]:
    """Create the folder of a command's result documents, and reserve it for this process.

    Raises
    ------
    FolderRefused
        If another process of the same command uses the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record_fd = os.open(folder / f".audio-emotion-{command}", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(record_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the lock ends with the process
        except BlockingIOError as error:
            raise FolderRefused(
                f"Another `audio-emotion {command}` is writing to {folder}/. Choose another folder with --out."
            ) from error
        except OSError:
            _logger.debug("%s has no file locks.", folder)  # some network file systems
        yield ResultFiles(stack, folder, record_fd)
    finally:
        os.close(record_fd)


def path_for(folder: Path, key: str) -> Path:
    """Return a valid path below the folder for every key, even one with `..`, a null byte or an overlong part."""
    parts = ["_" if part in ("", ".", "..") else part.replace("\0", "_") for part in key.split("/")]
    return folder.joinpath(*(_short(part) for part in parts))


def unused_path_for(folder: Path, key: str) -> Path:
    """Return `path_for` of a key, with a number after each name that is taken by another file."""
    *parents, name = path_for(folder, key).relative_to(folder).parts
    for parent in parents:
        folder = next(path for path in _numbered(folder / parent) if path.is_dir() or not os.path.lexists(path))
    return next(path for path in _numbered(folder / name) if not os.path.lexists(path))


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_name(_short(f"{path.stem}-{number}{path.suffix}"))


def _short(name: str) -> str:
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    ending = "-" + hashlib.sha256(name.encode()).hexdigest()[:16] + Path(name).suffix[:16]
    return name.encode()[: _MAX_NAME_BYTES - len(ending.encode())].decode("utf-8", "ignore") + ending


def is_ignored(name: str) -> bool:
    """Return whether a name is that of a hidden file, an incomplete download or a file of the operating system."""
    lower = name.lower()
    return lower.startswith((".", "~$")) or lower.endswith((*_PARTIAL_SUFFIXES, "~")) or lower in _SYSTEM_NAMES


@dataclass
class _Seen:
    """What the inbox knows of a file."""

    state: tuple[int, int]
    due_s: float
    failures: int = 0
    is_settled: bool = False


class Inbox:
    """A folder whose files are uploaded once they have stopped changing.

    Parameters
    ----------
    clock
        Returns seconds that never go back.
    """

    def __init__(self, stack: Stack, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._stack = stack
        self._folder = folder
        self._clock = clock
        self._seen: dict[Path, _Seen] = {}
        self._warnings = _Warnings()

    def upload_new(self) -> list[str]:
        """Upload some of the files that are new and complete, and return their keys.

        A file whose upload fails is tried again after a delay. If S3 refuses it, it is tried again once it has changed.
        """
        keys: list[str] = []
        for file in self._files():
            if len(keys) >= _MAX_UPLOADS:
                break
            keys += self._upload_if_due(file)
        return keys

    def _files(self) -> list[Path]:
        """List the files, and forget those that are gone, because a file that comes back is new."""
        failed: list[OSError] = []
        files: list[Path] = []
        for parent, folders, names in os.walk(self._folder, onerror=failed.append):
            folders[:] = sorted(name for name in folders if not is_ignored(name))
            files += (Path(parent, name) for name in sorted(names) if not is_ignored(name))
        for error in failed:
            self._warnings.warn("folder", f"{error.filename}: {error.strerror}. Waiting for the folder.")
        if not failed:
            self._warnings.clear("folder")
            self._seen = {file: self._seen[file] for file in files if file in self._seen}
        return files

    def _upload_if_due(self, file: Path) -> list[str]:
        try:
            if not file.is_file():
                return []
            status = file.stat()
        except OSError as error:
            self._warnings.warn(file, f"{file} cannot be read: {error.strerror}. Retrying.")
            return []
        state = (status.st_size, status.st_mtime_ns)
        seen = self._seen.get(file)
        if seen is None or seen.state != state:
            self._seen[file] = _Seen(state, self._clock() + _SETTLE_S)
            return []
        if seen.is_settled or self._clock() < seen.due_s:
            return []
        return self._upload(file, seen)

    def _upload(self, file: Path, seen: _Seen) -> list[str]:
        try:
            key = self._stack.upload(file, key_for(file.relative_to(self._folder)))
        except (OSError, BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and _status(error) < _HTTP_SERVER_ERROR:
                seen.is_settled = True
                self._warnings.warn(file, f"{file} cannot be uploaded: {error}.")
                return []
            seen.due_s = self._clock() + min(_MAX_RETRY_DELAY_S, 2.0**seen.failures)
            seen.failures += 1
            reason = error.strerror if isinstance(error, OSError) else error
            self._warnings.warn(file, f"{file} cannot be uploaded: {reason}. Retrying.")
            return []
        seen.is_settled = True
        self._warnings.clear(file)
        return [key]


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", _HTTP_SERVER_ERROR))
