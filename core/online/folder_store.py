"""Result store without AWS: results in a folder, uploads classified in the background.

The store replaces S3 and the queue. Clients use it in the same way: they post a form, then poll for the result. Results
survive a restart, but forms do not. An upload that is still waiting at shutdown gets a `failed` result.
"""

import logging
import secrets
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from core.errors import DiskUnavailable, UploadFormRejected
from core.online.recogniser import Recogniser
from core.online.result_store import Missing, PresignedUpload, new_id
from core.results import Result, now
from core.scratch import disk_errors, lasting_folder
from core.settings import ApiSettings, SpeakerMode

UPLOAD_PATH = "/uploads/here"
"""The path of the API that forms are posted to."""

_logger = logging.getLogger(__name__)


class _Form(NamedTuple):
    expires_at: datetime
    speakers: SpeakerMode | None


class FolderResultStore:
    """Keep results in a folder and classify uploads one after another."""

    upload_origin: str | None = None

    def __init__(self, settings: ApiSettings, max_size_bytes: int) -> None:
        self._settings = settings
        self._max_size_bytes = max_size_bytes
        self._lock = threading.Lock()
        self._forms: dict[str, _Form] = {}  # unused forms: key -> form; the id in the key cannot be guessed
        self._pending: dict[str, float | None] = {}  # id -> the share that is classified, if it is known
        self._not_stored: dict[str, str] = {}  # id -> why its result could not be written
        self._worker: ThreadPoolExecutor | None = None
        self._closing = threading.Event()

    def key_for(self, recording_id: str) -> str:
        """Return the key that an object of this id has in a bucket."""
        return self._settings.api_prefix + recording_id

    def store(self, recording_id: str, result: Result) -> None:
        """Write a result atomically.

        Raises
        ------
        DiskUnavailable
            If the result cannot be written.
        """
        file = self._file(recording_id)
        part = file.with_suffix(f".{secrets.token_hex(4)}.part")
        with disk_errors("The results folder"):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(result.to_json().encode())
                part.replace(file)
            finally:
                part.unlink(missing_ok=True)

    def find(self, recording_id: str) -> bytes | Missing:
        """Return a result document, or why there is none.

        Raises
        ------
        DiskUnavailable
            If the recording was classified, but its result could not be written.
        """
        with self._lock:  # before reading the file, because a result is written before its id stops being pending
            pending, reason = recording_id in self._pending, self._not_stored.get(recording_id)
        if reason:
            raise DiskUnavailable(reason)
        try:
            return self._file(recording_id).read_bytes()
        except FileNotFoundError:
            return Missing.PENDING if pending else Missing.UNKNOWN

    def progress(self, recording_id: str) -> float | None:
        """Return the share of an upload that is classified."""
        with self._lock:
            return self._pending.get(recording_id)

    def create_upload(self, base_url: str, speakers: SpeakerMode | None = None) -> PresignedUpload:
        """Create a form for one recording, which is posted to this API."""
        recording_id = new_id()
        key = self.key_for(recording_id)
        expires_at = now() + timedelta(seconds=self._settings.api_upload_expiry_s)
        with self._lock:
            self._forms = {each: form for each, form in self._forms.items() if form.expires_at >= now()}
            self._forms[key] = _Form(expires_at, speakers)
        url = base_url.rstrip("/") + UPLOAD_PATH
        return PresignedUpload(recording_id, url, {"key": key}, expires_at, self._max_size_bytes)

    def submit(self, key: str, recording: BinaryIO, recogniser: Recogniser) -> None:
        """Accept a posted form: copy the recording and classify it in the background.

        Raises
        ------
        UploadFormRejected
            If this process did not issue the form, or the form has expired or has been used.
        DiskUnavailable
            If the recording cannot be written. The form stays valid.
        """
        with self._lock:
            form = self._forms.pop(key, None)
        if form is None or form.expires_at < now():
            raise UploadFormRejected(
                "This form is unknown, already used or expired. Request a new one with POST /uploads."
            )
        try:
            path = _copied(recording)
        except BaseException:
            with self._lock:
                self._forms[key] = form  # the client may post the form again
            raise
        recording_id = key.removeprefix(self._settings.api_prefix)
        with self._lock:
            # One thread: /recognize/ must stay responsive while a long recording is classified.
            self._worker = self._worker or ThreadPoolExecutor(max_workers=1, thread_name_prefix="upload")
            self._worker.submit(self._classify, recording_id, path, recogniser, form.speakers)
            self._pending[recording_id] = None

    def close(self) -> None:
        """Finish the current upload, and store a `failed` result for each waiting one."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker:
            self._closing.set()
            worker.shutdown(wait=True)
            self._closing.clear()

    def _classify(self, recording_id: str, path: Path, recogniser: Recogniser, speakers: SpeakerMode | None) -> None:
        try:
            if self._closing.is_set():
                result = recogniser.give_up(recording_id, path, "The server was shut down.")
            else:
                result = recogniser.classify_upload(recording_id, path, speakers, partial(self._advance, recording_id))
            self.store(recording_id, result)
        except DiskUnavailable as error:
            _logger.error("The result of an upload could not be stored. %s", error)
            with self._lock:
                self._not_stored[recording_id] = str(error)
        except Exception:
            # Without the id, because an id gives access to its result.
            _logger.exception("The result of an upload could not be stored.")
        finally:
            with self._lock:
                self._pending.pop(recording_id, None)
            shutil.rmtree(path.parent, ignore_errors=True)

    def _advance(self, recording_id: str, share: float) -> None:
        with self._lock:
            self._pending[recording_id] = share

    def _file(self, recording_id: str) -> Path:
        # Safe as a path: callers have validated the id, and the operator sets the prefix.
        return self._settings.results_folder / f"{self.key_for(recording_id)}.json"


def _copied(recording: BinaryIO) -> Path:
    folder = lasting_folder()
    try:
        path = folder / "recording"
        with disk_errors(), path.open("wb") as file:
            shutil.copyfileobj(recording, file, 1024 * 1024)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return path
