"""S3 access: reading exactly one version of an object, and conditional writes."""

import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from math import inf
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from core.deadline import Deadline
from core.delivery.s3_errors import WriteConflict, translated_errors
from core.delivery.versions import ObjectVersion, known_version_id
from core.errors import RecordingSuperseded, StorageUnavailable
from core.scratch import disk_errors
from core.settings import StorageSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

AnswerT = TypeVar("AnswerT")

_CHUNK_BYTES = 1024 * 1024
_READ_TIMEOUT_S = 10.0
"""For a result document: kilobytes, or a few megabytes for hours of speech."""
_WRITTEN_BY = "written-by"
_EXPLAINED_BY_GET = (400, 403)


def s3_client(settings: StorageSettings) -> "S3Client":
    """Return an S3 client that fails early enough for a retry within the same invocation."""
    # Not `max_attempts`, which does not count the first attempt.
    retries: Any = {"mode": "standard", "total_max_attempts": settings.s3_attempts}
    return boto3.client(
        "s3",
        config=Config(
            connect_timeout=settings.s3_connect_timeout_s, read_timeout=settings.s3_read_timeout_s, retries=retries
        ),
    )


class Storage:
    """S3, with versions, conditional writes and this project's errors."""

    def __init__(self, client: "S3Client") -> None:
        self._client = client

    def head(self, bucket: str, key: str) -> ObjectVersion | None:
        """Return the newest version of a key, or None if there is none.

        Raises
        ------
        RecordingEncrypted
            If the uploader provided the encryption key (SSE-C).
        StorageUnavailable, StorageRefused
            If S3 fails or denies access.
        """
        try:
            with translated_errors(f"{bucket}/{key}"):
                return _object_version(bucket, key, self._head(bucket, key))
        except RecordingSuperseded:
            return None

    def _head(self, bucket: str, key: str) -> "HeadObjectOutputTypeDef":
        try:
            return self._client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            # The answer to a HEAD has no body. The body of a GET names the missing permission, and distinguishes
            # expired credentials from SSE-C.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _EXPLAINED_BY_GET:
                self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
            raise

    def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
        """Write exactly this version's bytes to a file.

        Raises
        ------
        RecordingSuperseded
            If the version was deleted, or overwritten in a bucket without versioning.
        RecordingArchived, RecordingEncrypted
            If the object is archived, or encrypted with a key that the uploader provided.
        StorageUnavailable, StorageRefused
            If S3 fails, denies access, is too slow, or sends too few bytes.
        DiskUnavailable
            If the file cannot be written.
        """
        target = f"{version.bucket}/{version.key}"
        errors = translated_errors(target, kms_key_id=version.kms_key_id)
        with disk_errors(), destination.open("wb") as file, errors:
            written_bytes = _run_until(deadline, lambda: self._copy(version, file, deadline), version.key)
        if written_bytes != version.size_bytes:
            raise StorageUnavailable(f"S3 sent {written_bytes:,} of the {version.size_bytes:,} bytes of {version.key}.")

    def _copy(self, version: ObjectVersion, file: IO[bytes], deadline: Deadline) -> int:
        condition: dict[str, Any] = (
            {"VersionId": version.version_id} if version.version_id else {"IfMatch": f'"{version.etag}"'}
        )
        written_bytes = 0
        body = self._client.get_object(Bucket=version.bucket, Key=version.key, **condition)["Body"]
        with closing(body):
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                with disk_errors():
                    written_bytes += file.write(chunk)
                if deadline.passed:
                    raise StorageUnavailable(f"S3 sent {version.key} too slowly: {written_bytes:,} bytes in time.")
        return written_bytes

    def get(self, bucket: str, key: str) -> tuple[ObjectVersion, bytes] | None:
        """Return the newest version of a result document and its content, or None if there is none.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 fails, denies access, or is too slow.
        """

        def read() -> tuple[ObjectVersion, bytes]:
            answer = self._client.get_object(Bucket=bucket, Key=key)
            return _object_version(bucket, key, answer), answer["Body"].read()

        try:
            with translated_errors(f"{bucket}/{key}"):
                return _run_until(Deadline.after(_READ_TIMEOUT_S), read, key)
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
        """Write an object, unless another process has written it first.

        Parameters
        ----------
        replaces
            The ETag of the object to replace; None to create the object.

        Returns
        -------
        The new ETag.

        Raises
        ------
        WriteConflict
            If the stored object is not the one to replace.
        StorageUnavailable, StorageRefused
            If S3 fails or denies access.
        """
        condition: dict[str, Any] = {"IfMatch": f'"{replaces}"'} if replaces else {"IfNoneMatch": "*"}
        writer = uuid.uuid4().hex
        try:
            with translated_errors(f"{bucket}/{key}", is_write=True):
                answer = self._client.put_object(
                    Bucket=bucket,
                    Key=key,
                    Body=body,
                    ContentType=content_type,
                    Metadata={**metadata, _WRITTEN_BY: writer},
                    **condition,
                )
        except WriteConflict:
            # If S3's answer was lost, boto3 repeats the PUT, which then conflicts with its own first attempt.
            stored = self.head(bucket, key)
            if stored is None or stored.metadata.get(_WRITTEN_BY) != writer:
                raise
            return stored.etag
        return answer["ETag"].strip('"')

    def delete(self, bucket: str, key: str, etag: str) -> None:
        """Delete an object if it still has this ETag.

        Raises
        ------
        WriteConflict
            If the stored object has another ETag.
        StorageUnavailable, StorageRefused
            If S3 fails or denies access.
        """
        with translated_errors(f"{bucket}/{key}", is_write=True):
            self._client.delete_object(Bucket=bucket, Key=key, IfMatch=f'"{etag}"')


def _run_until(deadline: Deadline, read: Callable[[], AnswerT], key: str) -> AnswerT:
    """Run a function that reads a body, and stop waiting for it at the deadline.

    botocore's read timeout is per socket read, so a body that trickles in would never reach it.
    """
    future: Future[AnswerT] = Future()

    def run() -> None:
        try:
            future.set_result(read())
        except BaseException as error:  # noqa: BLE001 (raised by future.result)
            future.set_exception(error)

    # A daemon thread, because a read that never ends cannot be stopped.
    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(None if deadline.at_s == inf else deadline.remaining_s)
    except TimeoutError:
        if future.done():
            raise
        raise StorageUnavailable(f"S3 sent {key} too slowly.") from None


def _object_version(bucket: str, key: str, answer: "HeadObjectOutputTypeDef | GetObjectOutputTypeDef") -> ObjectVersion:
    return ObjectVersion(
        bucket=bucket,
        key=key,
        version_id=known_version_id(answer.get("VersionId")),
        etag=answer["ETag"].strip('"'),
        size_bytes=answer["ContentLength"],
        metadata=answer.get("Metadata", {}),
        kms_key_id=answer.get("SSEKMSKeyId"),
    )
