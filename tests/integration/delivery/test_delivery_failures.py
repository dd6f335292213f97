"""Deliveries that fail, run out of time or are repeated, with moto's S3 and real ffmpeg."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.deadline import Deadline
from core.delivery import Attempt, Delivery
from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion
from core.errors import DecoderUnavailable, StorageRefused, StorageUnavailable, TransientError
from core.local.stack import UPLOADS_BUCKET
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.settings import MediaLimits, SegmentationSettings
from tests.integration.conftest import Clock
from tests.support.delivery import SETTINGS, World


class _Body:
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        yield from self._chunks

    def close(self) -> None:
        pass


class _Client:
    """The real client, except for the content of objects."""

    def __init__(self, client: Any, chunks: list[bytes]) -> None:
        self._client = client
        self._chunks = chunks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_object(self, **_: Any) -> dict[str, Any]:
        return {"Body": _Body(self._chunks)}


class FailingStorage(Storage):
    """S3 that fails every download."""

    def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
        raise StorageUnavailable("S3 is down.")


def test_a_transient_error_stores_nothing_and_is_retried(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)
    with pytest.raises(TransientError):
        world.delivery_with(FailingStorage(world.stack.s3)).deliver(upload)
    assert not world.has_result("a.wav")
    assert world.delivery.deliver(upload).kind == "stored"


def test_the_last_delivery_leaves_a_failed_result_and_a_redrive_replaces_it(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)
    with pytest.raises(TransientError):
        world.delivery_with(FailingStorage(world.stack.s3)).deliver(upload, Attempt(is_last=True))
    assert world.result("a.wav")["error"]["code"] == "given_up"
    assert world.delivery.deliver(upload).kind == "stored"
    assert world.result("a.wav")["status"] == "classified"


def test_giving_up_does_not_replace_the_result_of_an_older_model(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)
    world.delivery.deliver(upload)
    identity = world.classifier.identity.model_copy(update={"fingerprint": "sha256:new"})
    world.classifier = EmotionClassifier(world.network, identity)
    with pytest.raises(TransientError):
        world.delivery_with(FailingStorage(world.stack.s3)).deliver(upload, Attempt(is_last=True))
    assert world.result("a.wav")["status"] == "classified"


@pytest.mark.parametrize("error", [StorageUnavailable("down"), StorageRefused("403")])
def test_the_last_delivery_leaves_a_failed_result_even_without_a_head_of_the_upload(
    world: World, speech: bytes, error: TransientError
) -> None:
    class BlindStorage(Storage):
        def head(self, bucket: str, key: str) -> ObjectVersion | None:
            if bucket == UPLOADS_BUCKET:
                raise error
            return super().head(bucket, key)

    upload = world.put("a.wav", speech)
    for is_last in (False, True):
        with pytest.raises(TransientError):
            world.delivery_with(BlindStorage(world.stack.s3)).deliver(upload, Attempt(is_last=is_last))
        assert world.has_result("a.wav") is is_last
    assert world.result("a.wav")["error"]["code"] == "given_up"
    assert world.delivery.deliver(upload).kind == "stored"
    assert world.result("a.wav")["status"] == "classified"


def test_the_former_holder_of_an_expired_lease_does_not_release_it(world: World, clock: Clock) -> None:
    former = world.lease("claims/x", 60)
    former.__enter__()
    clock.advance(61)
    with world.lease("claims/x", 60):
        former.__exit__(None, None, None)
        assert world.leases() == ["claims/x"]
    assert world.leases() == []


def test_an_sse_c_upload_gets_a_failed_result(world: World, speech: bytes) -> None:
    class EncryptedClient(_Client):
        """Answers as S3 does and moto does not: 400 to HEAD, and the reason to GET."""

        def head_object(self, **request: Any) -> Any:
            if request["Bucket"] != UPLOADS_BUCKET:
                return self._client.head_object(**request)
            raise _refusal("400", "")

        def get_object(self, **_: Any) -> dict[str, Any]:
            raise _refusal("InvalidRequest", "The object was stored using a form of Server Side Encryption.")

    upload = world.put("a.wav", speech)
    storage = Storage(EncryptedClient(world.stack.s3, []))  # type: ignore[arg-type]
    assert world.delivery_with(storage).deliver(upload).kind == "stored"
    assert world.result("a.wav")["error"]["code"] == "encrypted"


def _refusal(code: str, message: str) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer, "GetObject")


def test_a_last_delivery_that_succeeds_leaves_its_result(world: World, speech: bytes) -> None:
    assert world.delivery.deliver(world.put("a.wav", speech), Attempt(is_last=True)).kind == "stored"
    assert world.result("a.wav")["status"] == "classified"


def test_a_process_that_is_killed_on_its_last_delivery_leaves_a_failed_result(
    world: World, speech: bytes, package: Path
) -> None:
    upload = world.put("a.wav", speech)
    program = f"""
import os, signal
from core.delivery import Attempt, Upload
from core.pipeline import Pipeline
from handlers.processing import delivery
Pipeline.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
delivery().deliver(Upload({UPLOADS_BUCKET!r}, "a.wav", {upload.version_id!r}), Attempt(is_last=True))
"""
    environment = {**os.environ, **world.stack.environment(package), "LEASES_PREFIX": ""}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert world.result("a.wav")["error"]["code"] == "given_up"
    assert world.delivery.deliver(upload).kind == "stored"
    assert world.result("a.wav")["status"] == "classified"


def test_a_truncated_body_is_never_classified(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)
    storage = Storage(_Client(world.stack.s3, [speech[: len(speech) // 2]]))  # type: ignore[arg-type]
    with pytest.raises(StorageUnavailable, match="of the"):
        world.delivery_with(storage).deliver(upload)
    assert not world.has_result("a.wav")


def test_a_recording_that_vanishes_from_the_temporary_folder_is_retried(world: World, speech: bytes) -> None:
    class Clearing(Pipeline):
        """Loses its recording, as if another process cleared `/tmp`."""

        def run(self, path: Path, *rest: Any, **named: Any) -> Any:
            path.write_bytes(b"what is left of it")
            result = super().run(path, *rest, **named)
            path.unlink()
            return result

    upload = world.put("a.wav", speech)
    clearing = Delivery(world.storage, Clearing(world.classifier, MediaLimits(), SegmentationSettings()), SETTINGS)
    with pytest.raises(DecoderUnavailable, match="vanished"):
        clearing.deliver(upload)
    assert not world.has_result("a.wav")
    assert world.delivery.deliver(upload).kind == "stored"
    assert world.result("a.wav")["status"] == "classified"


def test_a_download_that_is_too_slow_is_retried(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)
    storage = Storage(_Client(world.stack.s3, [speech[:100], speech[100:]]))  # type: ignore[arg-type]
    with pytest.raises(StorageUnavailable, match="slowly"):
        world.delivery_with(storage).deliver(upload, Attempt(deadline=Deadline.after(0)))


def test_a_download_is_too_slow_only_if_it_takes_half_of_the_time_that_was_left(
    world: World, speech: bytes, clock: Clock
) -> None:
    class SlowStorage(Storage):
        def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
            super().download(version, destination, deadline)
            clock.advance(100)

    attempt = Attempt(deadline=Deadline.after(1000))
    clock.advance(450)  # an earlier recording of the batch
    delivery = world.delivery_with(SlowStorage(world.stack.s3))
    assert delivery.deliver(world.put("a.wav", speech), attempt).kind == "stored"
