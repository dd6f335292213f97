"""Any order of uploads, deliveries and crashes leaves one right result for each recording.

Hypothesis decides what happens next: who uploads, overwrites or deletes what, which message is handed out, twice or
late, which worker makes its next call, what goes wrong with that, and who is killed (really: SIGKILL) before or after
it. Whenever the queue is empty, each living key has the result of its newest version, or a dead letter and a result
that says so; and nothing was classified twice but after a kill or a fault.

S3 is one in memory, which a test below holds to moto's. A longer run, as docs/reliability.md reports one, has a seed:

    QUEUE_MODEL_STEPS=50000 pytest tests/integration/test_queue_model.py -k whatever --hypothesis-seed=1 -s
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
from tests.support.quick_pipeline import DAMAGED

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_STEPS = 50
"""In one example. Most examples have more than 20 steps."""

SLOW_STEPS = pytest.param(5000, marks=pytest.mark.slow)
LONG_RUN_STEPS = int(os.environ.get("QUEUE_MODEL_STEPS", "0"))

KEYS = ("a.wav", "b/ü +.wav", "c/")
CONTENTS = (b"first", b"second", DAMAGED, b"")
"""Nothing at all is a folder marker under the last key, which is no recording; under another it is an empty one."""
FAULTS = ("lost", "timeout", "SlowDown", "ConditionalRequestConflict", "ExpiredToken")
ENDINGS = (*["none"] * 5, "killed before", "killed after", *FAULTS)
MAX_WORKERS = 3
MAX_MESSAGES = 4
"""Beyond that, work goes on before more is uploaded: a step at which nobody is at work shows nothing."""

anyone = st.integers(0, 5)
"""One of those that there are, whoever that is by then."""


@dataclass(frozen=True)
class Shared:
    """What all runs of the machine share. Hypothesis makes the machines, so it has to stand on their class."""

    workers_at: str
    tally: Tally


class Queue(RuleBasedStateMachine):
    """What can happen."""

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

    # ------------------------------------------------------------------------------------- what people do

    @precondition(lambda self: len(self.world.queue) < MAX_MESSAGES)
    @rule(key=st.sampled_from(KEYS), content=st.sampled_from(CONTENTS), chance=st.integers(0, 2**32))
    def upload(self, key: str, content: bytes, chance: int) -> None:
        """Most often; what is deleted has nothing to be checked."""
        if self.world.newest.get(key) and random.Random(chance).random() < 0.2:
            self.world.delete(key)
        else:
            self.world.upload(key, content)

    @precondition(lambda self: self.world.contents and len(self.world.busy) < MAX_WORKERS)
    @rule(number=anyone, names_version=st.booleans())
    def backfill(self, number: int, names_version: bool) -> None:
        """Of what there is or was: a job's list may be old."""
        key, version_id = self.pick(list(self.world.contents), number)
        self.world.backfill(key, version_id if names_version and self.world.setup.versioned else None)

    @precondition(lambda self: self.world.dead)
    @rule()
    def redrive(self) -> None:
        self.world.redrive()

    # ------------------------------------------------------------------------------------- what the queue does

    @precondition(lambda self: self.world.events and len(self.world.queue) < MAX_MESSAGES)
    @rule(number=anyone)
    def deliver_a_duplicate(self, number: int) -> None:
        self.world.send(self.pick(self.world.events, number))

    @precondition(lambda self: self.can_hand_out)
    @rule(number=anyone, batch=st.sampled_from([1, 1, 1, 2]))
    def hand_out(self, number: int, batch: int) -> None:
        visible = self.world.visible
        start = number % len(visible)
        self.world.receive(visible[start : start + batch])

    @property
    def can_hand_out(self) -> bool:
        return bool(self.world.visible) and len(self.world.busy) < MAX_WORKERS

    @precondition(lambda self: self.world.queue)
    @rule(seconds=st.sampled_from([1.0, TIMEOUT_S / 3, VISIBILITY_S]))
    def let_time_pass(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    # ------------------------------------------------------------------------------------- what workers do

    # One rule, and one number to draw from: Hypothesis leaves some rules out of each run and likes the first of several
    # values, and then nobody would ever be killed while two others are at work.
    @precondition(lambda self: self.world.busy or self.can_hand_out)
    @rule(chance=st.integers(0, 2**32))
    def move(self, chance: int) -> None:
        draw = random.Random(chance)
        for _ in range(draw.randint(1, 4)):
            if self.can_hand_out and (not self.world.busy or draw.random() < 0.3):
                self.world.receive([draw.choice(self.world.visible)])
            if self.world.busy:
                self.move_one(draw.choice(self.world.busy), draw.randrange(8), draw.choice(ENDINGS))

    def move_one(self, worker: Worker, calls: int, ending: str) -> None:
        """Let somebody make some calls, and then see what becomes of the next one."""
        # Only a write can meet another one.
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
        """Somebody uploads anew, or deletes, what is being worked on; as a rule, the newer one is done first."""
        draw = random.Random(chance)
        key = draw.choice(self.world.busy).about[0]
        what = draw.choice(["overwrite", "overwrite", "overwrite", "delete", "replace"])
        if what != "overwrite":
            self.world.delete(key)
        if what == "delete":
            return
        self.world.upload(key, draw.choice(CONTENTS))
        if self.can_hand_out and draw.random() < 0.8:
            worker = self.world.receive(self.world.queue[-1:])
            while worker and worker.is_busy:
                self.world.advance(worker)

    @precondition(lambda self: not self.world.is_quiet)
    @rule(chance=st.integers(0, 2**32))
    def work_off(self, chance: int) -> None:
        self.world.work_off(random.Random(chance), MAX_WORKERS)

    # ------------------------------------------------------------------------------------- what must hold

    @invariant()
    def every_recording_has_its_result(self) -> None:
        self.shared.tally.steps += 1
        if self.world.is_quiet:
            check(self.world)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.work_off()
            check(self.world)
            # Later, when the claims of those that were killed have expired, an operator redrives.
            self.world.pass_time(VISIBILITY_S)
            self.world.redrive()
            self.world.work_off()
            assert not self.world.dead
            check(self.world, is_final=True)
        finally:
            self.world.end()


@pytest.mark.timeout(0 if LONG_RUN_STEPS else 600)
@pytest.mark.parametrize("steps", [LONG_RUN_STEPS] if LONG_RUN_STEPS else [1000, SLOW_STEPS])
def test_whatever_happens_each_recording_has_one_right_result(
    steps: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with forking_process(tmp_path_factory.mktemp("w")) as address:
        tally = Tally()
        Queue.shared = Shared(address, tally)
        run_state_machine_as_test(
            Queue,
            settings=settings(
                max_examples=steps // 20,
                stateful_step_count=MAX_STEPS,
                derandomize=not LONG_RUN_STEPS,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                # What fails is long however it is shortened, and shortening it takes hours.
                phases=[Phase.generate],
            ),
        )
    sys.stdout.write(f"{tally}\n")
    assert tally.steps >= steps
    assert tally.kills >= steps / 50
    if steps < 5000:
        return  # a short run may miss a rare fault
    assert set(tally.setups) == {setup.name for setup in SETUPS}
    assert set(tally.faults) == set(FAULTS)
    assert tally.dead_letters >= 20
    # Most dead letters have a result. A larger share of exceptions would hide lost results.
    assert tally.excused < tally.dead_letters / 4
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
    st.fixed_dictionaries({"operation": st.just("get_object"), "VersionId": st.integers(0, 3)}),
    st.just({"operation": "head_object"}),
)


@pytest.fixture
def moto_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], "S3Client"]]:
    """A function that empties moto's S3 and gives a client for it."""
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
def test_the_s3_in_memory_answers_as_moto_does(moto_s3: Callable[[], "S3Client"], versioned: bool) -> None:
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
    """What a client answers, with versions numbered in the order in which they appear."""
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
