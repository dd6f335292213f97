"""Faults that fault injection and the queue model uncovered, one test each."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.retries.standard import ExponentialBackoff

from core.deadline import Deadline
from core.delivery import Attempt, Delivery, Upload
from core.delivery.lease import lease
from core.delivery.storage import Storage
from core.delivery.versions import ObjectVersion
from core.errors import DiskUnavailable, RecordingInProgress, StorageRefused, StorageUnavailable, TransientError
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.settings import FunctionSettings
from tests.integration.conftest import Clock
from tests.support.faults.fault_proxy import KMS_KEY, Call, Fault, FaultyEndpoint, Plan, faulty
from tests.support.quick_pipeline import QuickPipeline, is_right

SETTINGS = FunctionSettings(results_bucket=RESULTS_BUCKET)
CONTENT, OTHER_CONTENT = b"a recording" * 1000, b"another one" * 1000
RESULT = "results/a.wav.json"


class World:
    """A stack behind a proxy, and a delivery whose client makes two attempts."""

    def __init__(self, stack: Stack, proxy: FaultyEndpoint) -> None:
        session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name="us-east-1")
        retries: Any = {"mode": "standard", "total_max_attempts": 2}
        self.client = session.client("s3", endpoint_url=proxy.endpoint, config=Config(retries=retries))
        self.stack, self.proxy = stack, proxy
        self.classified: list[bytes] = []
        self.pipeline = QuickPipeline(self.classified.append)
        self.storage = Storage(self.client)
        self.delivery = self.delivery_with(self.storage)

    def delivery_with(self, storage: Storage, **changes: Any) -> Delivery:
        return Delivery(storage, self.pipeline, SETTINGS.model_copy(update=changes))

    def put(self, content: bytes = CONTENT, sequencer: str | None = None) -> Upload:
        answer = self.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="a.wav", Body=content)
        return Upload(UPLOADS_BUCKET, "a.wav", answer["VersionId"], answer["ETag"].strip('"'), sequencer=sequencer)

    def result(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stack.result(RESULT))
        return document

    def has_result(self) -> bool:
        return self.stack.s3.list_objects_v2(Bucket=RESULTS_BUCKET, Prefix="results/")["KeyCount"] > 0

    def leases(self) -> int:
        return self.stack.s3.list_objects_v2(Bucket=RESULTS_BUCKET, Prefix="claims/")["KeyCount"]


@pytest.fixture
def world(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.0)
    with running_stack(endpoint=aws_server) as stack, faulty(stack.endpoint, slow_s=3600) as proxy:
        yield World(stack, proxy)


def first(fault: Fault, method: str, part_of_path: str, times: int = 1) -> Plan:
    """Return a plan by which the first calls of a kind fail."""
    left = [times]

    def plan(call: Call) -> Fault | None:
        if call.method != method or part_of_path not in call.path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return plan


@pytest.mark.parametrize("part_of_path", ["/results/a.wav.json", "/claims/"])
def test_a_put_that_conflicts_with_its_own_first_attempt_has_succeeded(world: World, part_of_path: str) -> None:
    upload = world.put()
    world.proxy.plan = first(Fault.LOST_RESET, "PUT", part_of_path)
    assert world.delivery.deliver(upload).kind == "stored"
    assert world.proxy.injected == {Fault.LOST_RESET: 1}
    assert len(world.classified) == 1
    assert world.leases() == 0


def test_a_lease_whose_answer_was_lost_is_released(world: World) -> None:
    upload = world.put()
    world.proxy.plan = first(Fault.LOST_RESET, "PUT", "/claims/", times=2)
    with pytest.raises(StorageUnavailable):
        world.delivery.deliver(upload)
    assert world.leases() == 0
    assert world.delivery.deliver(upload).kind == "stored"


def test_a_lease_that_could_not_be_taken_leaves_the_other_holder_s(world: World) -> None:
    world.proxy.plan = first(Fault.RESET, "PUT", "/claims/", times=2)
    with lease(Storage(world.stack.s3), RESULTS_BUCKET, "claims/x", 60):
        with pytest.raises(StorageUnavailable), lease(world.storage, RESULTS_BUCKET, "claims/x", 60):
            pytest.fail("the lease was taken twice")
        assert world.leases() == 1
    assert world.leases() == 0


def test_a_lease_outlasts_the_deadline_while_the_result_is_stored(world: World, clock: Clock) -> None:
    upload = world.put()
    second: list[str] = []

    class LateStorage(Storage):
        def put(self, bucket: str, key: str, *rest: Any, **named: Any) -> str:
            if key == RESULT:
                clock.advance(61)
                try:
                    world.delivery.deliver(upload)
                except RecordingInProgress:
                    second.append("in progress")
            return super().put(bucket, key, *rest, **named)

    attempt = Attempt(deadline=Deadline.after(60))
    world.delivery_with(LateStorage(world.client)).deliver(upload, attempt)
    assert second == ["in progress"]
    assert len(world.classified) == 1


def test_a_slow_body_does_not_outlast_the_deadline(world: World, tmp_path: Path) -> None:
    upload = world.put()
    version = world.storage.head(upload.bucket, upload.key)
    assert version is not None
    world.proxy.plan = lambda call: Fault.SLOW if call.method == "GET" else None  # the body takes an hour
    with pytest.raises(StorageUnavailable, match="slowly"):
        world.storage.download(version, tmp_path / "recording", Deadline.after(0.5))


def test_a_download_that_fails_closes_its_connection(world: World) -> None:
    upload = world.put(CONTENT * 400)
    version = world.storage.head(upload.bucket, upload.key)
    assert version is not None
    bodies: list[Any] = []
    world.client.meta.events.register("after-call.s3.GetObject", lambda parsed, **_: bodies.append(parsed["Body"]))
    with pytest.raises(DiskUnavailable):
        world.storage.download(version, Path("/dev/full"), Deadline())
    assert [body._raw_stream.closed for body in bodies] == [True]


@pytest.mark.timeout(120)
def test_a_slow_result_document_does_not_block_its_report(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.delivery.storage._READ_TIMEOUT_S", 0.5)
    upload = world.put()
    delivery = world.delivery_with(world.storage, reports="html")
    world.proxy.plan = lambda call: Fault.SLOW if call.method == "GET" and call.path.endswith(".json") else None
    with pytest.raises(StorageUnavailable, match="slowly"):
        delivery.deliver(upload)
    world.proxy.plan = lambda _: None
    assert delivery.deliver(upload).kind == "duplicate"
    assert world.stack.result("results/a.wav.html").startswith(b"<!doctype html>")


def test_an_event_that_names_the_etag_only_does_not_give_up_a_result_that_names_the_version(world: World) -> None:
    upload = world.put()
    assert world.delivery.deliver(upload).kind == "stored"

    class BlindStorage(Storage):
        def head(self, bucket: str, key: str) -> ObjectVersion | None:
            if bucket == UPLOADS_BUCKET:
                raise StorageUnavailable("S3 is down.")
            return super().head(bucket, key)

    outcome = world.delivery_with(BlindStorage(world.client)).deliver(
        replace(upload, version_id=None), Attempt(is_last=True)
    )
    assert outcome.kind == "duplicate"
    assert is_right(world.result(), CONTENT)


def test_an_sse_c_upload_replaces_an_older_result_without_sequencers(world: World) -> None:
    world.delivery.deliver(world.put())
    encrypted = world.put(OTHER_CONTENT)

    class EncryptedClient:
        """Answers as S3 does: 400 to HEAD, and the reason to GET."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.client, name)

        def head_object(self, **request: Any) -> Any:
            if request["Bucket"] != UPLOADS_BUCKET:
                return world.client.head_object(**request)
            raise _refusal("400", "")

        def get_object(self, **_: Any) -> Any:
            raise _refusal("InvalidRequest", "The object was stored using a form of Server Side Encryption.")

    storage = Storage(EncryptedClient())  # type: ignore[arg-type]
    assert world.delivery_with(storage).deliver(encrypted).kind == "stored"
    assert world.result()["error"]["code"] == "encrypted"
    assert world.result()["source"]["version_id"] == encrypted.version_id


def _refusal(code: str, message: str) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer, "GetObject")


def test_one_404_does_not_mean_that_an_upload_was_deleted(world: World) -> None:
    upload = world.put()
    world.proxy.plan = first(Fault.NOT_FOUND, "HEAD", "/a.wav")
    assert world.delivery.deliver(upload).kind == "stored"


@pytest.mark.parametrize("known_by", ["version", "etag"])
def test_one_stale_answer_does_not_mean_that_an_upload_was_overwritten(world: World, known_by: str) -> None:
    older, upload = world.put(), world.put(OTHER_CONTENT)
    stale = [world.client.head_object(Bucket=UPLOADS_BUCKET, Key="a.wav", VersionId=str(older.version_id))]

    class StaleClient:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.client, name)

        def head_object(self, **request: Any) -> Any:
            if request["Bucket"] == UPLOADS_BUCKET and stale:
                return stale.pop()
            return world.client.head_object(**request)

    event_version = replace(upload, version_id=None) if known_by == "etag" else upload
    assert world.delivery_with(Storage(StaleClient())).deliver(event_version).kind == "stored"  # type: ignore[arg-type]
    assert not stale
    assert is_right(world.result(), OTHER_CONTENT)


@pytest.mark.parametrize("nth_check", [1, 2])
def test_one_404_does_not_mean_that_an_upload_with_an_older_result_is_superseded(world: World, nth_check: int) -> None:
    """Without sequencers, a HEAD of the upload decides whether the stored result is older."""
    world.delivery.deliver(world.put())
    upload = world.put(OTHER_CONTENT)
    heads: list[str] = []

    class OnceBlindStorage(Storage):
        def head(self, bucket: str, key: str) -> ObjectVersion | None:
            if bucket == UPLOADS_BUCKET:
                heads.append(key)
            return None if bucket == UPLOADS_BUCKET and len(heads) == nth_check + 1 else super().head(bucket, key)

    assert world.delivery_with(OnceBlindStorage(world.client)).deliver(upload).kind == "stored"
    assert len(heads) > nth_check + 1
    assert is_right(world.result(), OTHER_CONTENT)


def test_a_version_that_s3_lists_but_does_not_return_is_retried(world: World) -> None:
    upload = world.put()
    world.proxy.plan = first(Fault.NOT_FOUND, "GET", "/a.wav")
    with pytest.raises(StorageUnavailable, match="does not return"):
        world.delivery.deliver(upload)
    assert world.delivery.deliver(upload).kind == "stored"


@pytest.mark.parametrize("method", ["HEAD", "PUT"])
def test_a_last_delivery_that_fails_to_give_up_first_gives_up_afterwards(world: World, method: str) -> None:
    upload = world.put()
    world.proxy.plan = first(Fault.SLOW_DOWN, method, RESULT, times=2)
    with pytest.raises(TransientError):
        world.delivery.deliver(upload, Attempt(is_last=True))
    assert world.result()["error"]["code"] == "given_up"
    assert world.delivery.deliver(upload).kind == "stored"
    assert is_right(world.result(), CONTENT)


DENIED = f"not authorized to perform kms:Decrypt on resource: {KMS_KEY}"
DISABLED = f"KMS: {KMS_KEY} is disabled."


@pytest.mark.parametrize(("fault", "named"), [(Fault.REFUSED, DENIED), (Fault.KEY_DISABLED, DISABLED)])
def test_the_last_delivery_names_the_missing_permission_in_the_result(world: World, fault: Fault, named: str) -> None:
    upload = world.put()
    world.proxy.plan = lambda call: fault if call.method == "GET" else None
    with pytest.raises(StorageRefused, match=re.escape(named)):
        world.delivery.deliver(upload)
    assert not world.has_result()
    with pytest.raises(StorageRefused):
        world.delivery.deliver(upload, Attempt(is_last=True))
    assert world.result()["error"]["code"] == "given_up"
    assert named in world.result()["error"]["message"]
    world.proxy.plan = lambda _: None
    assert world.delivery.deliver(upload).kind == "stored"
    assert is_right(world.result(), CONTENT)


def test_a_refusal_names_the_key_of_the_upload_if_s3_does_not(world: World) -> None:
    """S3 hides a key of another account."""
    world.stack.s3.put_object(
        Bucket=UPLOADS_BUCKET, Key="a.wav", Body=CONTENT, ServerSideEncryption="aws:kms", SSEKMSKeyId=KMS_KEY
    )
    world.proxy.plan = lambda call: Fault.EXPIRED if call.method == "GET" else None
    with pytest.raises(StorageRefused, match=f"Reading it needs kms:Decrypt on {KMS_KEY}"):
        world.delivery.deliver(Upload(UPLOADS_BUCKET, "a.wav"))


def test_a_refused_head_names_the_missing_permission(world: World) -> None:
    upload = world.put()
    world.proxy.plan = lambda call: Fault.REFUSED if call.path.endswith("/a.wav") else None
    with pytest.raises(StorageRefused, match="is not authorized to perform"):
        world.delivery.deliver(upload)


def test_a_second_last_delivery_names_its_own_cause(world: World) -> None:
    """A redrive may fail for another reason."""
    upload = world.put()
    for fault, named in ((Fault.REFUSED, DENIED), (Fault.KEY_DISABLED, DISABLED)):
        world.proxy.plan = first(fault, "GET", "/a.wav")
        with pytest.raises(StorageRefused):
            world.delivery.deliver(upload, Attempt(is_last=True))
        assert named in world.result()["error"]["message"]


def test_a_result_that_may_not_be_written_is_named_and_written_later(world: World) -> None:
    upload = world.put()
    world.proxy.plan = lambda call: Fault.REFUSED if call.method == "PUT" and call.path.endswith(RESULT) else None
    for is_last in (False, True):
        with pytest.raises(StorageRefused, match=f"{RESULT}.*kms:GenerateDataKey on resource: {KMS_KEY}"):
            world.delivery.deliver(upload, Attempt(is_last=is_last))
    assert not world.has_result()
    world.proxy.plan = lambda _: None
    assert world.delivery.deliver(upload).kind == "stored"


def test_the_report_of_a_given_up_recording_is_replaced_with_its_result(world: World) -> None:
    upload = world.put()
    delivery = world.delivery_with(world.storage, reports="html")
    world.proxy.plan = lambda call: Fault.SLOW_DOWN if call.method == "GET" and call.path.endswith("/a.wav") else None
    with pytest.raises(TransientError):
        delivery.deliver(upload, Attempt(is_last=True))
    assert b"was not classified in 12 deliveries" in world.stack.result("results/a.wav.html")
    world.proxy.plan = lambda _: None
    assert delivery.deliver(upload).kind == "stored"
    assert b"was not classified in 12 deliveries" not in world.stack.result("results/a.wav.html")


def test_a_duplicate_refreshes_an_outdated_report(world: World) -> None:
    older = world.put(CONTENT, "0A")
    delivery = world.delivery_with(world.storage, reports="html")
    delivery.deliver(older)
    older_report = world.stack.result("results/a.wav.html")
    newer = world.put(OTHER_CONTENT, "0B")
    world.proxy.plan = lambda call: Fault.REFUSED if call.path.endswith(".html") else None
    with pytest.raises(TransientError):
        delivery.deliver(newer)
    assert is_right(world.result(), OTHER_CONTENT)
    world.proxy.plan = lambda _: None
    assert delivery.deliver(newer).kind == "duplicate"
    assert world.stack.result("results/a.wav.html") != older_report
    assert len(world.classified) == 2
