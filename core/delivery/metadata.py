"""The S3 metadata of a result: its upload, its model, and whether it is final."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from core.delivery.versions import ObjectVersion
from core.errors import (
    DeadlineExceeded,
    MetadataInvalid,
    RecordingArchived,
    RecordingTooLarge,
    RecordingTooLong,
    SpeakersNotOffered,
    TooManyChannels,
)
from core.results import Result
from core.settings import SpeakerMode

State = Literal["done", "given-up"]

RECOVERABLE_ERROR_CODES = frozenset(
    error.code
    for error in (
        DeadlineExceeded,
        RecordingArchived,
        RecordingTooLarge,
        RecordingTooLong,
        SpeakersNotOffered,
        TooManyChannels,
    )
)
"""Codes of failures that a changed setting or a restored object resolves."""

SPEAKERS_KEY = "audio-emotion-speakers"
"""User-defined metadata of an upload that overrides the setting `SPEAKERS`."""

_ANY_SPEAKERS = "any"
"""Stands for the mode in the metadata of a result that is the same in every mode."""


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
    speakers
        The mode in which speakers were separated, or `any` if the result is the same in every mode.
    """

    source_version: str
    fingerprint: str
    state: str
    source_etag: str = ""
    sequencer: str = ""
    error: str = ""
    speakers: str = "off"

    def to_s3(self) -> dict[str, str]:
        """Return the metadata under its S3 keys."""
        return {
            "source-version": self.source_version,
            "source-etag": self.source_etag,
            "sequencer": self.sequencer,
            "fingerprint": self.fingerprint,
            "state": self.state,
            "error": self.error,
            "speakers": self.speakers,
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
            speakers=metadata.get("speakers", "off"),
        )

    def is_about(self, version: ObjectVersion) -> bool:
        """Return whether the result belongs to this version."""
        if self.source_version == version.identity:
            return True
        # An event may have only the ETag of an upload, although the stored result has its version id.
        return not version.version_id and bool(version.etag) and self.source_etag == version.etag


def has_speakers(stored: str | None, requested: str) -> bool:
    """Return whether a result has what the requested mode of separating speakers adds; `off` adds nothing.

    Parameters
    ----------
    stored
        The mode in the result's metadata.
    """
    return requested == "off" or stored in (requested, _ANY_SPEAKERS)


def speakers_of(result: Result, mode: str) -> str:
    """Return the mode for a result's metadata, in which the result was made."""
    is_invalid = result.error is not None and result.error.code == MetadataInvalid.code
    return mode if result.has_shared_channels or is_invalid else _ANY_SPEAKERS


def requested_speakers(upload: ObjectVersion) -> SpeakerMode | None:
    """Return the mode that an upload's metadata requests, or None.

    Raises
    ------
    MetadataInvalid
        If there is no such mode.
    """
    requested = upload.metadata.get(SPEAKERS_KEY)
    modes: tuple[SpeakerMode, ...] = get_args(SpeakerMode)
    for mode in modes:
        if requested == mode:
            return mode
    if requested is None:
        return None
    raise MetadataInvalid(f"The metadata {SPEAKERS_KEY} must be one of {', '.join(modes)}, not {requested[:20]!r}.")


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
