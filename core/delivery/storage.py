"""Reading exactly one version of an object, and writing a result under a condition.

Everything that S3 can answer becomes one of our own errors here: gone or overwritten, at fault for good, or worth
another try. Nothing above this module sees a botocore exception.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.deadline import Deadline
from core.errors import (
    AudioEmotionError,
    RecordingArchived,
    RecordingEncrypted,
    RecordingInProgress,
    RecordingSuperseded,
    StorageRefused,
    StorageUnavailable,
)
from core.settings import StorageSettings, read

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

Done = TypeVar("Done")

_CHUNK_BYTES = 1024 * 1024
_MAX_READ_S = 10.0
"""For a document of kilobytes, or of a few megabytes where people spoke for hours."""
_WRITTEN_BY = "written-by"

_GONE = {"404", "NoSuchKey", "NoSuchVersion", "405", "MethodNotAllowed"}
"""405 is what a delete marker answers."""
_CHANGED = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict", *_CHANGED, *_GONE}
_REFUSED = {"403", "401"}
_REFUSED_CODES = {"ExpiredToken", "InvalidToken", "RequestExpired", "RequestTimeTooSkewed", "NoSuchBucket"}


class WriteConflict(AudioEmotionError):
    """Somebody else wrote first: look again. Never leaves `core.delivery`."""


@dataclass(frozen=True)
class ObjectVersion:
    """One version of one object, as it is now.

    Attributes
    ----------
    version_id
        None in a bucket without versioning.
    etag
        Without quotes.
    size_bytes
        None where only an event tells of the version.
    """

    bucket: str
    key: str
    version_id: str | None
    etag: str
    size_bytes: int | None
    metadata: Mapping[str, str]

    @property
    def identity(self) -> str:
        """What tells this version from every other one of the key."""
        return self.version_id or self.etag

    def is_same_as(self, newest: "ObjectVersion") -> bool:
        """Whether this, which may be known from an event only, is the version that S3 knows as the newest."""
        if self.version_id:
            return self.version_id == newest.version_id
        return self.etag in ("", newest.etag)


def s3_client(settings: StorageSettings | None = None) -> "S3Client":
    """An S3 client that fails soon enough for another try within one invocation."""
    settings = settings or read(StorageSettings)
    # Not `max_attempts`, which counts from the second one.
    retries: Any = {"mode": "standard", "total_max_attempts": settings.s3_attempts}
    return boto3.client(
        "s3",
        config=Config(
            connect_timeout=settings.s3_connect_timeout_s, read_timeout=settings.s3_read_timeout_s, retries=retries
        ),
    )


class Storage:
    """S3 as this project sees it."""

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    def head(self, bucket: str, key: str) -> ObjectVersion | None:
        """The newest version of a key, or None if there is none.

        Raises
        ------
        RecordingEncrypted
            If it was uploaded with a key of the uploader's own.
        StorageUnavailable, StorageRefused
            If S3 cannot or will not say.
        """
        try:
            with _translated(f"{bucket}/{key}"):
                head = self._head(bucket, key)
        except RecordingSuperseded:
            return None
        return _described(bucket, key, head)

    def _head(self, bucket: str, key: str) -> "HeadObjectOutputTypeDef":
        try:
            return self._client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            # The answer to a HEAD has no body: what a bare 400 means (expired credentials, a customer's key), GET says.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 400:  # noqa: PLR2004
                self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
            raise

    def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
        """Write exactly this version's bytes to a file.

        Raises
        ------
        RecordingSuperseded
            If the version is gone, or was overwritten in a bucket without versioning.
        RecordingArchived, RecordingEncrypted
            If it cannot be read as it is stored.
        StorageUnavailable, StorageRefused
            If S3 failed, was too slow, or sent fewer bytes than it has.
        """
        with _translated(f"{version.bucket}/{version.key}"), destination.open("wb") as file:
            written_bytes = _in_time(lambda: self._copy(version, file, deadline), deadline, version.key)
        if written_bytes != version.size_bytes:
            raise StorageUnavailable(f"S3 sent {written_bytes:,} of the {version.size_bytes:,} bytes of {version.key}.")

    def _copy(self, version: ObjectVersion, file: IO[bytes], deadline: Deadline) -> int:
        exactly: dict[str, Any] = (
            {"VersionId": version.version_id} if version.version_id else {"IfMatch": f'"{version.etag}"'}
        )
        written_bytes = 0
        body = self._client.get_object(Bucket=version.bucket, Key=version.key, **exactly)["Body"]
        for chunk in body.iter_chunks(_CHUNK_BYTES):
            written_bytes += file.write(chunk)
            if deadline.passed:
                raise StorageUnavailable(f"S3 sent {version.key} too slowly: {written_bytes:,} bytes in time.")
        return written_bytes

    def get(self, bucket: str, key: str) -> tuple[ObjectVersion, bytes] | None:
        """The newest version of a result document and its content, or None if there is none.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 cannot or will not say, or is too slow.
        """

        def described_and_read() -> tuple[ObjectVersion, bytes]:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            return _described(bucket, key, answer), answer["Body"].read()

        try:
            with _translated(f"{bucket}/{key}"):
                return _in_time(described_and_read, Deadline.after(_MAX_READ_S), key)
        except RecordingSuperseded:
            return None

    def put(
        self,
        bucket: str,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        replaces: str | None,
    ) -> str:
        """Write an object if nobody else has written since we looked.

        Parameters
        ----------
        replaces
            The ETag of what may be replaced; None if there was nothing.

        Returns
        -------
        The new ETag.

        Raises
        ------
        WriteConflict
            If there is something else by now.
        StorageUnavailable, StorageRefused
            If S3 cannot or will not.
        """
        condition: dict[str, Any] = {"IfMatch": f'"{replaces}"'} if replaces else {"IfNoneMatch": "*"}
        ours = uuid.uuid4().hex
        try:
            with _translated(f"{bucket}/{key}", writing=True):
                answer = self._client.put_object(
                    Bucket=bucket,
                    Key=key,
                    Body=body,
                    ContentType=content_type,
                    Metadata={**metadata, _WRITTEN_BY: ours},
                    **condition,
                )
        except WriteConflict:
            # If the answer to a PUT was lost and boto3 repeated it, what stands in its way is its own first try.
            there = self.head(bucket, key)
            if there is None or there.metadata.get(_WRITTEN_BY) != ours:
                raise
            return there.etag
        return answer["ETag"].strip('"')

    @contextmanager
    def lease(self, bucket: str, key: str, longest_s: float) -> Iterator[None]:
        """Hold a note that somebody is at work, for as long as the block runs.

        Parameters
        ----------
        longest_s
            After so many seconds, a note whose holder has crashed counts for nothing.

        Raises
        ------
        RecordingInProgress
            If somebody else holds it.
        """
        holder = uuid.uuid4().hex
        try:
            etag = self._take(bucket, key, {"expires-at": f"{time.time() + longest_s:.3f}", "holder": holder})
        except (StorageUnavailable, StorageRefused):
            # The note may lie there nevertheless, if only the answer was lost.
            self._give_back(bucket, key, holder)
            raise
        try:
            yield
        finally:
            self._give_back(bucket, key, holder, etag)

    def _give_back(self, bucket: str, key: str, holder: str, etag: str | None = None) -> None:
        try:
            if etag is None:
                held = self.head(bucket, key)
                if held is None or held.metadata.get("holder") != holder:
                    return
                etag = held.etag
            with _translated(f"{bucket}/{key}", writing=True):
                # Conditional: whoever ran past the claim's time may find it in other hands.
                self._client.delete_object(Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        except AudioEmotionError:
            pass  # it expires by itself, and must not hide how the work ended

    def _take(self, bucket: str, key: str, metadata: Mapping[str, str]) -> str:
        held = None
        for _ in range(2):
            try:
                etag = held.etag if held else None
                # The holder is the body, so that each claim has an ETag of its own to be replaced by.
                body = metadata["holder"].encode()
                return self.put(bucket, key, body, content_type="text/plain", metadata=metadata, replaces=etag)
            except WriteConflict:
                held = self.head(bucket, key)
                if held is not None and float(held.metadata.get("expires-at", 0)) > time.time():
                    break
        raise RecordingInProgress("Another delivery of the same version is at work on it.")


def _in_time(work: Callable[[], Done], deadline: Deadline, key: str) -> Done:
    """Wait for what reads a body, but not for longer than there is time.

    The client's read time-out is of silence: a body that trickles in could keep one read waiting for hours.
    """
    begun = _begun(work)
    try:
        return begun.result(None if deadline.at_s == inf else deadline.remaining_s)
    except TimeoutError:
        if begun.done():
            raise
        raise StorageUnavailable(f"S3 sent {key} too slowly.") from None


def _begun(work: Callable[[], Done]) -> "Future[Done]":
    """Begin work in a thread of its own, which nobody has to wait for."""
    future: Future[Done] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 (whoever waits for the result raises it)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _described(bucket: str, key: str, answer: "HeadObjectOutputTypeDef | GetObjectOutputTypeDef") -> ObjectVersion:
    return ObjectVersion(
        bucket=bucket,
        key=key,
        version_id=_version_id(answer.get("VersionId")),
        etag=answer["ETag"].strip('"'),
        size_bytes=answer["ContentLength"],
        metadata=answer.get("Metadata", {}),
    )


def _version_id(version_id: str | None) -> str | None:
    """The id, if it tells versions apart: "null" is what an object has from before versioning."""
    return None if version_id in (None, "null") else version_id


@contextmanager
def _translated(what: str, *, writing: bool = False) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _error_for(error, what, writing) from error
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable(f"S3 could not be reached for {what}: {_first_line(error)}") from error


def _error_for(error: ClientError, what: str, writing: bool) -> AudioEmotionError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    if writing and {code, status} & _CONFLICT and code != "NoSuchBucket":
        return WriteConflict(f"{what} was written by somebody else.")
    if code in _REFUSED_CODES or code.startswith("KMS.") or (status in _REFUSED and code != "InvalidObjectState"):
        return StorageRefused(f"S3 refuses access to {what} ({code or status}): check the function's permissions.")
    if code == "InvalidObjectState":
        advice = "restore it, then upload it again or run a backfill"
        return RecordingArchived(f"The recording lies in an archive storage class: {advice}.")
    if "Server Side Encryption" in message and status == "400":
        return RecordingEncrypted("The recording was uploaded with a key of the uploader's own, so it cannot be read.")
    if {code, status} & (_GONE | _CHANGED):
        return RecordingSuperseded(f"{what} was deleted or overwritten.")
    return StorageUnavailable(f"S3 failed on {what} ({code or status}).")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
