"""Reading exactly one version of an object, and writing a result under a condition.

Everything that S3 can answer becomes one of our own errors here: gone or overwritten, at fault for good, or worth
another try. Nothing above this module sees a botocore exception.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

_CHUNK_BYTES = 1024 * 1024

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

    def newest(self, bucket: str, key: str) -> ObjectVersion | None:
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
        return ObjectVersion(
            bucket=bucket,
            key=key,
            version_id=_version_id(head.get("VersionId")),
            etag=head["ETag"].strip('"'),
            size_bytes=head["ContentLength"],
            metadata=head.get("Metadata", {}),
        )

    def _head(self, bucket: str, key: str) -> "HeadObjectOutputTypeDef":
        try:
            return self._client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            # The answer to a HEAD has no body: what a bare 400 means (expired credentials, a customer's key), GET says.
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 400:  # noqa: PLR2004
                self._client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
            raise

    def fetch(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
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
        exactly: dict[str, Any] = (
            {"VersionId": version.version_id} if version.version_id else {"IfMatch": f'"{version.etag}"'}
        )
        written_bytes = 0
        with _translated(f"{version.bucket}/{version.key}"), destination.open("wb") as file:
            body = self._client.get_object(Bucket=version.bucket, Key=version.key, **exactly)["Body"]
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                written_bytes += file.write(chunk)
                if deadline.passed:
                    raise StorageUnavailable(f"S3 sent {version.key} too slowly: {written_bytes:,} bytes in time.")
        if written_bytes != version.size_bytes:
            raise StorageUnavailable(f"S3 sent {written_bytes:,} of the {version.size_bytes:,} bytes of {version.key}.")

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
        with _translated(f"{bucket}/{key}", writing=True):
            answer = self._client.put_object(
                Bucket=bucket, Key=key, Body=body, ContentType=content_type, Metadata=dict(metadata), **condition
            )
        return answer["ETag"].strip('"')

    @contextmanager
    def claim(self, bucket: str, key: str, deadline: Deadline, longest_s: float) -> Iterator[None]:
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
        expires_at = time.time() + min(deadline.remaining_s, longest_s)
        holder = uuid.uuid4().hex
        self._take(bucket, key, {"expires-at": f"{expires_at:.0f}", "holder": holder})
        try:
            yield
        finally:
            self._give_back(bucket, key, holder)

    def _give_back(self, bucket: str, key: str, holder: str) -> None:
        try:
            held = self.newest(bucket, key)
            # Whoever ran past the claim's time may find it in other hands.
            if held is not None and held.metadata.get("holder") == holder:
                with _translated(f"{bucket}/{key}"):
                    self._client.delete_object(Bucket=bucket, Key=key)
        except AudioEmotionError:
            pass  # it expires by itself, and must not hide how the work ended

    def _take(self, bucket: str, key: str, metadata: Mapping[str, str]) -> None:
        held = None
        for _ in range(2):
            try:
                etag = held.etag if held else None
                # The holder is the body, so that each claim has an ETag of its own to be replaced by.
                body = metadata["holder"].encode()
                self.put(bucket, key, body, content_type="text/plain", metadata=metadata, replaces=etag)
                return
            except WriteConflict:
                held = self.newest(bucket, key)
                if held is not None and held.metadata.get("holder") == metadata["holder"]:
                    return  # ours: the answer to the first PUT was lost, and it was repeated
                if held is not None and float(held.metadata.get("expires-at", 0)) > time.time():
                    break
        raise RecordingInProgress("Another delivery of the same version is at work on it.")


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
        return RecordingArchived("The recording lies in an archive storage class: restore it, then upload it again.")
    if "Server Side Encryption" in message and status == "400":
        return RecordingEncrypted("The recording was uploaded with a key of the uploader's own, so it cannot be read.")
    if {code, status} & (_GONE | _CHANGED):
        return RecordingSuperseded(f"{what} was deleted or overwritten.")
    return StorageUnavailable(f"S3 failed on {what} ({code or status}).")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
