"""Versions of S3 objects, as S3 or an event names them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.results import Source


@dataclass(frozen=True)
class ObjectVersion:
    """One version of one object.

    Attributes
    ----------
    version_id
        None in a bucket without versioning, or if the event does not name it.
    etag
        Without quotes. Empty if the event does not name it.
    size_bytes
        None if it is unknown.
    metadata
        The user-defined metadata. Empty if only an event names the version.
    kms_key_id
        ARN of the KMS key of an encrypted object. None without one, or if only an event names the version.
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str = ""
    size_bytes: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    kms_key_id: str | None = None

    @property
    def identity(self) -> str:
        """The version id or, without versioning, the ETag: unique among the versions of the key."""
        return self.version_id or self.etag

    @property
    def source(self) -> Source:
        """The version as the source in a result document."""
        return Source(
            bucket=self.bucket,
            key=self.key,
            version_id=self.version_id,
            etag=self.etag or None,
            size_bytes=self.size_bytes,
        )

    def matches(self, newest: "ObjectVersion") -> bool:
        """Return whether this version, of which an event may have only some fields, is the newest one."""
        if self.version_id:
            return self.version_id == newest.version_id
        return self.etag in ("", newest.etag)


@dataclass(frozen=True)
class Upload(ObjectVersion):
    """An uploaded version, with the sequencer that orders the events of its key if the event has one."""

    sequencer: str | None = None


@dataclass(frozen=True)
class Removal(ObjectVersion):
    """A removed version, or the delete marker that now hides the key, as an event names it.

    The event has no sequencer here: S3's current state decides, so removals and uploads may arrive in any order.
    """


def known_version_id(version_id: str | None) -> str | None:
    """Return a version id, or None if it does not identify a version.

    S3 gives the id "null" to objects that were stored before versioning was enabled.
    """
    return None if version_id in (None, "", "null") else version_id
