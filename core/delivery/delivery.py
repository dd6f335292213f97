"""Delivers one upload according to the rules of the package."""

import hashlib
import random
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from core.deadline import Deadline
from core.delivery import report_pages
from core.delivery.keys import is_earlier, is_folder_marker, leases_prefix_for, result_key_for
from core.delivery.lease import lease
from core.delivery.metadata import ResultMetadata, State, has_speakers, is_final, requested_speakers, speakers_of
from core.delivery.progress import StoredProgress
from core.delivery.queue import UploadQueue
from core.delivery.s3_errors import WriteConflict
from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion, Removal, Upload
from core.errors import (
    DecoderUnavailable,
    GivenUp,
    MetadataInvalid,
    OutOfTime,
    QueueUnavailable,
    RecordingEncrypted,
    RecordingError,
    RecordingSuperseded,
    RecordingUnfinished,
    StorageUnavailable,
    TransientError,
)
from core.pipeline import Pipeline
from core.results import Result
from core.scratch import scratch_folder
from core.settings import FunctionSettings

_MAX_WRITE_ATTEMPTS = 5
_RETRY_DELAY_S = 0.05
_MAX_LEASE_S = 900.0
"""Lambda's longest timeout."""


@dataclass(frozen=True)
class Attempt:
    """One attempt to process an upload.

    Attributes
    ----------
    is_last
        Whether the queue will not deliver the upload again.
    deadline
        The time limit of the classification.
    retry_recoverable
        Whether results with one of `RECOVERABLE_ERROR_CODES` are replaced.
    request_id
        The id of the request, stored in the result.
    is_first
        Whether no other delivery of the upload can have stored progress.
    origin
        `upload` or `backfill`, for the message that continues the recording.
    """

    is_last: bool = False
    deadline: Deadline = field(default_factory=Deadline)
    retry_recoverable: bool = False
    request_id: str | None = None
    is_first: bool = False
    origin: Literal["upload", "backfill"] = "upload"


_DEFAULT_ATTEMPT = Attempt()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a delivery.

    Attributes
    ----------
    kind
        `stored`: this delivery stored a result. `duplicate`: the result was stored already. `superseded`: the upload
        was deleted or overwritten. `folder`: the upload is a folder marker. `removed`: no upload has this key, and no
        result either. `continued`: a message in the queue continues the recording. `kept`: an upload was deleted, and
        results of deleted uploads are kept.
    result_key
        The S3 key of the result.
    result
        The document, if this delivery stored it.
    """

    kind: Literal["stored", "duplicate", "superseded", "folder", "removed", "kept", "continued"]
    result_key: str
    result: Result | None = None


class Delivery:
    """Classifies uploads and stores their results in the results bucket.

    Attributes
    ----------
    pipeline
        Turns a downloaded upload into its result.
    """

    def __init__(
        self, storage: Storage, pipeline: Pipeline, settings: FunctionSettings, queue: UploadQueue | None = None
    ) -> None:
        self._queue = queue
        self._storage = storage
        self.pipeline = pipeline
        self.settings = settings

    def deliver(self, upload: Upload, attempt: Attempt = _DEFAULT_ATTEMPT) -> Outcome:
        """Process one upload, unless its result is stored or another delivery is processing it.

        Raises
        ------
        TransientError
            If the upload must be delivered again.
        """
        result_key = self._result_key(upload)
        if is_folder_marker(upload.key, upload.size_bytes):
            # No HEAD is needed: the event alone shows that this upload is not a recording.
            return Outcome("folder", result_key)
        try:
            # Drop the event's size, so that every size below is confirmed by S3.
            outcome = self._deliver(replace(upload, size_bytes=None), attempt, result_key)
        except TransientError:
            if self._remove_if_deleted(upload):
                return Outcome("removed", result_key)
            raise
        # Last, because a removal that arrived before the writes found nothing to delete.
        return Outcome("removed", result_key) if self._remove_if_deleted(upload) else outcome

    def _deliver(self, upload: Upload, attempt: Attempt, result_key: str) -> Outcome:
        try:
            outcome = self._process(upload, attempt)
        except _Duplicate:
            outcome = Outcome("duplicate", result_key)
        except RecordingSuperseded:
            return Outcome("superseded", result_key)
        except TransientError:
            if attempt.is_last:
                self._refresh_report(result_key)
            raise
        if outcome.kind in ("stored", "duplicate"):
            # If the report fails, the delivery is retried: it finds a duplicate and only renders the report.
            self._refresh_report(result_key)
        return outcome

    def remove(self, removal: Removal, attempt: Attempt = _DEFAULT_ATTEMPT) -> Outcome:
        """Delete the result and the report of a key that has no upload.

        If the key has an upload but the result belongs to another version, deliver the upload: its version is the
        newest again, and S3 reports that in no other event.

        Raises
        ------
        TransientError
            If the removal must be delivered again.
        """
        result_key = self._result_key(removal)
        if not self.settings.delete_results:
            return Outcome("kept", result_key)
        newest = self._delete_orphan(removal)
        if newest is None:
            return Outcome("removed", result_key)
        existing = self._storage.head(self.settings.results_bucket, result_key)
        if not existing or not newest.identity or ResultMetadata.from_s3(existing.metadata).is_about(newest):
            return Outcome("superseded", result_key)
        # Without a sequencer: the removal's would order this version after later uploads.
        upload = Upload(newest.bucket, newest.key, newest.version_id, newest.etag, newest.size_bytes)
        return self.deliver(upload, attempt)

    def _remove_if_deleted(self, upload: Upload) -> bool:
        """If `delete_results` is set and S3 has no upload, delete its result; return whether both hold."""
        return self.settings.delete_results and self._delete_orphan(upload) is None

    def _delete_orphan(self, version: ObjectVersion) -> ObjectVersion | None:
        """Return the newest version of an upload's key. If there is none, delete the key's result and report.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 fails or denies access.
        """
        result_key = self._result_key(version)
        for _ in range(_MAX_WRITE_ATTEMPTS):
            newest = self._newest(version)
            if newest is not None:
                return newest
            stored = [
                found
                for key in (report_pages.page_key_for(result_key), result_key)
                if (found := self._storage.head(self.settings.results_bucket, key))
            ]
            # Ask again after reading the results: then none of them can belong to an upload after this answer.
            newest = self._newest(version)
            if newest is not None or not stored:
                return newest
            try:
                for found in stored:
                    self._storage.delete(found.bucket, found.key, found.etag)
            except WriteConflict:
                continue
        raise StorageUnavailable(f"{result_key} changed during {_MAX_WRITE_ATTEMPTS} attempts to delete it.")

    def _is_gone(self, upload: Upload) -> bool:
        """Return whether S3 says twice that the key has no upload; False if S3 does not answer."""
        try:
            return self._newest(upload) is None and self._newest(upload) is None
        except TransientError:
            return False

    def _newest(self, version: ObjectVersion) -> ObjectVersion | None:
        try:
            return self._storage.head(version.bucket, version.key)
        except RecordingEncrypted:
            # S3 does not describe an SSE-C version.
            return ObjectVersion(version.bucket, version.key)

    def _process(self, event_version: Upload, attempt: Attempt) -> Outcome:
        upload = event_version
        try:
            try:
                upload = self._confirm_newest(event_version)
            except RecordingEncrypted as error:
                existing = self._check_existing(upload, attempt)
                return self._store(upload, attempt, self._failed(upload, error), "done", existing)
            if is_folder_marker(upload.key, upload.size_bytes):
                return Outcome("folder", self._result_key(upload))
            if attempt.is_last:
                self._give_up(upload, attempt)
            elif self.settings.leases_prefix:
                self._check_existing(upload, attempt)  # A duplicate needs no lease.
            progress = self._progress(upload, attempt)
            with self._lease(upload, attempt.deadline):
                # Check again under the lease, because its previous holder may have stored the result.
                existing = self._check_existing(upload, attempt)
                result = self._classify(upload, attempt.deadline, progress)
                outcome = self._store(upload, attempt, result, "done", existing)
                if progress:
                    progress.delete()
                return outcome
        except RecordingUnfinished:
            # After the lease was released, because another worker may receive the message at once.
            return self._continue_later(upload, attempt)
        except TransientError as error:
            if attempt.is_last and upload.identity:
                if self._is_gone(upload):
                    raise RecordingSuperseded(f"{upload.key} was deleted.") from None
                self._give_up(upload, attempt, error)
            raise

    def _confirm_newest(self, event_version: Upload) -> Upload:
        """Return the upload as S3 describes it.

        Raises
        ------
        RecordingSuperseded
            If the upload is not the newest version of its key.
        """
        for _ in range(2):
            newest = self._storage.head(event_version.bucket, event_version.key)
            if newest is not None and event_version.matches(newest):
                return replace(
                    event_version,
                    version_id=newest.version_id,
                    etag=newest.etag,
                    size_bytes=newest.size_bytes,
                    kms_key_id=newest.kms_key_id,
                    metadata=newest.metadata,
                )
        raise RecordingSuperseded(f"{event_version.key} was deleted or overwritten.")

    def _is_newest(self, upload: Upload) -> bool:
        try:
            self._confirm_newest(upload)
        except RecordingSuperseded:
            return False
        except RecordingEncrypted:
            # S3 does not describe an SSE-C version. If this upload has no size either, both are the same version.
            return upload.size_bytes is None
        return True

    def _check_existing(self, upload: Upload, attempt: Attempt) -> ObjectVersion | None:
        """Return the stored result if this delivery may replace it, or None if there is none.

        Raises
        ------
        _Duplicate
            If the stored result is the final one of this upload.
        RecordingSuperseded
            If the stored result belongs to a newer upload.
        """
        existing = self._storage.head(self.settings.results_bucket, self._result_key(upload))
        if existing is None:
            return None
        metadata = ResultMetadata.from_s3(existing.metadata)
        if not metadata.is_about(upload):
            if self._is_older(upload, metadata.sequencer):
                raise RecordingSuperseded(f"{upload.key} has the result of a newer upload.")
        elif (
            metadata.fingerprint == self.pipeline.model.fingerprint
            and has_speakers(metadata.speakers, self._speakers_of(upload))
            and is_final(metadata.state, metadata.error, retry_recoverable=attempt.retry_recoverable)
        ):
            raise _Duplicate
        return existing

    def _is_older(self, upload: Upload, sequencer: str) -> bool:
        if sequencer and upload.sequencer:
            return is_earlier(upload.sequencer, sequencer)
        return not self._is_newest(upload)

    def _continue_later(self, upload: Upload, attempt: Attempt) -> Outcome:
        """Send a message for the rest of the recording. If SQS fails, the retry continues it."""
        assert self._queue is not None  # otherwise no progress is stored
        try:
            self._queue.send(upload, attempt.origin)
        except QueueUnavailable as error:
            if attempt.is_last:
                self._give_up(upload, attempt, error)
            raise
        return Outcome("continued", self._result_key(upload))

    def _progress(self, upload: Upload, attempt: Attempt) -> StoredProgress | None:
        """Return the upload's progress, or None if no other invocation can continue."""
        if not self._queue or not self.settings.leases_prefix:
            return None
        key = self._lease_key(upload) + ".progress"
        return StoredProgress(self._storage, self.settings.results_bucket, key, is_first=attempt.is_first)

    def _speakers_of(self, upload: Upload) -> str:
        """Return the mode of separating speakers for an upload, or any other text if the upload's metadata is invalid.

        An invalid one is no error here: the result that reports it is stored already, or is made next.
        """
        try:
            return requested_speakers(upload) or self.pipeline.speakers.mode
        except MetadataInvalid:
            return "invalid"

    def _lease_key(self, upload: Upload) -> str:
        parts = (upload.identity, self.pipeline.model.fingerprint)
        prefix = leases_prefix_for(self._result_key(upload), self.settings.leases_prefix)
        return prefix + hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _lease(self, upload: Upload, deadline: Deadline) -> AbstractContextManager[None]:
        if not self.settings.leases_prefix:
            return nullcontext()
        # The result is stored in the margin after the deadline, so the lease includes the margin.
        duration_s = min(deadline.remaining_s + self.settings.deadline_margin_s, _MAX_LEASE_S)
        return lease(self._storage, self.settings.results_bucket, self._lease_key(upload), duration_s)

    def _classify(self, upload: Upload, deadline: Deadline, progress: StoredProgress | None) -> Result:
        if deadline.is_half_spent:
            raise OutOfTime("The invocation has too little time left to classify another recording.")
        try:
            self.pipeline.limits.check_size(upload.size_bytes or 0)
            speakers = requested_speakers(upload)
            with scratch_folder() as folder:
                # A fixed name, because the key is untrusted input.
                path = folder / "recording"
                self._download(upload, path, deadline.restarted())
                result = self.pipeline.run(path, upload.source, deadline=deadline, store=progress, speakers=speakers)
                if result.status == "failed" and not path.exists():
                    raise DecoderUnavailable("The recording vanished from the temporary folder during decoding.")
                return result
        except RecordingError as error:
            return self._failed(upload, error)

    def _download(self, upload: Upload, path: Path, deadline: Deadline) -> None:
        try:
            self._storage.download(upload, path, deadline)
        except RecordingSuperseded:
            if self._is_newest(upload):
                raise StorageUnavailable(f"S3 lists {upload.key} but does not return it.") from None
            raise
        if deadline.is_half_spent:
            # Retry: otherwise the recording would fail with `deadline_exceeded` because S3 was slow.
            raise StorageUnavailable(f"S3 sent {upload.key} so slowly that too little time is left to classify it.")

    def _failed(self, upload: Upload, error: RecordingError) -> Result:
        return Result.failed(upload.source, self.pipeline.model, error)

    def _give_up(self, upload: Upload, attempt: Attempt, cause: TransientError | None = None) -> None:
        """Store a `given_up` result, unless another result of the same version is stored.

        Parameters
        ----------
        cause
            Why the last delivery failed. None before the last delivery.
        """
        message = (
            f"The recording was not classified in {self.settings.max_receive_count} deliveries. Its message is in the "
            "dead-letter queue, and a redrive delivers it again."
        )
        if cause:
            message += f" The last delivery failed: {cause}"
        existing = self._check_existing(upload, attempt)
        self._store(upload, attempt, self._failed(upload, GivenUp(message)), "given-up", existing)

    def _store(
        self, upload: Upload, attempt: Attempt, result: Result, state: State, existing: ObjectVersion | None
    ) -> Outcome:
        """Write a result with a conditional PUT.

        Parameters
        ----------
        existing
            The stored result that may be replaced, from `_check_existing`.
        """
        result_key = self._result_key(upload)
        result = result.with_request_id(attempt.request_id)
        metadata = ResultMetadata(
            source_version=upload.identity,
            source_etag=upload.etag,
            sequencer=upload.sequencer or "",
            fingerprint=self.pipeline.model.fingerprint,
            state=state,
            error=result.error.code if result.error else "",
            speakers=speakers_of(result, self._speakers_of(upload)),
        )
        for retries in range(_MAX_WRITE_ATTEMPTS):
            stored = ResultMetadata.from_s3(existing.metadata) if existing else None
            if state == "given-up" and stored and stored.is_about(upload) and stored.state != state:
                # Keep the result of an older model, which is more useful.
                return Outcome("stored", result_key, result)
            try:
                self._storage.put(
                    self.settings.results_bucket,
                    result_key,
                    result.to_json().encode(),
                    content_type="application/json",
                    metadata=metadata.to_s3(),
                    replaces=existing.etag if existing else None,
                )
            except WriteConflict:
                time.sleep(random.uniform(0, _RETRY_DELAY_S * 2**retries))
                existing = self._check_existing(upload, attempt)
                continue
            return Outcome("stored", result_key, result)
        raise StorageUnavailable(f"{result_key} changed during {_MAX_WRITE_ATTEMPTS} attempts to write it.")

    def _result_key(self, upload: ObjectVersion) -> str:
        return result_key_for(upload.key, self.settings.results_prefix)

    def _refresh_report(self, result_key: str) -> None:
        if self.settings.reports == "html":
            report_pages.refresh_report(self._storage, self.settings.results_bucket, result_key)


class _Duplicate(Exception):
    """The final result of this upload is stored already."""
