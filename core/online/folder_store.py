"""The store of a machine without AWS: results in a folder, and uploads that are classified in the background.

What S3 and the queue do on AWS is played here, so that the same client works with both: an upload is a form with a
signed ticket, and its result is on its way until it is there. Results outlive the process; tickets do not, and an
upload that still waits when it ends is given up, which is a result as well.
"""

import base64
import hashlib
import hmac
import json
import logging
import secrets
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from core.errors import UploadFormRejected
from core.online.recogniser import Recogniser
from core.online.result_store import NotThere, PresignedUpload, is_id, new_id
from core.results import Result
from core.scratch import lasting_folder
from core.settings import ApiSettings

UPLOAD_PATH = "/uploads/here"
"""Where forms are posted to."""

_logger = logging.getLogger(__name__)


class FolderResultStore:
    """Keeps results in a folder and classifies uploads one after another."""

    upload_origin: str | None = None

    def __init__(self, settings: ApiSettings, max_size_bytes: int) -> None:
        self._settings = settings
        self._max_size_bytes = max_size_bytes
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._on_their_way: set[str] = set()
        self._worker: ThreadPoolExecutor | None = None
        self._closing = threading.Event()

    def key_for(self, recording_id: str) -> str:
        """What it would be in a bucket."""
        return self._settings.api_prefix + recording_id

    def store(self, recording_id: str, result: Result) -> None:
        """Write a result; whoever reads at that moment sees all of it or nothing."""
        file = self._file(recording_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{secrets.token_hex(4)}.part")
        beside.write_bytes(result.to_json().encode())
        beside.replace(file)

    def find(self, recording_id: str) -> bytes | NotThere:
        """Read a result."""
        with self._lock:
            waiting = recording_id in self._on_their_way
        try:
            return self._file(recording_id).read_bytes()
        except FileNotFoundError:
            return NotThere.ON_ITS_WAY if waiting else NotThere.UNKNOWN

    def create_upload(self, base_url: str) -> PresignedUpload:
        """Sign a form for one recording, to be posted to this API itself."""
        recording_id = new_id()
        expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self._settings.api_upload_expiry_s)
        promised = json.dumps({"key": self.key_for(recording_id), "expires_at": expires_at.isoformat()})
        policy = base64.b64encode(promised.encode()).decode()
        fields = {"key": self.key_for(recording_id), "policy": policy, "signature": self._signature(policy)}
        url = base_url.rstrip("/") + UPLOAD_PATH
        return PresignedUpload(recording_id, url, fields, expires_at, self._max_size_bytes)

    def check(self, fields: Mapping[str, str]) -> str:
        """See whether a form carries a valid ticket; returns the id.

        Raises
        ------
        UploadFormRejected
            If it is not ours, has run out, or was used.
        """
        policy = fields.get("policy", "")
        if not hmac.compare_digest(self._signature(policy).encode(), fields.get("signature", "").encode()):
            raise UploadFormRejected("This form was not signed here: ask POST /uploads for one.")
        promised = json.loads(base64.b64decode(policy))
        recording_id = str(promised["key"]).removeprefix(self._settings.api_prefix)
        if fields.get("key") != promised["key"] or not is_id(recording_id):
            raise UploadFormRejected("This form was signed for another key.")
        if datetime.fromisoformat(promised["expires_at"]) < datetime.now(UTC):
            raise UploadFormRejected("This form has run out: ask POST /uploads for another.")
        if self.find(recording_id) is not NotThere.UNKNOWN:
            raise UploadFormRejected("This form was used already: ask POST /uploads for another.")
        return recording_id

    def take(self, recording_id: str, recording: BinaryIO, recogniser: Recogniser) -> None:
        """Copy an upload to a place of ours, and have it classified in the background."""
        folder = lasting_folder()
        try:
            path = folder / "recording"
            with path.open("wb") as file:
                shutil.copyfileobj(recording, file, 1024 * 1024)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            # One: /recognize/ has to go on beside a recording of hours.
            self._worker = self._worker or ThreadPoolExecutor(max_workers=1, thread_name_prefix="upload")
            self._worker.submit(self._work, recording_id, path, recogniser)
            self._on_their_way.add(recording_id)

    def close(self) -> None:
        """Finish the recording in hand and give up the others."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker:
            self._closing.set()
            worker.shutdown(wait=True)
            self._closing.clear()

    def _work(self, recording_id: str, path: Path, recogniser: Recogniser) -> None:
        try:
            if self._closing.is_set():
                result = recogniser.give_up(recording_id, path, "The server was ended first.")
            else:
                result = recogniser.classify_upload(recording_id, path)
            self.store(recording_id, result)
        except Exception:
            # Without the id, which is the way to a result.
            _logger.exception("the result of an upload could not be kept")
        finally:
            with self._lock:
                self._on_their_way.discard(recording_id)
            shutil.rmtree(path.parent, ignore_errors=True)

    def _file(self, recording_id: str) -> Path:
        # Ids are checked to be ours before they get here, and a key of ours climbs nowhere.
        return self._settings.results_folder / f"{self.key_for(recording_id)}.json"

    def _signature(self, policy: str) -> str:
        return hmac.new(self._secret, policy.encode(), hashlib.sha256).hexdigest()
