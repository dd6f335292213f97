"""The folders of the local stack: an inbox whose files are uploaded, and copies of the result documents."""

import errno
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from core.errors import FolderRefused
from core.formatting import printable
from core.local.stack import RESULTS_PREFIX, Stack, key_for
from core.paths import is_ignored

_logger = logging.getLogger(__name__)

_MAX_NAME_BYTES = 255
_MAX_UPLOADS = 50
"""Uploads in one pass, so that the first results appear before thousands of files are uploaded."""
_SETTLE_S = 2.0
"""A program that copies a file pauses for less."""
_MIN_GROWING_SETTLE_S, _MAX_SETTLE_S = 10.0, 60.0
"""A file that has changed before settles for twice its last pause, within these limits. Recorders write in bursts."""
_MAX_RETRY_DELAY_S = 60.0
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


class _Finished(NamedTuple):
    """The result of an upload: its file, the MD5 of the recording, and the model and the settings."""

    file: Path
    md5: str
    made_by: str


def _finished(entry: Mapping[str, str], file: Path) -> _Finished:
    return _Finished(file, entry["md5"], entry["made_by"])


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)


class ResultFiles:
    """A folder with a copy of every result document.

    The folder may contain other files. A record in it names every file that the command has written, with the hash of
    its content, so that a file of another program and a file that the user has edited are neither replaced nor deleted.

    Parameters
    ----------
    made_by
        Identifies the model and the settings, which change results.
    """

    def __init__(self, stack: Stack, folder: Path, record_fd: int, made_by: str = "") -> None:
        self._stack = stack
        self._folder = folder
        self._record_fd = record_fd
        self._made_by = made_by
        self._uploads: dict[str, _Finished] = {}
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
        self._uploads.clear()
        os.ftruncate(self._record_fd, 0)

    def _read_record(self) -> None:
        for line in os.pread(self._record_fd, os.fstat(self._record_fd).st_size, 0).splitlines():
            try:
                entry = json.loads(line)
                relative = Path(entry["file"])
                if not relative.is_absolute() and ".." not in relative.parts:
                    self._remember(entry, self._folder / relative)
            except (ValueError, KeyError, TypeError):
                continue  # empty, or an earlier run was killed while it wrote the line

    def _remember(self, entry: Mapping[str, str], file: Path) -> None:
        self._files[entry["key"]] = file
        self._hashes.setdefault(file, set()).add(entry["sha256"])
        if "upload" in entry:
            self._uploads[entry["upload"]] = _finished(entry, file)

    def has_result(self, upload: str, recording: Path) -> bool:
        """Return whether this content of an upload has a result of the same model and settings.

        A failed recording is tried again.
        """
        finished = self._uploads.get(upload)
        if finished is None or finished.made_by != self._made_by or not self._is_own(finished.file):
            return False
        with recording.open("rb") as stream:
            return hashlib.file_digest(stream, _md5).hexdigest() == finished.md5

    def delete_except(self, uploads: Container[str]) -> list[str]:
        """Delete the unchanged results of all other uploads; return the keys of those uploads."""
        deleted = [upload for upload in self._uploads if upload not in uploads]
        for upload in deleted:
            file = self._uploads.pop(upload).file
            if self._is_own(file):
                file.unlink()
        return deleted

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
        self._record(key, file, document)
        part = file.with_name(f".{hashlib.sha256(key.encode()).hexdigest()[:16]}.part")
        try:
            part.write_bytes(document)
            part.replace(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return file

    def _record(self, key: str, file: Path, document: bytes) -> None:
        upload = self._upload_of(key, document)
        entry = {"key": key, "file": file.relative_to(self._folder).as_posix(), **upload}
        entry["sha256"] = hashlib.sha256(document).hexdigest()
        is_known = self._files.get(key) == file and entry["sha256"] in self._hashes[file]
        if is_known and (not upload or self._uploads.get(upload["upload"]) == _finished(entry, file)):
            return
        # A new line first, because a full disk may have cut off the previous line.
        line = b"\n" + json.dumps(entry).encode()
        if os.write(self._record_fd, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))
        self._remember(entry, file)

    def _upload_of(self, key: str, document: bytes) -> dict[str, str]:
        """Return the upload that the document belongs to, unless it failed or is a report."""
        try:
            fields = json.loads(document) if key.endswith(".json") else {}
            if fields["status"] != "failed":
                # The ETag of an object that was uploaded in one piece is its MD5.
                source = fields["source"]
                return {"upload": source["key"], "md5": source["etag"].strip('"'), "made_by": self._made_by}
        except (ValueError, KeyError, TypeError):
            pass
        return {}


@contextmanager
def result_files(stack: Stack, folder: Path, command: str, made_by: str = "") -> Iterator[ResultFiles]:
    """Create the folder of a command's result documents, and reserve it for this process.

    Parameters
    ----------
    made_by
        Identifies the model and the settings: see `ResultFiles`.

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
        yield ResultFiles(stack, folder, record_fd, made_by)
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


@dataclass
class _Seen:
    """The inbox's record of a file."""

    state: tuple[int, int]
    changed_s: float
    due_s: float
    failures: int = 0
    is_settled: bool = False


class Inbox:
    """A folder whose files are uploaded once they have stopped changing.

    Parameters
    ----------
    clock
        Returns seconds that never go back.
    is_finished
        Returns whether a key's file needs no upload, because its content has a result.

    Attributes
    ----------
    keys
        The keys of all files in the last pass, or None if the folder could not be listed.
    """

    def __init__(
        self,
        stack: Stack,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        is_finished: Callable[[str, Path], bool] = lambda _key, _file: False,
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._clock = clock
        self._is_finished = is_finished
        self.keys: frozenset[str] | None = None
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
        self.keys = None if failed else frozenset(key_for(file.relative_to(self._folder)) for file in files)
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
        now_s = self._clock()
        if seen is None or seen.state != state:
            pause_s = now_s - seen.changed_s if seen else 0.0
            settle_s = min(_MAX_SETTLE_S, max(_MIN_GROWING_SETTLE_S, 2 * pause_s)) if seen else _SETTLE_S
            self._seen[file] = _Seen(state, now_s, now_s + settle_s)
            return []
        if seen.is_settled or now_s < seen.due_s:
            return []
        return self._upload(file, seen)

    def _upload(self, file: Path, seen: _Seen) -> list[str]:
        key = key_for(file.relative_to(self._folder))
        try:
            if self._is_finished(key, file):
                seen.is_settled = True
                return []
            self._stack.upload(file, key)
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
