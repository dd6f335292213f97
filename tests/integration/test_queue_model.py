"""Any order of uploads, deliveries and crashes leaves one right result for each recording.

Hypothesis chooses each step:

- an upload, an overwrite, a deletion or an erasure,
- a delivery of a message, possibly a late or duplicate one,
- the next S3 call of a worker, which may fail,
- a SIGKILL before or after such a call.

Whenever the queue is empty, each existing key has the result of its newest version, or a dead letter and a `given_up`
result. A deleted key has no result if the function deletes results, and a forgotten key never has one. Only a kill or a
fault may cause a second inference.

S3 is in memory, and a test below compares it with moto's. A longer run, as in docs/reliability.md, has a seed:

    QUEUE_MODEL_STEPS=50000 pytest tests/integration/test_queue_model.py -k any_order --hypothesis-seed=1 -s
"""

import hashlib
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from moto import mock_aws

from tests.support.faults.forking import forking_process
from tests.support.faults.promise import check
from tests.support.faults.s3_in_memory import MemoryS3
from tests.support.faults.world import SETUPS, TIMEOUT_S, VISIBILITY_S, Tally, Worker, World
from tests.support.quick_pipeline import DAMAGED, LONG

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_STEPS = 50
"""In one example. Most examples have more than 20 steps."""

SLOW_STEPS = pytest.param(5000, marks=pytest.mark.slow)
LONG_RUN_STEPS = int(os.environ.get("QUEUE_MODEL_STEPS", "0"))

KEYS = ("a.wav", "b/ü +.wav", "c/")
CONTENTS = (b"first", b"second", DAMAGED, b"", LONG)
"""An empty content is a folder marker under the last key, and an empty recording under the others."""
FAULTS = ("lost", "timeout", "SlowDown", "ConditionalRequestConflict", "ExpiredToken")
ENDINGS = (*["none"] * 5, "killed before", "killed after", *FAULTS)
MAX_WORKERS = 3
MAX_MESSAGES = 4
"""With more messages, workers proceed before further uploads, because an idle step tests nothing."""

any_number = st.integers(0, 5)
"""Chooses one of the items that exist at that step."""


@dataclass(frozen=True)
class Shared:
    """State that all runs share. Hypothesis creates the machines, so the state is an attribute of their class."""

    workers_at: str
    tally: Tally


class Queue(RuleBasedStateMachine):
    """The steps of the model."""

    shared: ClassVar[Shared]
    world: World

    @initialize(chance=st.integers(0, 2**32))
    def set_up(self, chance: int) -> None:
        draw = random.Random(chance)
        setup, most = draw.choice(SETUPS), draw.randint(1, 3)
        self.world = World(cast(Any, MemoryS3()), self.shared.workers_at, setup, most, self.shared.tally)
        self.shared.tally.examples += 1

    def pick(self, among: list[Any], number: int) -> Any:
        return among[number % len(among)]

    # ------------------------------------------------------------------------------------- uploads

    @precondition(lambda self: len(self.world.queue) < MAX_MESSAGES)
    @rule(key=st.sampled_from(KEYS), content=st.sampled_from(CONTENTS), chance=st.integers(0, 2**32))
    def upload(self, key: str, content: bytes, chance: int) -> None:
        """Upload or, less often, delete a recording. A deleted recording has no result to check."""
        if self.world.newest.get(key) and random.Random(chance).random() < 0.2:
            self.world.delete(key)
        else:
            self.world.upload(key, content)

    @precondition(lambda self: self.world.contents and len(self.world.busy) < MAX_WORKERS)
    @rule(number=any_number, names_version=st.booleans())
    def backfill(self, number: int, names_version: bool) -> None:
        """Backfill a version that may be overwritten or deleted, because a job's list may be outdated."""
        key, version_id = self.pick(list(self.world.contents), number)
        self.world.backfill(key, version_id if names_version and self.world.setup.versioned else None)

    @precondition(lambda self: any(self.world.newest.values()))
    @rule(chance=st.integers(0, 2**32))
    def forget(self, chance: int) -> None:
        """Begin an erasure in one of four such steps; a recording that is being delivered comes first."""
        draw = random.Random(chance)
        if draw.random() < 0.25:
            busy = [key for worker in self.world.busy for key in worker.about]
            self.world.forget(draw.choice(busy or list(self.world.newest)))

    @precondition(lambda self: self.world.dead)
    @rule()
    def redrive(self) -> None:
        self.world.redrive()

    # ------------------------------------------------------------------------------------- the queue

    @precondition(lambda self: self.world.events and len(self.world.queue) < MAX_MESSAGES)
    @rule(number=any_number)
    def deliver_a_duplicate(self, number: int) -> None:
        self.world.send(self.pick(self.world.events, number))

    @precondition(lambda self: self.can_deliver)
    @rule(number=any_number, batch=st.sampled_from([1, 1, 1, 2]))
    def deliver(self, number: int, batch: int) -> None:
        visible = self.world.visible
        start = number % len(visible)
        self.world.receive(visible[start : start + batch])

    @property
    def can_deliver(self) -> bool:
        return bool(self.world.visible) and len(self.world.busy) < MAX_WORKERS

    @precondition(lambda self: self.world.queue)
    @rule(seconds=st.sampled_from([1.0, TIMEOUT_S / 3, VISIBILITY_S]))
    def let_time_pass(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    # ------------------------------------------------------------------------------------- workers

    # One rule with one random number. Hypothesis leaves rules out of a run and prefers the first of several values, so
    # with several rules no worker would be killed while two others are busy.
    @precondition(lambda self: self.world.busy or self.can_deliver)
    @rule(chance=st.integers(0, 2**32))
    def move(self, chance: int) -> None:
        draw = random.Random(chance)
        for _ in range(draw.randint(1, 4)):
            if self.can_deliver and (not self.world.busy or draw.random() < 0.3):
                self.world.receive([draw.choice(self.world.visible)])
            if self.world.busy:
                self.move_one(draw.choice(self.world.busy), draw.randrange(8), draw.choice(ENDINGS))

    def move_one(self, worker: Worker, calls: int, ending: str) -> None:
        """Let a worker make some calls, and end the next one in the given way."""
        # Only a write can conflict.
        while worker.is_busy and (calls > 0 or (ending == "ConditionalRequestConflict" and not worker.is_writing)):
            self.world.advance(worker)
            calls -= 1
        if not worker.is_busy or ending == "none":
            return
        if ending.startswith("killed"):
            self.world.kill(worker, after_call=ending == "killed after")
        else:
            self.world.fail(worker, ending)

    @precondition(lambda self: self.world.busy)
    @rule(chance=st.integers(0, 2**32))
    def overtake(self, chance: int) -> None:
        """Overwrite or delete a recording during its delivery; usually, the newer version is finished first."""
        draw = random.Random(chance)
        key = draw.choice(self.world.busy).about[0]
        what = draw.choice(["overwrite", "overwrite", "overwrite", "delete", "replace"])
        if what != "overwrite":
            self.world.delete(key)
        if what == "delete":
            return
        self.world.upload(key, draw.choice(CONTENTS))
        if self.can_deliver and draw.random() < 0.8:
            worker = self.world.receive(self.world.queue[-1:])
            while worker and worker.is_busy:
                self.world.advance(worker)

    @precondition(lambda self: not self.world.is_quiet)
    @rule(chance=st.integers(0, 2**32))
    def work_off(self, chance: int) -> None:
        self.world.work_off(random.Random(chance), MAX_WORKERS)

    # ------------------------------------------------------------------------------------- invariants

    @invariant()
    def every_recording_has_its_result(self) -> None:
        self.shared.tally.steps += 1
        self.world.finish_erasures()
        if self.world.is_quiet:
            check(self.world)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.work_off()
            self.world.finish_erasures()
            check(self.world)
            # An operator redrives once the leases of killed workers have expired.
            self.world.pass_time(VISIBILITY_S)
            self.world.redrive()
            self.world.work_off()
            assert not self.world.dead
            check(self.world, is_final=True)
        finally:
            self.world.end()


@pytest.mark.timeout(0 if LONG_RUN_STEPS else 600)
@pytest.mark.parametrize("steps", [LONG_RUN_STEPS] if LONG_RUN_STEPS else [1000, SLOW_STEPS])
def test_any_order_of_steps_leaves_one_right_result_for_each_recording(
    steps: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with forking_process(tmp_path_factory.mktemp("w")) as address:
        tally = Tally()
        Queue.shared = Shared(address, tally)
        run_state_machine_as_test(
            Queue,
            settings=settings(
                max_examples=steps // 15,
                stateful_step_count=MAX_STEPS,
                derandomize=not LONG_RUN_STEPS,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                # Without shrinking, which takes hours and leaves a long example.
                phases=[Phase.generate],
            ),
        )
    sys.stdout.write(f"{tally}\n")
    assert tally.steps >= steps
    assert tally.kills >= steps / 50
    assert tally.removals > 0
    assert tally.erasures > 0
    if steps < 5000:
        return  # a short run may miss a rare fault
    # One removal in about 170 steps is usual.
    assert tally.removals >= steps / 400
    assert tally.erasures >= steps / 200
    assert set(tally.setups) == {setup.name for setup in SETUPS}
    assert set(tally.faults) == set(FAULTS)
    assert tally.dead_letters >= 20
    # Most dead letters have a result. A larger share of exceptions would hide lost results.
    assert tally.excused < tally.dead_letters / 4
    assert tally.delays >= steps / 100
    assert tally.continued >= steps / 50
    assert tally.right_failures > 0
    assert tally.folder_markers > 0
    assert tally.tasks["Succeeded"] > tally.tasks["TemporaryFailure"] > 0


OPERATIONS = st.one_of(
    st.fixed_dictionaries(
        {"operation": st.just("put_object"), "Body": st.sampled_from([b"a", b"b"])},
        optional={"IfMatch": st.sampled_from([b"a", b"b"]), "Metadata": st.just({"state": "done"})},
    ),
    st.just({"operation": "put_object", "Body": b"c", "IfNoneMatch": "*"}),
    st.fixed_dictionaries(
        {"operation": st.sampled_from(["delete_object", "get_object"])},
        optional={"IfMatch": st.sampled_from([b"a", b"b"])},
    ),
    st.fixed_dictionaries({"operation": st.just("delete_object"), "VersionId": st.integers(0, 3)}),
    st.just({"operation": "list_object_versions"}),
    st.fixed_dictionaries({"operation": st.just("get_object"), "VersionId": st.integers(0, 3)}),
    st.just({"operation": "head_object"}),
)


@pytest.fixture
def moto_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], "S3Client"]]:
    """A function that empties moto's S3 and returns a client."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")

        def emptied() -> "S3Client":
            for backend in s3_backends[DEFAULT_ACCOUNT_ID].values():
                backend.reset()
            return client

        yield emptied


@pytest.mark.parametrize("versioned", [True, False])
def test_the_s3_in_memory_answers_like_moto(moto_s3: Callable[[], "S3Client"], versioned: bool) -> None:
    @settings(max_examples=40, derandomize=True, database=None, deadline=None)
    @given(st.lists(OPERATIONS, min_size=2, max_size=12))
    def answers_agree(operations: list[dict[str, Any]]) -> None:
        clients: list[Any] = [moto_s3(), MemoryS3()]
        for client in clients:
            client.create_bucket(Bucket="bucket")
            if versioned:
                client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        histories: list[list[Any]] = [_answers(client, operations) for client in clients]
        assert histories[0] == histories[1]

    answers_agree()


def _answers(client: Any, operations: list[dict[str, Any]]) -> list[Any]:
    """Return a client's answers, with versions numbered in order of appearance."""
    answers: list[Any] = []
    versions: list[str] = []
    for described in operations:
        request = {name: value for name, value in described.items() if name != "operation"}
        if isinstance(request.get("IfMatch"), bytes):
            request["IfMatch"] = f'"{hashlib.md5(request["IfMatch"]).hexdigest()}"'
        if "VersionId" in request and not versions:
            continue
        if "VersionId" in request:
            request["VersionId"] = versions[request["VersionId"] % len(versions)]
        try:
            if described["operation"] == "list_object_versions":
                answers.append(_listed(client.list_object_versions(Bucket="bucket", Prefix="k"), versions))
                continue
            answer = getattr(client, described["operation"])(Bucket="bucket", Key="key", **request)
        except ClientError as error:
            answers.append((error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]))
            continue
        if described["operation"] == "delete_object":
            answers.append("deleted")
            continue
        if answer.get("VersionId") and answer["VersionId"] not in versions:
            versions.append(answer["VersionId"])
        version = versions.index(answer["VersionId"]) if answer.get("VersionId") else None
        body = answer["Body"].read() if "Body" in answer else None
        metadata = answer.get("Metadata") or None
        answers.append((answer["ETag"], version, body, metadata, answer.get("ContentLength") if body else None))
    return answers


def _listed(answer: Any, versions: list[str]) -> list[Any]:
    """Return the versions of a listing, numbered as in `_answers`.

    Delete markers are left out: S3 stores one for an absent key, and moto does not.
    """
    listed = [(item["Key"], item["VersionId"], item["IsLatest"], item["Size"]) for item in answer.get("Versions", [])]
    return [(key, versions.index(name) if name in versions else -1, *rest) for key, name, *rest in listed]
