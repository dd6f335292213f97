"""With `DELETE_RESULTS`, a deleted upload leaves no result and no report, in any order of events."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.deadline import Deadline
from core.delivery import Attempt, Delivery, Removal, Upload
from core.delivery.storage import Storage, s3_client
from core.delivery.versions import ObjectVersion
from core.errors import StorageUnavailable, TransientError
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.settings import FunctionSettings, StorageSettings
from tests.support.faults.fault_proxy import HONEST, Fault, Plan, faulty
from tests.support.quick_pipeline import DAMAGED, QuickPipeline, is_right

SETTINGS = FunctionSettings(results_bucket=RESULTS_BUCKET, delete_results=True, reports="html")
KEPT = SETTINGS.model_copy(update={"delete_results": False})
KEY = "calls/ü +.wav"
RESULT, REPORT = f"results/{KEY}.json", f"results/{KEY}.html"


class World:
    """A stack whose deliveries run in this process."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.classified: list[bytes] = []
        self.delivery = self.delivery_with(Storage(stack.s3))

    def delivery_with(self, storage: Storage, settings: FunctionSettings = SETTINGS) -> Delivery:
        return Delivery(storage, QuickPipeline(self.classified.append), settings)

    def put(self, body: bytes = b"first") -> Upload:
        answer = self.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=KEY, Body=body)
        return Upload(UPLOADS_BUCKET, KEY, answer["VersionId"], answer["ETag"].strip('"'))

    def delete(self, version_id: str | None = None) -> Removal:
        """Delete the upload, or a version of it, and return what the event names."""
        which: dict[str, Any] = {"VersionId": version_id} if version_id else {}
        answer = self.stack.s3.delete_object(Bucket=UPLOADS_BUCKET, Key=KEY, **which)
        return Removal(UPLOADS_BUCKET, KEY, answer["VersionId"])

    def stored(self) -> set[str]:
        listed = self.stack.s3.list_objects_v2(Bucket=RESULTS_BUCKET).get("Contents", [])
        return {item["Key"] for item in listed}

    def is_about(self, body: bytes) -> bool:
        return is_right(json.loads(self.stack.result(RESULT)), body)


class ChangingStorage(Storage):
    """Changes something before the given call: `("put", RESULT)`."""

    def __init__(self, world: World, call: tuple[str, str], change: Callable[[], Any]) -> None:
        super().__init__(world.stack.s3)
        self._call, self._change = call, change

    def _meet(self, *call: str) -> None:
        if call == self._call:
            self._call = ("", "")
            self._change()

    def head(self, bucket: str, key: str) -> ObjectVersion | None:
        self._meet("head", key)
        return super().head(bucket, key)

    def download(self, version: ObjectVersion, destination: Path, deadline: Deadline) -> None:
        self._meet("download", version.key)
        super().download(version, destination, deadline)

    def put(self, bucket: str, key: str, *rest: Any, **named: Any) -> str:
        self._meet("put", key)
        return super().put(bucket, key, *rest, **named)

    def delete(self, bucket: str, key: str, etag: str) -> None:
        self._meet("delete", key)
        super().delete(bucket, key, etag)


@pytest.fixture
def world(aws_server: str) -> Iterator[World]:
    with running_stack(endpoint=aws_server) as stack:
        yield World(stack)


def test_a_removal_deletes_the_result_and_the_report(world: World) -> None:
    world.delivery.deliver(world.put())
    assert world.stored() == {RESULT, REPORT}
    removal = world.delete()
    assert world.delivery.remove(removal).kind == "removed"
    assert world.stored() == set()
    assert world.delivery.remove(removal).kind == "removed"  # a duplicate event


def test_without_the_setting_a_removal_keeps_the_result(world: World) -> None:
    kept = world.delivery_with(Storage(world.stack.s3), KEPT)
    kept.deliver(world.put())
    assert kept.remove(world.delete()).kind == "kept"
    assert world.stored() == {RESULT, REPORT}


def test_a_late_upload_event_of_a_deleted_recording_leaves_nothing(world: World) -> None:
    upload = world.put()
    world.delivery.remove(world.delete())
    assert world.delivery.deliver(upload).kind == "removed"
    assert world.stored() == set()
    assert world.classified == []


@pytest.mark.parametrize("is_delivered", [False, True])
def test_a_late_removal_keeps_the_result_of_a_new_upload(world: World, is_delivered: bool) -> None:
    world.delivery.deliver(world.put(b"first"))
    removal = world.delete()
    upload = world.put(b"second")
    if is_delivered:
        world.delivery.deliver(upload)
    world.delivery.remove(removal)
    world.delivery.deliver(upload)
    assert world.is_about(b"second")
    assert world.classified == [b"first", b"second"]


@pytest.mark.parametrize("step", [("put", RESULT), ("put", REPORT), ("download", KEY)])
@pytest.mark.parametrize("body", [b"first", DAMAGED, b""])
@pytest.mark.parametrize("is_last", [False, True])
def test_a_recording_that_is_deleted_during_its_delivery_leaves_nothing(
    world: World, step: tuple[str, str], body: bytes, is_last: bool
) -> None:
    upload = world.put(body)
    storage = ChangingStorage(world, step, lambda: world.delivery.remove(world.delete()))
    assert world.delivery_with(storage).deliver(upload, Attempt(is_last=is_last)).kind in {"removed", "stored"}
    if body or step[0] == "put":  # nothing is downloaded for an empty recording
        assert world.stored() == set()


def test_a_worker_that_is_killed_after_its_write_leaves_nothing_after_the_retry(world: World) -> None:
    class Killed(BaseException):
        pass

    def kill() -> None:
        world.delivery.remove(world.delete())
        raise Killed

    upload = world.put()
    with pytest.raises(Killed):
        world.delivery_with(ChangingStorage(world, ("put", REPORT), kill)).deliver(upload)
    world.delivery.remove(Removal(UPLOADS_BUCKET, KEY))
    world.stack.s3.put_object(Bucket=RESULTS_BUCKET, Key=RESULT, Body=b"{}")  # as if written after the removal
    assert world.delivery.deliver(upload).kind == "removed"
    assert world.stored() == set()


@pytest.mark.parametrize("step", [("delete", RESULT), ("delete", REPORT), ("head", RESULT)])
def test_an_upload_during_a_removal_keeps_its_result(world: World, step: tuple[str, str]) -> None:
    world.delivery.deliver(world.put(b"first"))
    removal = world.delete()
    storage = ChangingStorage(world, step, lambda: world.delivery.deliver(world.put(b"second")))
    world.delivery_with(storage).remove(removal)
    assert world.is_about(b"second")
    assert world.stored() >= {RESULT}


def test_a_version_that_becomes_the_newest_again_gets_its_result(world: World) -> None:
    first = world.put(b"first")
    world.delivery.deliver(first)
    second = world.put(b"second")
    world.delivery.deliver(second)
    assert world.delivery.remove(world.delete(second.version_id)).kind == "stored"
    assert world.is_about(b"first")
    assert world.delivery.deliver(second).kind == "superseded"  # late
    assert world.delivery.remove(world.delete(first.version_id)).kind == "removed"
    assert world.stored() == set()


def test_the_expiry_of_an_old_version_keeps_the_result(world: World) -> None:
    old = world.put(b"first")
    world.delivery.deliver(world.put(b"second"))
    assert world.delivery.remove(world.delete(old.version_id)).kind == "superseded"
    assert world.is_about(b"second")
    assert world.classified == [b"second"]


def test_a_failing_last_delivery_of_a_deleted_recording_leaves_no_given_up_result(world: World) -> None:
    class Down(Storage):
        def download(self, *_: Any) -> None:
            world.delivery.remove(world.delete())
            raise StorageUnavailable("S3 is down.")

    upload = world.put()
    assert world.delivery_with(Down(world.stack.s3)).deliver(upload, Attempt(is_last=True)).kind == "removed"
    assert world.stored() == set()


def test_a_last_delivery_of_a_deleted_recording_that_begins_with_a_failure_leaves_no_given_up_result(
    world: World,
) -> None:
    class Flaky(Storage):
        has_failed = False

        def head(self, bucket: str, key: str) -> ObjectVersion | None:
            if not self.has_failed:
                self.has_failed = True
                raise StorageUnavailable("S3 is down.")
            return super().head(bucket, key)

    upload = world.put()
    world.delete()
    kept = world.delivery_with(Flaky(world.stack.s3), KEPT)
    assert kept.deliver(upload, Attempt(is_last=True)).kind == "superseded"
    assert world.stored() == set()


def test_a_single_false_404_deletes_no_result(world: World) -> None:
    class Forgetful(Storage):
        is_forgetful = True

        def head(self, bucket: str, key: str) -> ObjectVersion | None:
            if bucket == UPLOADS_BUCKET and self.is_forgetful:
                self.is_forgetful = False
                return None
            return super().head(bucket, key)

    world.delivery.deliver(world.put())
    removal = Removal(UPLOADS_BUCKET, KEY)
    assert world.delivery_with(Forgetful(world.stack.s3)).remove(removal).kind == "superseded"
    assert world.stored() == {RESULT, REPORT}


def test_a_removal_that_fails_is_retried(world: World) -> None:
    class Down(Storage):
        def delete(self, *_: Any) -> None:
            raise StorageUnavailable("S3 is down.")

    world.delivery.deliver(world.put())
    removal = world.delete()
    with pytest.raises(TransientError):
        world.delivery_with(Down(world.stack.s3)).remove(removal, Attempt(is_last=True))
    assert world.stored() == {RESULT, REPORT}
    world.delivery.remove(removal)
    assert world.stored() == set()


FAULTS = sorted(HONEST - {Fault.TIMEOUT, Fault.LOST_TIMEOUT, Fault.TRUNCATED, Fault.SLOW, Fault.KEY_DISABLED})
"""A removal reads and writes no body, and its client treats a timeout as it treats a reset."""


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_call_of_a_removal_may_fail_once(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Fault, is_last: bool
) -> None:
    for name, value in world.stack.environment(Path("unused")).items():
        monkeypatch.setenv(name, value)
    with faulty(world.stack.endpoint, slow_s=0.3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        delivery = world.delivery_with(Storage(s3_client(StorageSettings(s3_attempts=1))))
        world.delivery.deliver(world.put())
        assert delivery.remove(world.delete()).kind == "removed"
        calls = list(proxy.calls)
        assert [call.method for call in calls].count("DELETE") == 2
        cases = [call for call in calls if call.can_suffer(fault)]
        for call in cases:
            world.delivery.deliver(world.put())
            removal = world.delete()
            proxy.calls.clear()
            proxy.plan = at(call.number, fault)
            try:
                delivery.remove(removal, Attempt(is_last=is_last))
            except TransientError:  # the queue delivers the message again
                delivery.remove(removal)
            assert world.stored() == set(), f"{call.method} {call.path}"
        assert proxy.injected.total() == len(cases)


def at(number: int, fault: Fault) -> Plan:
    return lambda call: fault if call.number == number else None
