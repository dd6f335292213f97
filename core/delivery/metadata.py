"""The S3 metadata of a result: its upload, its model, and whether it is final."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from core.delivery.versions import ObjectVersion
from core.errors import DeadlineExceeded, RecordingArchived, RecordingTooLarge, RecordingTooLong, TooManyChannels

State = Literal["done", "given-up"]

RECOVERABLE_ERROR_CODES = frozenset(
    error.code for error in (DeadlineExceeded, RecordingArchived, RecordingTooLarge, RecordingTooLong, TooManyChannels)
)
"""Codes of failures that a changed setting or a restored object resolves."""


@dataclass(frozen=True)
class ResultMetadata:
    """The metadata stored with a result document. Text is empty where it does not apply.

    Attributes
    ----------
    source_version
        `ObjectVersion.identity` of the upload.
    state
        `done`, or `given-up` if another delivery may replace the result.
    error
        The code of the result's error.
    """

    source_version: str
    fingerprint: str
    state: str
    source_etag: str = ""
    sequencer: str = ""
    error: str = ""

    def to_s3(self) -> dict[str, str]:
        """Return the metadata under its S3 keys."""
        return {
            "source-version": self.source_version,
            "source-etag": self.source_etag,
            "sequencer": self.sequencer,
            "fingerprint": self.fingerprint,
            "state": self.state,
            "error": self.error,
        }

    @classmethod
    def from_s3(cls, metadata: Mapping[str, str]) -> "ResultMetadata":
        """Read the metadata of an object. A key that is absent is read as empty text."""
        return cls(
            source_version=metadata.get("source-version", ""),
            source_etag=metadata.get("source-etag", ""),
            sequencer=metadata.get("sequencer", ""),
            fingerprint=metadata.get("fingerprint", ""),
            state=metadata.get("state", ""),
            error=metadata.get("error", ""),
        )

    def is_about(self, version: ObjectVersion) -> bool:
        """Return whether the result belongs to this version."""
        if self.source_version == version.identity:
            return True
        # An event may have only the ETag of an upload, although the stored result has its version id.
        return not version.version_id and bool(version.etag) and self.source_etag == version.etag


def is_final(state: str | None, error: str | None, *, retry_recoverable: bool) -> bool:
    """Return whether a result is final for the model that made it, so that the recording is not classified again.

    Parameters
    ----------
    state
        The state in the result's metadata.
    error
        The code of the result's error, if there is one.
    retry_recoverable
        Whether failures with one of `RECOVERABLE_ERROR_CODES` are classified again, as in a backfill.
    """
    return state == "done" and not (retry_recoverable and error in RECOVERABLE_ERROR_CODES)
