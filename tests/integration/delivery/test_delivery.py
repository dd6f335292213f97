"""Deliveries of uploads, with moto's S3 and real ffmpeg."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.deadline import Deadline
from core.delivery import Attempt, Outcome, Upload
from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion
from core.errors import RecordingInProgress, StorageUnavailable
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET
from core.model.classifier import EmotionClassifier
from core.settings import MediaLimits
from tests.integration.conftest import Clock
from tests.support.delivery import SETTINGS, World


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
