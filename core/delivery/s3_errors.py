"""botocore's exceptions, translated into this project's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from core.errors import (
    AudioEmotionError,
    RecordingArchived,
    RecordingEncrypted,
    RecordingSuperseded,
    StorageRefused,
    StorageUnavailable,
)
from core.formatting import first_line

_GONE = {"404", "NoSuchKey", "NoSuchVersion", "405", "MethodNotAllowed"}
"""S3 answers 405 for a delete marker."""
_CHANGED = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict", *_CHANGED, *_GONE}
_REFUSED = {"403", "401"}
_REFUSED_CODES = {"ExpiredToken", "InvalidToken", "RequestExpired", "RequestTimeTooSkewed", "NoSuchBucket"}


class WriteConflict(AudioEmotionError):
    """The object changed after it was read, so a conditional write failed. Never leaves `core.delivery`."""


@contextmanager
def translated_errors(target: str, *, is_write: bool = False) -> Iterator[None]:
    """Raise this project's errors in place of botocore's."""
    try:
        yield
    except ClientError as error:
        raise error_for(error, target, is_write=is_write) from error
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable(f"S3 could not be reached for {target}: {first_line(error)}") from error


def error_for(error: ClientError, target: str, *, is_write: bool) -> AudioEmotionError:
    """Return this project's error for an error of S3."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    if is_write and {code, status} & _CONFLICT and code != "NoSuchBucket":
        return WriteConflict(f"Another process changed {target}.")
    if code in _REFUSED_CODES or code.startswith("KMS.") or (status in _REFUSED and code != "InvalidObjectState"):
        return StorageRefused(f"S3 denied access to {target} ({code or status}). Check the function's permissions.")
    if code == "InvalidObjectState":
        return RecordingArchived(
            "The recording is in an archive storage class. Restore it, then upload it again or run a backfill."
        )
    if "Server Side Encryption" in message and status == "400":
        return RecordingEncrypted(
            "The recording is encrypted with a key that the uploader provided (SSE-C), so it cannot be read."
        )
    if {code, status} & (_GONE | _CHANGED):
        return RecordingSuperseded(f"{target} was deleted or overwritten.")
    return StorageUnavailable(f"S3 failed to serve {target} ({code or status}).")
