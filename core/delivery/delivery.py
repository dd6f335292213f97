"""One delivery of one upload: the rules of the package, in code."""

import hashlib
import random
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.deadline import Deadline
from core.delivery import report_pages
from core.delivery.keys import is_earlier, is_folder_marker, result_key_for
from core.delivery.storage import ObjectVersion, Storage, WriteConflict
from core.errors import (
    DeadlineExceeded,
    DecoderUnavailable,
    EmptyRecording,
    GivenUp,
    OutOfTime,
    RecordingArchived,
    RecordingEncrypted,
    RecordingError,
    RecordingSuperseded,
    RecordingTooLarge,
    RecordingTooLong,
    StorageUnavailable,
    TooManyChannels,
    TransientError,
)
from core.pipeline import Pipeline
from core.results import Result, Source
from core.scratch import scratch_folder
from core.settings import FunctionSettings

State = Literal["done", "given-up"]

RECOVERABLE_ERROR_CODES = frozenset(
    error.code for error in (DeadlineExceeded, RecordingArchived, RecordingTooLarge, RecordingTooLong, TooManyChannels)
)
"""Failures that are not the recording's for good: another setting may take it, or somebody restores it."""

_MAX_WRITE_ATTEMPTS = 5
_RETRY_DELAY_S = 0.05
_MAX_WORK_S = 900.0
"""Lambda's own limit."""
_MIN_SHARE_OF_TIME = 0.5
"""A recording that S3 took so long to send that less than this is left comes again: running out of time would be held
against the recording."""


@dataclass(frozen=True)
class Upload:
    """What an event says of an upload; absent where its kind does not tell."""

    bucket: str
    key: str
    version_id: str | None = None
    etag: str | None = None
    sequencer: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery.

    Attributes
    ----------
    kind
        `stored`: a result was written. `duplicate`: it was there already. `superseded`: the upload is gone or
        overwritten. `folder`: a folder marker, which is no recording.
    result_key
        Where the result lies.
    result
        The document, if this delivery made it.
    """

    kind: Literal["stored", "duplicate", "superseded", "folder"]
    result_key: str
    result: Result | None = None


class Delivery:
    """Brings uploads through the pipeline and their results into the results bucket."""

    def __init__(self, storage: Storage, pipeline: Pipeline, settings: FunctionSettings) -> None:
        self._storage = storage
        self._pipeline = pipeline
        self._settings = settings

    def deliver(
        self,
        upload: Upload,
        *,
        last: bool = False,
        deadline: Deadline | None = None,
        least_s: float = 0.0,
        anew: bool = False,
        request_id: str | None = None,
    ) -> Outcome:
        """Work on one upload, unless that is done or somebody is at it.

        Parameters
        ----------
        last
            Whether the queue will not deliver it again.
        deadline
            When the result must be there.
        least_s
            A recording is not begun with less time than this: running out of it would be held against the recording.
        anew
            Whether a result that failed with one of `RECOVERABLE_ERROR_CODES` is made again.

        Raises
        ------
        TransientError
            If it should be delivered again.
        """
        terms = _Terms(last, deadline or Deadline(), least_s, anew, request_id)
        result_key = result_key_for(upload.key, self._settings.results_prefix)
        if is_folder_marker(upload.key, upload.size_bytes):
            # The event's word is enough: whatever has become of the key, this upload was never a recording.
            return Outcome("folder", result_key)
        try:
            outcome = self._work_on(upload, result_key, terms)
        except _Duplicate:
            outcome = Outcome("duplicate", result_key)
        except RecordingSuperseded:
            return Outcome("superseded", result_key)
        except TransientError:
            if last:
                self._refresh_report(result_key)
            raise
        if outcome.kind == "folder":
            return outcome
        # The document is there. If the page fails, the next delivery finds a duplicate, which costs no inference, and
        # tries the page again; a dead letter tells of one that is behind for good.
        self._refresh_report(result_key)
        return outcome

    def _work_on(self, upload: Upload, result_key: str, terms: "_Terms") -> Outcome:
        def attempt(version: ObjectVersion) -> _Attempt:
            return _Attempt(self._storage, self._pipeline, self._settings, upload, version, result_key, terms)

        told = ObjectVersion(upload.bucket, upload.key, upload.version_id, upload.etag or "", None, {})
        version = None
        try:
            try:
                version = self._current(told)
            except RecordingEncrypted as error:
                return attempt(told).fail(error)
            if is_folder_marker(upload.key, version.size_bytes):
                return Outcome("folder", result_key)
            return attempt(version).run()
        except TransientError:
            about = version or told
            if terms.last and about.identity:
                # Beforehand it may have failed, too, or not have come to it.
                attempt(about).give_up()
            raise

    def _current(self, told: ObjectVersion) -> ObjectVersion:
        """The newest version, if it is the one that the event is about."""
        newest = _confirm_newest(self._storage, told)
        if newest is None:
            raise RecordingSuperseded(f"{told.key} was deleted or overwritten.")
        return newest

    def _refresh_report(self, result_key: str) -> None:
        if self._settings.reports == "html":
            report_pages.refresh_report(self._storage, self._settings.results_bucket, result_key)


class _Duplicate(Exception):
    """The result that this delivery is about is there already."""


@dataclass(frozen=True)
class _Terms:
    """What `deliver` was told besides the upload."""

    last: bool
    deadline: Deadline
    least_s: float
    anew: bool
    request_id: str | None


@dataclass(frozen=True)
class _Attempt:
    """One delivery of one version."""

    storage: Storage
    pipeline: Pipeline
    settings: FunctionSettings
    upload: Upload
    version: ObjectVersion
    result_key: str
    terms: _Terms

    def run(self) -> Outcome:
        if self.terms.last:
            self.give_up()
        else:
            self._look()
        if self.terms.deadline.remaining_s < self.terms.least_s:
            raise OutOfTime("Too little of the invocation's time is left to begin on this recording.")
        with self._lease():
            # Again: whoever held the claim before us may have finished in the meantime.
            self._look()
            result = self._store(self._work(), "done")
        return Outcome("stored", self.result_key, result)

    def fail(self, error: RecordingError) -> Outcome:
        """Leave a `failed` result without any work."""
        self._look()
        return Outcome("stored", self.result_key, self._store(self._failed(error), "done"))

    def _work(self) -> Result:
        source = self._source()
        limits = self.pipeline.limits
        try:
            size_bytes = self.version.size_bytes or 0
            if size_bytes == 0:
                raise EmptyRecording("The file is empty (0 bytes).")
            if size_bytes > limits.max_size_bytes:
                raise RecordingTooLarge(
                    f"The file has {size_bytes:,} bytes; at most {limits.max_size_bytes:,} are accepted."
                )
            with scratch_folder() as folder:
                # A name of ours: the key is the uploader's, and may be anything.
                path = Path(folder) / "recording"
                self._fetch(path)
                result = self.pipeline.run(path, source, deadline=self.terms.deadline)
                if result.status == "failed" and not path.exists():
                    raise DecoderUnavailable("The recording vanished from the temporary folder while it was read.")
                return result
        except RecordingError as error:
            return self._failed(error)

    def _fetch(self, path: Path) -> None:
        time_s = self.terms.deadline.remaining_s
        try:
            self.storage.download(self.version, path, self.terms.deadline)
        except RecordingSuperseded:
            if self._is_still_the_newest():
                raise StorageUnavailable(f"S3 does not give {self.upload.key}, which it says is there.") from None
            raise
        if self.terms.deadline.remaining_s < time_s * _MIN_SHARE_OF_TIME:
            raise StorageUnavailable(f"S3 sent {self.upload.key} so slowly that too little time is left for it.")

    def _look(self) -> ObjectVersion | None:
        """What lies at the result's place, if it may be replaced."""
        existing = self.storage.head(self.settings.results_bucket, self.result_key)
        if existing is None:
            return None
        if self._is_about_this_version(existing):
            if self._is_done(existing):
                raise _Duplicate
        elif self._is_older_than(existing.metadata.get("sequencer")):
            raise RecordingSuperseded(f"{self.upload.key} has the result of a newer upload.")
        return existing

    def _is_about_this_version(self, existing: ObjectVersion) -> bool:
        if existing.metadata.get("source-version") == self.version.identity:
            return True
        # An event may know an upload by its ETag only, whose result knows it by its version.
        return not self.version.version_id and existing.metadata.get("source-etag") == self.version.etag

    def _is_older_than(self, sequencer: str | None) -> bool:
        if sequencer and self.upload.sequencer:
            return is_earlier(self.upload.sequencer, sequencer)
        return not self._is_still_the_newest()

    def _is_still_the_newest(self) -> bool:
        try:
            return _confirm_newest(self.storage, self.version) is not None
        except RecordingEncrypted:
            # S3 says no more about such a version than that; it is ours if ours could not be looked at, either.
            return self.version.size_bytes is None

    def _is_done(self, existing: ObjectVersion) -> bool:
        told = existing.metadata
        made_by_this_model = told.get("fingerprint") == self.pipeline.model.fingerprint
        return made_by_this_model and is_final(told.get("state"), told.get("error"), anew=self.terms.anew)

    def give_up(self) -> None:
        """Leave a `failed` result, unless something that says more is there."""
        error = GivenUp(
            f"{self.settings.max_receive_count} deliveries did not bring a result; the message is in the dead-letter "
            "queue, from where it can be delivered again."
        )
        self._store(self._failed(error), "given-up")

    def _failed(self, error: RecordingError) -> Result:
        return Result.failed(self._source(), self.pipeline.model, error)

    def _store(self, result: Result, state: State) -> Result:
        result = result.with_request_id(self.terms.request_id)
        metadata = {
            "source-version": self.version.identity,
            "source-etag": self.version.etag,
            "sequencer": self.upload.sequencer or "",
            "fingerprint": self.pipeline.model.fingerprint,
            "state": state,
            "error": result.error.code if result.error else "",
        }
        for race in range(_MAX_WRITE_ATTEMPTS):
            existing = self._look()
            if state == "given-up" and existing and self._is_about_this_version(existing):
                return result  # an older model's result, or an earlier giving up: either says more than a new one would
            try:
                self.storage.put(
                    self.settings.results_bucket,
                    self.result_key,
                    result.to_json().encode(),
                    content_type="application/json",
                    metadata=metadata,
                    replaces=existing.etag if existing else None,
                )
            except WriteConflict:
                time.sleep(random.uniform(0, _RETRY_DELAY_S * 2**race))
                continue
            return result
        raise StorageUnavailable(f"{self.result_key} was written by others {_MAX_WRITE_ATTEMPTS} times in a row.")

    def _lease(self) -> AbstractContextManager[None]:
        if not self.settings.leases_prefix:
            return nullcontext()
        what = "\0".join((self.result_key, self.version.identity, self.pipeline.model.fingerprint))
        key = self.settings.leases_prefix + hashlib.sha256(what.encode()).hexdigest()
        # The deadline is when the work must be done; what is kept free after it is for the result.
        longest_s = min(self.terms.deadline.remaining_s + self.settings.deadline_margin_s, _MAX_WORK_S)
        return self.storage.lease(self.settings.results_bucket, key, longest_s)

    def _source(self) -> Source:
        return Source(
            bucket=self.version.bucket,
            key=self.version.key,
            version_id=self.version.version_id,
            etag=self.version.etag or None,
            size_bytes=self.version.size_bytes,
        )


def _confirm_newest(storage: Storage, told: ObjectVersion) -> ObjectVersion | None:
    """What S3 knows of a version, if that is the newest of its key; S3 is asked once more before it is not."""
    for _ in range(2):
        newest = storage.head(told.bucket, told.key)
        if newest is not None and told.is_same_as(newest):
            return newest
    return None


def is_final(state: str | None, error: str | None, *, anew: bool) -> bool:
    """Whether a result is its model's last word.

    Parameters
    ----------
    error
        The code of its error, if there is one.
    anew
        Whether what failed for a `RECOVERABLE_ERROR_CODES` reason is tried again, as a backfill does.
    """
    return state == "done" and not (anew and error in RECOVERABLE_ERROR_CODES)
