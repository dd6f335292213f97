"""Deliveries of uploads, with moto's S3 and real ffmpeg."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.audio.waveform import Waveform
from core.deadline import Deadline
from core.delivery import Attempt, Delivery, Outcome, Upload
from core.delivery.lease import lease
from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion
from core.errors import DecoderUnavailable, RecordingInProgress, StorageRefused, StorageUnavailable, TransientError
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.model.classifier import EmotionClassifier, Logits, Network
from core.pipeline import Pipeline
from core.settings import FunctionSettings, MediaLimits, SegmentationSettings
from tests.integration.conftest import Clock

SETTINGS = FunctionSettings(results_bucket=RESULTS_BUCKET)


class CountingNetwork:
    """A real network that counts its inferences."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.inferences = 0

    def logits(self, waveform: Waveform) -> Logits:
        self.inferences += 1
        return self._network.logits(waveform)


class World:
    """A stack and a delivery."""

    def __init__(self, stack: Stack, classifier: EmotionClassifier) -> None:
        self.stack = stack
        self.network = CountingNetwork(classifier._network)
        self.classifier = EmotionClassifier(self.network, classifier.identity)
        self.storage = Storage(stack.s3)
        self.delivery = self.delivery_with()

    def delivery_with(
        self, storage: Storage | None = None, settings: FunctionSettings = SETTINGS, limits: MediaLimits | None = None
    ) -> Delivery:
        pipeline = Pipeline(self.classifier, limits or MediaLimits(), SegmentationSettings())
        return Delivery(storage or self.storage, pipeline, settings)

    def put(self, key: str, body: bytes, sequencer: str | None = None) -> Upload:
        answer = self.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body)
        return Upload(UPLOADS_BUCKET, key, answer["VersionId"], answer["ETag"].strip('"'), sequencer=sequencer)

    def result(self, key: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stack.result(f"results/{key}.json"))
        return document

    def has_result(self, key: str) -> bool:
        return f"results/{key}.json" in self.stack.results()

    def lease(self, key: str, duration_s: float) -> AbstractContextManager[None]:
        return lease(self.storage, RESULTS_BUCKET, key, duration_s)

    def leases(self) -> list[str]:
        listed = self.stack.s3.list_objects_v2(Bucket=RESULTS_BUCKET, Prefix="claims/")
        return [item["Key"] for item in listed.get("Contents", [])]


@pytest.fixture
def world(aws_server: str, classifier: EmotionClassifier) -> Iterator[World]:
    with running_stack(endpoint=aws_server) as stack:
        yield World(stack, classifier)


def test_an_upload_gets_a_result_that_names_its_version(world: World, speech: bytes) -> None:
    upload = world.put("calls/a b+c 中.wav", speech)
    outcome = world.delivery.deliver(upload, Attempt(request_id="r-1"))
    document = world.result("calls/a b+c 中.wav")
    assert outcome.kind == "stored"
    assert document["status"] == "classified"
    assert document["source"]["version_id"] == upload.version_id
    assert document["source"]["size_bytes"] == len(speech)
    assert document["processing"]["request_id"] == "r-1"
    assert world.leases() == []


def test_a_duplicate_delivery_costs_no_inference(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)
    world.delivery.deliver(upload)
    assert world.network.inferences == 1
    assert world.delivery.deliver(upload).kind == "duplicate"
    assert world.network.inferences == 1


def test_a_duplicate_of_a_failed_recording_is_a_duplicate(world: World) -> None:
    upload = world.put("a.txt", b"no sound at all")
    assert world.delivery.deliver(upload).kind == "stored"
    assert world.result("a.txt")["error"]["code"] == "not_audio"
    assert world.delivery.deliver(upload).kind == "duplicate"


@pytest.mark.parametrize("sequencers", [("0A", "0B"), (None, None)])
def test_events_out_of_order_leave_the_newest_result(
    world: World, speech: bytes, other_speech: bytes, sequencers: tuple[str | None, str | None]
) -> None:
    older = world.put("a.wav", speech, sequencers[0])
    newer = world.put("a.wav", other_speech, sequencers[1])
    assert world.delivery.deliver(newer).kind == "stored"
    assert world.delivery.deliver(older).kind == "superseded"
    assert world.result("a.wav")["source"]["version_id"] == newer.version_id


def test_an_event_without_a_version_is_matched_by_its_etag(world: World, speech: bytes, other_speech: bytes) -> None:
    older = replace(world.put("a.wav", speech), version_id=None)
    newer = replace(world.put("a.wav", other_speech), version_id=None)
    assert world.delivery.deliver(older).kind == "superseded"
    assert world.delivery.deliver(newer).kind == "stored"


@pytest.mark.parametrize("sequencers", [("0A", "0B"), (None, None)])
def test_an_overwrite_during_a_delivery_wins(
    world: World, speech: bytes, other_speech: bytes, sequencers: tuple[str | None, str | None]
) -> None:
    class OverwritingStorage(Storage):
        def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
            super().download(version, destination, deadline)
            newer = world.put("a.wav", other_speech, sequencers[1])
            world.delivery.deliver(newer)

    older = world.put("a.wav", speech, sequencers[0])
    outcome = world.delivery_with(OverwritingStorage(world.stack.s3)).deliver(older)
    assert outcome.kind == "superseded"
    assert world.result("a.wav")["source"]["etag"] != older.etag


def test_two_concurrent_deliveries_cost_one_inference(world: World, speech: bytes) -> None:
    barrier = threading.Barrier(2, timeout=30)

    met = threading.local()

    class MeetingStorage(Storage):
        def head(self, bucket: str, key: str) -> ObjectVersion | None:
            found = super().head(bucket, key)
            if bucket == RESULTS_BUCKET and not hasattr(met, "done"):
                met.done = True
                barrier.wait()  # both deliveries have seen that no result is stored
            return found

    upload = world.put("a.wav", speech)
    delivery = world.delivery_with(MeetingStorage(world.stack.s3))

    def deliver(_: int) -> str:
        try:
            return delivery.deliver(upload).kind
        except RecordingInProgress:
            return "in progress"

    with ThreadPoolExecutor(2) as pool:
        kinds = sorted(pool.map(deliver, range(2)))
    assert kinds in (["in progress", "stored"], ["duplicate", "stored"])
    assert world.network.inferences == 1
    assert world.delivery.deliver(upload).kind == "duplicate"
    assert world.network.inferences == 1


def test_a_result_stored_just_before_the_lease_is_taken_costs_no_inference(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)

    class OvertakenStorage(Storage):
        def put(self, bucket: str, key: str, *args: Any, **kwargs: Any) -> str:
            if key.startswith("claims/"):
                assert world.delivery.deliver(upload).kind == "stored"
            return super().put(bucket, key, *args, **kwargs)

    assert world.delivery_with(OvertakenStorage(world.stack.s3)).deliver(upload).kind == "duplicate"
    assert world.network.inferences == 1
    assert world.leases() == []


def test_without_leases_two_concurrent_deliveries_leave_one_right_result(world: World, speech: bytes) -> None:
    barrier = threading.Barrier(2, timeout=30)

    class MeetingStorage(Storage):
        def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
            barrier.wait()
            super().download(version, destination, deadline)

    upload = world.put("a.wav", speech)
    delivery = world.delivery_with(MeetingStorage(world.stack.s3), SETTINGS.model_copy(update={"leases_prefix": ""}))
    with ThreadPoolExecutor(2) as pool:
        kinds = sorted(outcome.kind for outcome in pool.map(lambda _: delivery.deliver(upload), range(2)))
    assert kinds == ["duplicate", "stored"]
    versions = world.stack.s3.list_object_versions(Bucket=RESULTS_BUCKET)["Versions"]
    assert [version["Key"] for version in versions] == ["results/a.wav.json"]


def test_a_lease_excludes_other_deliveries_until_it_expires(world: World, clock: Clock) -> None:
    crashed = world.lease("claims/x", 60)
    crashed.__enter__()
    clock.advance(30)  # the real clock adds to it
    with pytest.raises(RecordingInProgress), world.lease("claims/x", 60):
        pass
    clock.advance(30)
    with world.lease("claims/x", 60):
        pass
    assert world.leases() == []
    crashed.__exit__(None, None, None)  # otherwise garbage collection would, when the stack has ended


def test_a_delivery_that_crashes_releases_its_lease(world: World, speech: bytes) -> None:
    class Crashed(Exception):
        pass

    class CrashingStorage(Storage):
        def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
            raise Crashed

    upload = world.put("a.wav", speech)
    with pytest.raises(Crashed):
        world.delivery_with(CrashingStorage(world.stack.s3)).deliver(upload)
    assert world.delivery.deliver(upload).kind == "stored"


def test_a_deleted_upload_is_acknowledged_without_a_result(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)
    world.stack.s3.delete_object(Bucket=UPLOADS_BUCKET, Key="a.wav")
    assert world.delivery.deliver(upload).kind == "superseded"
    assert not world.has_result("a.wav")


@pytest.mark.parametrize("reports", ["none", "html"])
@pytest.mark.parametrize("is_last", [False, True])
def test_a_folder_marker_is_acknowledged_without_a_result(world: World, reports: str, is_last: bool) -> None:
    delivery = world.delivery_with(settings=SETTINGS.model_copy(update={"reports": reports}))
    assert delivery.deliver(world.put("calls/", b""), Attempt(is_last=is_last)).kind == "folder"
    assert world.stack.results() == {}


def test_an_event_identifies_a_folder_marker_even_if_s3_is_down(world: World) -> None:
    class BlindStorage(Storage):
        def head(self, bucket: str, key: str) -> ObjectVersion | None:
            raise StorageUnavailable("S3 is down.")

    marker = replace(world.put("calls/", b""), size_bytes=0)
    assert world.delivery_with(BlindStorage(world.stack.s3)).deliver(marker, Attempt(is_last=True)).kind == "folder"
    assert world.stack.results() == {}


def test_a_recording_whose_key_ends_with_a_slash_is_classified(world: World, speech: bytes) -> None:
    assert world.delivery.deliver(replace(world.put("calls/", speech), size_bytes=len(speech))).kind == "stored"
    assert world.result("calls/")["status"] == "classified"


def test_an_empty_upload_gets_a_failed_result(world: World) -> None:
    world.delivery.deliver(world.put("a.wav", b""))
    assert world.result("a.wav")["error"]["code"] == "empty"


def test_an_upload_that_is_too_large_is_not_downloaded(world: World, speech: bytes) -> None:
    class UnreadableStorage(Storage):
        def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
            raise AssertionError("downloaded")

    delivery = world.delivery_with(UnreadableStorage(world.stack.s3), limits=MediaLimits(max_size_bytes=1000))
    delivery.deliver(world.put("a.wav", speech))
    assert world.result("a.wav")["error"]["code"] == "too_large"


def test_an_archived_upload_gets_a_failed_result(world: World, speech: bytes) -> None:
    answer = world.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=speech, StorageClass="GLACIER")
    world.delivery.deliver(Upload(UPLOADS_BUCKET, "a.wav", answer["VersionId"]))
    assert world.result("a.wav")["error"]["code"] == "archived"


def test_a_new_model_replaces_the_result(world: World, speech: bytes) -> None:
    upload = world.put("a.wav", speech)
    world.delivery.deliver(upload)
    identity = world.classifier.identity.model_copy(update={"fingerprint": "sha256:another"})
    world.classifier = EmotionClassifier(world.network, identity)
    assert world.delivery_with().deliver(upload).kind == "stored"
    assert world.result("a.wav")["model"]["fingerprint"] == "sha256:another"
    assert world.network.inferences == 2


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


def test_a_bucket_without_versioning_is_read_by_etag(world: World, speech: bytes, other_speech: bytes) -> None:
    world.stack.s3.create_bucket(Bucket="plain-bucket")
    etag = world.stack.s3.put_object(Bucket="plain-bucket", Key="a.wav", Body=speech)["ETag"].strip('"')

    class OverwrittenStorage(Storage):
        def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
            world.stack.s3.put_object(Bucket="plain-bucket", Key="a.wav", Body=other_speech)
            super().download(version, destination, deadline)

    upload = Upload("plain-bucket", "a.wav", None, etag)
    assert world.delivery_with(OverwrittenStorage(world.stack.s3)).deliver(upload).kind == "superseded"
    assert world.network.inferences == 0


def test_no_temporary_file_is_left(
    world: World, speech: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    outcomes: list[Outcome] = [
        world.delivery.deliver(world.put("a.wav", speech)),
        world.delivery.deliver(world.put("b.txt", b"text")),
    ]
    assert {outcome.kind for outcome in outcomes} == {"stored"}
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_stored_beside_the_result_if_configured(world: World, speech: bytes) -> None:
    settings = SETTINGS.model_copy(update={"reports": "html"})

    world.delivery_with(settings=settings).deliver(world.put("a b.wav", speech))

    assert {"results/a b.wav.json", "results/a b.wav.html"} <= set(world.stack.results())
    assert world.stack.result("results/a b.wav.html").startswith(b"<!doctype html>")


def test_a_report_that_cannot_be_written_does_not_lose_the_result(world: World, speech: bytes) -> None:
    class NoPages(Storage):
        def put(self, bucket: str, key: str, *rest: Any, **named: Any) -> str:
            if key.endswith(".html"):
                raise StorageUnavailable("no reports today")
            return super().put(bucket, key, *rest, **named)

    settings = SETTINGS.model_copy(update={"reports": "html"})
    delivery = world.delivery_with(NoPages(world.stack.s3), settings)
    upload = world.put("a.wav", speech)

    for is_last in (False, True):
        with pytest.raises(StorageUnavailable):
            delivery.deliver(upload, Attempt(is_last=is_last))
        assert world.result("a.wav")["status"] == "classified"
        assert "results/a.wav.html" not in world.stack.results()

    assert world.delivery_with(settings=settings).deliver(upload).kind == "duplicate"
    assert world.stack.result("results/a.wav.html").startswith(b"<!doctype html>")
    assert world.network.inferences == 1
