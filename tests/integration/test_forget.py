"""`audio-emotion forget` leaves nothing of a recording, whatever runs meanwhile, and keeps every other one."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from typer.testing import CliRunner

import core.cli.forget
import core.operations.forget
from core.cli.app import app
from core.cli.forget import run_forget
from core.delivery import Attempt, Delivery, Removal, Upload
from core.delivery.keys import result_key_for
from core.delivery.storage import Storage
from core.errors import AudioEmotionError
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.operations.deployed_stack import DeployedStack
from core.operations.forget import Recording, Scope, StoredVersion, find_recordings
from core.operations.status import message_counts
from core.settings import FunctionSettings
from tests.support.faults.fault_proxy import Fault, Plan, faulty
from tests.support.quick_pipeline import QuickPipeline, is_right

SETTINGS = FunctionSettings(results_bucket=RESULTS_BUCKET, reports="html")
KEYS = ["a.wav", "calls/ü +.wav", "a&<b>%2B.wav", "录" * 341, "c/"]
OTHERS = ["a.wav.json", "a.wavx", "a.wa", "calls/other.wav", "b.wav"]


class World:
    """A stack, and deliveries in this process."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.delivery = Delivery(Storage(stack.s3), QuickPipeline(lambda _: None), SETTINGS)
        self.deployed = DeployedStack(
            name="audio-emotion",
            uploads_bucket=UPLOADS_BUCKET,
            results_bucket=RESULTS_BUCKET,
            results_prefix="results/",
            queue_url=stack.queue_url,
            dead_letter_queue_url=stack.dead_letter_queue_url,
            dead_letter_queue_arn="",
            backfill_version_arn="",
            batch_operations_role_arn="",
            memory_size_mb=3008,
            timeout_s=20,
            backfill_concurrency=0,
            log_retention_days=30,
        )
        # The tests deliver uploads themselves.
        stack.s3.put_bucket_notification_configuration(Bucket=UPLOADS_BUCKET, NotificationConfiguration={})

    def put(self, key: str, body: bytes = b"sound") -> Upload:
        answer = self.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body)
        return Upload(UPLOADS_BUCKET, key, answer["VersionId"], answer["ETag"].strip('"'))

    def fill(self, key: str) -> None:
        """Store everything that can be stored about a recording."""
        self.delivery.deliver(self.put(key, b"first"))
        self.stack.s3.delete_object(Bucket=UPLOADS_BUCKET, Key=key)
        self.delivery.deliver(self.put(key, b"second"))
        self.send(key)

    def send(self, *keys: str, body: str | None = None) -> None:
        """Put a dead letter into its queue."""
        records = [
            {
                "eventSource": "aws:s3",
                "eventVersion": "2.1",
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": UPLOADS_BUCKET}, "object": {"key": quote_plus(key)}},
            }
            for key in keys
        ]
        self.stack.sqs.send_message(
            QueueUrl=self.stack.dead_letter_queue_url, MessageBody=body or json.dumps({"Records": records})
        )

    def forget(self, *keys: str, prefix: str | None = None, confirm: Callable[[], bool] = lambda: True) -> int:
        return run_forget(self.deployed, Scope(frozenset(keys), prefix), confirm, poll_interval_s=0.01)

    def objects(self) -> dict[str, set[str]]:
        """Return the version ids of every object, with its bucket in its name."""
        found: dict[str, set[str]] = {}
        for bucket in (UPLOADS_BUCKET, RESULTS_BUCKET):
            for page in self.stack.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    found.setdefault(f"{bucket}/{item['Key']}", set()).add(item["VersionId"])
        return found

    def wait_for_dead_letters(self) -> None:
        """Wait until no dead letter is hidden."""
        while message_counts(self.stack.sqs, self.stack.dead_letter_queue_url)[1]:
            time.sleep(0.1)

    def is_about(self, key: str, body: bytes) -> bool:
        return is_right(json.loads(self.stack.result(result_key_for(key, "results/"))), body)


@pytest.fixture
def world(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with running_stack(endpoint=aws_server) as stack:
        for name, value in stack.environment(Path("unused")).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("core.operations.forget._LONG_POLL_S", 0)
        monkeypatch.setattr("core.operations.forget._DEAD_LETTER_VISIBILITY_S", 1)
        yield World(stack)


@pytest.mark.parametrize("key", KEYS)
def test_nothing_of_a_recording_is_left_and_nothing_else_is_lost(
    world: World, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in OTHERS:
        world.fill(other)
    before, letters = world.objects(), world.stack.dead_letters()
    world.fill(key)
    assert world.forget(key) == 0
    assert world.objects() == before
    assert world.stack.dead_letters() == letters
    assert "/aws/lambda/audio-emotion-classify after 30 days" in capsys.readouterr().out
    assert world.forget(key) == 0
    assert "Nothing is stored" in capsys.readouterr().out
    assert world.objects() == before


def test_every_version_is_shown_before_the_confirmation(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.fill("a.wav")
    before = world.objects()
    shown: list[str] = []

    def decline() -> bool:
        shown.append(capsys.readouterr().out)
        return False

    assert world.forget("a.wav", confirm=decline) == 1
    for name, versions in before.items():
        for version in versions:
            assert re.search(rf"{re.escape(name)}\s+{re.escape(version)}", shown[0])
    assert "delete marker" in shown[0]
    assert "1 dead letter\n" in shown[0]
    assert world.objects() == before
    assert world.stack.dead_letters() == 1


def test_a_prefix_selects_recordings_and_results_whose_upload_is_gone(world: World) -> None:
    long = "calls/" + "x" * 1015
    for key in ("calls/1.wav", "calls/2.wav", long):
        world.fill(key)
    for version in find_recordings(world.stack.s3, world.deployed, Scope(frozenset(["calls/2.wav", long])))[0].versions:
        if version.kind == "upload":
            world.stack.s3.delete_object(Bucket=UPLOADS_BUCKET, Key=version.key, VersionId=version.version_id)
    world.stack.s3.put_object(Bucket=RESULTS_BUCKET, Key="results/calls/orphan.wav.html", Body=b"<p>")
    world.fill("calls")
    kept = {name: ids for name, ids in world.objects().items() if "calls/" not in name and "claims" not in name}
    assert world.forget(prefix="calls/") == 0
    left = {name: ids for name, ids in world.objects().items() if "claims" not in name}
    assert left == kept
    assert world.stack.dead_letters() == 1


def test_the_suffix_of_a_result_is_no_part_of_a_prefix(world: World) -> None:
    world.fill("calls")
    before = world.objects()
    assert world.forget(prefix="calls.") == 0
    assert world.forget(prefix="calls.j") == 0
    assert world.objects() == before


def test_a_dead_letter_that_names_other_recordings_is_kept(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.send("a.wav", "other.wav")
    world.send("other.wav")
    world.send(body="no event")
    assert world.forget("a.wav") == 1
    output = capsys.readouterr().out
    assert "1 dead letter with other recordings" in output
    assert "1 dead letter that cannot be understood" in output
    assert "Not deleted: 1 dead letter" in output
    assert world.stack.dead_letters() == 3


def test_dead_letters_of_eventbridge_and_sns_are_found(world: World) -> None:
    events = Path(__file__).parents[2] / "events"
    event = json.loads((events / "eventbridge.json").read_text(encoding="utf-8"))
    event["detail"]["object"]["key"] = "a+b.wav"
    sns = {"Type": "Notification", "Message": json.dumps(event)}
    for body in (event, sns):
        world.send(body=json.dumps(body))
    assert world.forget("a+b.wav") == 0
    assert world.stack.dead_letters() == 0


def test_a_failure_is_named_and_the_rest_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fill("a.wav")
    world.fill("b.wav")
    locked = world.stack.s3.head_object(Bucket=UPLOADS_BUCKET, Key="a.wav")["VersionId"]
    client = boto3.client("s3")
    original = client.delete_object

    def delete(**request: Any) -> Any:
        if request.get("VersionId") == locked:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "Object Lock"}}, "DeleteObject")
        return original(**request)

    monkeypatch.setattr(client, "delete_object", delete)
    clients = {"s3": client, "sqs": world.stack.sqs}
    monkeypatch.setattr(core.cli.forget, "aws_client", clients.__getitem__)
    assert world.forget("a.wav", "b.wav") == 1
    assert f"a.wav (version {locked}): AWS refused" in capsys.readouterr().out
    left = world.objects()
    assert not any("b.wav" in name for name in left)
    assert left[f"{UPLOADS_BUCKET}/a.wav"] == {locked}
    monkeypatch.undo()
    for name, value in world.stack.environment(Path("unused")).items():
        monkeypatch.setenv(name, value)
    assert world.forget("a.wav") == 0
    assert world.objects() == {}


class PausedStorage(Storage):
    """Waits before its first write of a result."""

    def __init__(self, world: World) -> None:
        super().__init__(world.stack.s3)
        self.is_paused, self.go_on = threading.Event(), threading.Event()

    def put(self, bucket: str, key: str, *rest: Any, **named: Any) -> str:
        if key.startswith("results/"):
            self.is_paused.set()
            assert self.go_on.wait(30)
        return super().put(bucket, key, *rest, **named)


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("deletes", [False, True])
@pytest.mark.parametrize("has_result", [False, True])
def test_a_recording_that_is_being_classified_does_not_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch, is_last: bool, deletes: bool, has_result: bool
) -> None:
    if has_result:
        world.delivery.deliver(world.put("a.wav", b"old"))
    upload = world.put("a.wav", b"new")
    storage = PausedStorage(world)
    settings = SETTINGS.model_copy(update={"delete_results": deletes})
    delivery = Delivery(storage, QuickPipeline(lambda _: None), settings)
    worker = threading.Thread(target=lambda: delivery.deliver(upload, Attempt(is_last=is_last)))
    worker.start()
    assert storage.is_paused.wait(30)
    polls: list[bool] = []
    original = core.operations.forget.is_in_progress

    def poll(*rest: Any) -> bool:
        if not polls:
            if deletes:
                world.delivery.remove(Removal(UPLOADS_BUCKET, "a.wav"))
            storage.go_on.set()
            worker.join(30)
        polls.append(original(*rest))
        return polls[-1]

    monkeypatch.setattr("core.operations.forget.is_in_progress", poll)
    assert world.forget("a.wav") == 0
    storage.go_on.set()
    worker.join(30)
    assert world.objects() == {}


def test_the_erasure_waits_for_a_lease_and_for_messages_in_flight(world: World) -> None:
    upload = world.put("a.wav")
    storage = PausedStorage(world)
    delivery = Delivery(storage, QuickPipeline(lambda _: None), SETTINGS)
    worker = threading.Thread(target=lambda: delivery.deliver(upload))
    worker.start()
    assert storage.is_paused.wait(30)
    erasure = threading.Thread(target=lambda: world.forget("a.wav"))
    erasure.start()
    time.sleep(0.5)
    assert erasure.is_alive()
    storage.go_on.set()
    worker.join(30)
    erasure.join(30)
    assert world.objects() == {}

    world.stack.sqs.send_message(QueueUrl=world.stack.queue_url, MessageBody="{}")
    world.stack.sqs.receive_message(QueueUrl=world.stack.queue_url)
    recordings = [Recording("a.wav", "results/a.wav.json")]
    assert core.operations.forget.is_in_progress(world.stack.s3, world.stack.sqs, world.deployed, recordings)


@pytest.mark.parametrize("moment", ["delete_derived", "wait_for_deliveries"])
def test_a_recording_that_is_uploaded_again_keeps_its_new_result(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    world.fill("a.wav")
    original = getattr(core.cli.forget, moment)
    is_done: list[bool] = []

    def upload_first(*rest: Any, **named: Any) -> Any:
        if not is_done:
            is_done.append(True)
            world.delivery.deliver(world.put("a.wav", b"again"))
        return original(*rest, **named)

    monkeypatch.setattr(core.cli.forget, moment, upload_first)
    assert world.forget("a.wav") == 0
    assert world.is_about("a.wav", b"again")
    left = world.objects()
    assert len(left[f"{UPLOADS_BUCKET}/a.wav"]) == len(left[f"{RESULTS_BUCKET}/results/a.wav.json"]) == 1


def test_an_erasure_that_was_interrupted_is_completed_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    world.fill("a.wav")
    with monkeypatch.context() as patched:
        patched.setattr(core.cli.forget, "wait_for_deliveries", interrupt)
        with pytest.raises(KeyboardInterrupt):
            world.forget("a.wav")
    assert world.forget("a.wav") == 0
    assert world.objects() == {}


def at(number: int, fault: Fault) -> Plan:
    return lambda call: fault if call.number == number else None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "fault", [Fault.RESET, Fault.LOST_RESET, Fault.INTERNAL_ERROR, Fault.REFUSED], ids=lambda fault: fault.name
)
def test_each_call_may_fail_once(world: World, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    retries: Any = {"mode": "standard", "total_max_attempts": 1}
    with faulty(world.stack.endpoint, slow_s=0.3) as proxy:

        def client(name: Any) -> Any:
            return boto3.client(name, endpoint_url=proxy.endpoint, config=Config(retries=retries))

        monkeypatch.setattr(core.cli.forget, "aws_client", client)
        world.fill("other.wav")
        before, letters = world.objects(), world.stack.dead_letters()
        world.fill("a.wav")
        proxy.calls.clear()
        assert world.forget("a.wav") == 0
        calls = list(proxy.calls)
        assert len(calls) > 30
        for call in calls:
            if not call.can_suffer(fault):
                continue
            world.fill("a.wav")
            proxy.calls.clear()
            proxy.plan = at(call.number, fault)
            try:
                status = world.forget("a.wav")
            except AudioEmotionError:  # the command line prints it
                status = 1
            proxy.plan = lambda _: None
            if status == 0:  # an answer that nothing depends on was lost
                assert world.objects() == before, call
                assert world.stack.dead_letters() == letters, call
            world.wait_for_dead_letters()
            assert world.forget("a.wav") == 0, call
            assert world.objects() == before, call
            assert world.stack.dead_letters() == letters, call
        assert proxy.injected.total() > 30


def test_a_version_is_not_resurrected_while_newer_ones_are_deleted(world: World) -> None:
    deleted: list[tuple[str, bool]] = []
    world.fill("a.wav")
    [recording] = find_recordings(world.stack.s3, world.deployed, Scope(frozenset(["a.wav"])))

    class Client:
        def delete_object(self, **request: Any) -> None:
            [version] = [
                v for v in recording.versions if (v.key, v.version_id) == (request["Key"], request["VersionId"])
            ]
            deleted.append((version.key, version.is_latest))

    versions: list[StoredVersion] = list(recording.versions)
    core.operations.forget.delete_versions(Client(), versions)  # type: ignore[arg-type]
    for key in {version.key for version in versions}:
        assert [is_latest for name, is_latest in deleted if name == key].index(True) == sum(
            v.key == key for v in versions
        ) - 1


@pytest.mark.parametrize("options", [[], ["--prefix", ""]])
def test_an_erasure_of_everything_is_refused(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["forget", *options])
    assert result.exit_code == 2
    assert "--prefix" in result.output
