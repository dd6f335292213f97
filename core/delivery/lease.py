"""A lease: an object in S3 that marks a version as being classified, until it is deleted or expires."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from core.delivery.s3_errors import WriteConflict
from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion
from core.errors import AudioEmotionError, RecordingInProgress, StorageRefused, StorageUnavailable


@contextmanager
def lease(storage: Storage, bucket: str, key: str, duration_s: float) -> Iterator[None]:
    """Hold a lease while the block runs.

    Parameters
    ----------
    duration_s
        Time after which the lease expires, in case its holder crashes.

    Raises
    ------
    RecordingInProgress
        If another holder has an unexpired lease.
    """
    holder = uuid.uuid4().hex
    try:
        etag = _acquire(storage, bucket, key, {"expires-at": f"{time.time() + duration_s:.3f}", "holder": holder})
    except (StorageUnavailable, StorageRefused):
        # S3 may have stored the lease although its answer was lost.
        _release(storage, bucket, key, holder)
        raise
    try:
        yield
    finally:
        _release(storage, bucket, key, holder, etag)


def _acquire(storage: Storage, bucket: str, key: str, metadata: Mapping[str, str]) -> str:
    # The holder is the body, so that each lease has a unique ETag.
    body = metadata["holder"].encode()
    held = None
    for _ in range(2):
        try:
            replaces = held.etag if held else None
            return storage.put(bucket, key, body, content_type="text/plain", metadata=metadata, replaces=replaces)
        except WriteConflict:
            held = storage.head(bucket, key)
            if held is not None and _remaining_s(held) > 0:
                break
    raise RecordingInProgress(
        "Another delivery is classifying the same version.", retry_after_s=_remaining_s(held) if held else 0.0
    )


def _remaining_s(held: ObjectVersion) -> float:
    return max(0.0, float(held.metadata.get("expires-at", 0)) - time.time())


def _release(storage: Storage, bucket: str, key: str, holder: str, etag: str | None = None) -> None:
    try:
        if etag is None:
            held = storage.head(bucket, key)
            if held is None or held.metadata.get("holder") != holder:
                return
            etag = held.etag
        # Conditional: an expired lease may belong to another holder by now.
        storage.delete(bucket, key, etag)
    except AudioEmotionError:
        pass  # The lease expires anyway, and this error must not replace one from the block.
