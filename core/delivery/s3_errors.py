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
_KMS_UNAVAILABLE = {
    "KMS.ThrottlingException",
    "KMS.KMSInternalException",
    "KMS.DependencyTimeoutException",
    "KMS.KeyUnavailableException",
}
_NOT_AUTHORIZED = "is not authorized to perform: "
_REFUSED_CODES = {"ExpiredToken", "InvalidToken", "RequestExpired", "RequestTimeTooSkewed", "NoSuchBucket"}


class WriteConflict(AudioEmotionError):
    """The object changed after it was read, so a conditional write failed. Never leaves `core.delivery`."""


@contextmanager
def translated_errors(target: str, *, is_write: bool = False, kms_key_id: str | None = None) -> Iterator[None]:
    """Raise this project's errors in place of botocore's.

    Parameters
    ----------
    kms_key_id
        The KMS key of the object, if it is known. AWS's message does not name the key of another account.
    """
    try:
        yield
    except ClientError as error:
        raise error_for(error, target, is_write=is_write, kms_key_id=kms_key_id) from error
    except (BotoCoreError, OSError) as error:
        raise StorageUnavailable(f"S3 could not be reached for {target}: {first_line(error)}") from error


def error_for(error: ClientError, target: str, *, is_write: bool, kms_key_id: str | None = None) -> AudioEmotionError:
    """Return this project's error for an error of S3."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    message = str(error.response.get("Error", {}).get("Message", ""))
    # First, because some of these errors have the status of a conflict or of a missing object.
    if reason := _refusal(code, status, message):
        needed = f" Reading it needs kms:Decrypt on {kms_key_id}." if kms_key_id else ""
        # The name of the action ends at a space.
        cause = message.partition(_NOT_AUTHORIZED)[2].partition(" ")[0] or code or status
        return StorageRefused(f"S3 denied access to {target} ({code or status}). {reason}{needed}", cause)
    if is_write and {code, status} & _CONFLICT:
        return WriteConflict(f"Another process changed {target}.")
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


def _refusal(code: str, status: str, message: str) -> str | None:
    """Return why S3 refuses access until an operator acts, as a sentence; None for any other error."""
    # KMS's message names the key and its state. S3's is "User: X is not authorized to perform: Y on resource: Z".
    detail = " ".join(message.split()).partition(" (Service:")[0].rstrip(".")
    if code.startswith("KMS.") and code not in _KMS_UNAVAILABLE:
        return f"KMS: {detail}." if detail else "KMS cannot use the object's key."
    if code in _REFUSED_CODES or (status in _REFUSED and code != "InvalidObjectState"):
        _, _, missing = detail.partition(_NOT_AUTHORIZED)
        return f"The caller is not authorized to perform {missing}." if missing else "Check the caller's permissions."
    return None
