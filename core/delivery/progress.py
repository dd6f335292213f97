"""The progress of a recording in S3, stored beside its lease."""

import uuid
from contextlib import suppress

from core.delivery.s3_errors import WriteConflict
from core.delivery.storage import Storage
from core.errors import AudioEmotionError, RecordingInProgress


class StoredProgress:
    """The progress of one version and model. Only the holder of the version's lease may use it.

    Parameters
    ----------
    is_first
        Whether this is the first delivery of a message. It does not look for the progress of a short recording.
    """

    def __init__(self, storage: Storage, bucket: str, key: str, *, is_first: bool) -> None:
        self._storage = storage
        self._bucket = bucket
        self._key = key
        self._is_first = is_first
        self._writer = uuid.uuid4().hex
        self._etag: str | None = None

    def load(self, *, is_short: bool) -> bytes | None:
        """Return the stored progress, or None.

        Parameters
        ----------
        is_short
            Whether the header says that the recording is short. If that is wrong and there is progress, `save` fails,
            and the second delivery continues.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 fails or denies access.
        """
        if is_short and self._is_first:
            return None
        found = self._storage.get(self._bucket, self._key)
        if found is None:
            return None
        self._etag = found[0].etag
        return found[1]

    def save(self, content: bytes) -> None:
        """Replace the stored progress.

        Raises
        ------
        StorageUnavailable, StorageRefused
            If S3 fails or denies access.
        RecordingInProgress
            If another delivery has stored progress, or somebody has deleted it.
        """
        try:
            self._put(content)
        except WriteConflict:
            # S3 may have stored this delivery's own progress although its answer was lost.
            stored = self._storage.head(self._bucket, self._key)
            if stored is None or stored.metadata.get("writer") != self._writer:
                raise RecordingInProgress("Another delivery has stored progress of the same version.") from None
            self._etag = stored.etag
            try:
                self._put(content)
            except WriteConflict as error:
                raise RecordingInProgress("Another delivery has stored progress of the same version.") from error

    def _put(self, content: bytes) -> None:
        self._etag = self._storage.put(
            self._bucket,
            self._key,
            content,
            content_type="application/json",
            metadata={"writer": self._writer},
            replaces=self._etag,
        )

    def delete(self) -> None:
        """Delete the progress that this delivery has used, after the result was stored. It would expire otherwise."""
        if self._etag is None:
            return
        with suppress(AudioEmotionError):
            self._storage.delete(self._bucket, self._key, self._etag)
