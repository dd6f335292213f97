"""Any order of uploads, deliveries and crashes leaves one right result for each recording.

Hypothesis decides what happens next: who uploads, overwrites or deletes what, which message is handed out, twice or
late, which worker makes its next call, what goes wrong with that, and who is killed (really: SIGKILL) before or after
it. Whenever the queue is empty, each living key has the result of its newest version, or a dead letter and a result
that says so; and nothing was classified twice but after a kill or a fault.

A longer run with a seed of its own, as docs/reliability.md reports:

    QUEUE_MODEL_EXAMPLES=1000 pytest tests/integration/test_queue_model.py --hypothesis-seed=1 -s
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import boto3
import pytest
from hypothesis import HealthCheck, Phase, settings
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

from tests.reliability.world import SETUPS, TIMEOUT_S, VISIBILITY_S, Setup, Tally, World, forking_process

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STEPS = 50
EXAMPLES = int(os.environ.get("QUEUE_MODEL_EXAMPLES", "0"))

KEYS = ("a.wav", "b/ü +.wav")
CONTENTS = (b"first", b"second", b"third")
FAULTS = ("lost", "timeout", "SlowDown", "ConditionalRequestConflict", "ExpiredToken")
ENDINGS = ("none", "none", "none", "killed before", "killed after", *FAULTS)
MOST_WORKERS = 3

anyone = st.integers(0, 5)
"""One of those that there are, whoever that is by then."""


class Queue(RuleBasedStateMachine):
    """What can happen."""

    s3: ClassVar["S3Client"]
    workers_at: ClassVar[str]
    tally: ClassVar[Tally]
    setups: ClassVar[list[Setup]] = SETUPS

    world: World

    @initialize(setup=st.sampled_from(SETUPS), max_receive_count=st.integers(1, 3))
    def set_up(self, setup: Setup, max_receive_count: int) -> None:
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        for backend in s3_backends[DEFAULT_ACCOUNT_ID].values():
            backend.reset()
        self.world = World(self.s3, self.workers_at, setup, max_receive_count, self.tally)
        self.tally.examples += 1

    def pick(self, among: list[Any], number: int) -> Any:
        return among[number % len(among)]

    # ------------------------------------------------------------------------------------- what people do

    @rule(key=st.sampled_from(KEYS), content=st.sampled_from(CONTENTS))
    def upload(self, key: str, content: bytes) -> None:
        self.world.upload(key, content)

    @precondition(lambda self: self.world.newest)
    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        self.world.delete(key)

    @precondition(lambda self: self.world.dead)
    @rule()
    def redrive(self) -> None:
        self.world.redrive()

    # ------------------------------------------------------------------------------------- what the queue does

    @precondition(lambda self: self.world.events)
    @rule(number=anyone)
    def deliver_a_duplicate(self, number: int) -> None:
        self.world.send(self.pick(self.world.events, number))

    @precondition(lambda self: self.world.visible and len(self.world.busy) < MOST_WORKERS)
    @rule(number=anyone, batch=st.sampled_from([1, 1, 1, 2]))
    def hand_out(self, number: int, batch: int) -> None:
        visible = self.world.visible
        start = number % len(visible)
        self.world.receive(visible[start : start + batch])

    @precondition(lambda self: self.world.queue)
    @rule(seconds=st.sampled_from([1.0, TIMEOUT_S / 2, TIMEOUT_S + 1, VISIBILITY_S]))
    def let_time_pass(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    # ------------------------------------------------------------------------------------- what workers do

    # One rule, not one for each: Hypothesis leaves some rules out of each run, and these belong together.
    @precondition(lambda self: self.world.busy)
    @rule(number=anyone, calls=st.integers(0, 6), ending=st.sampled_from(ENDINGS))
    def move(self, number: int, calls: int, ending: str) -> None:
        worker = self.pick(self.world.busy, number)
        for _ in range(calls):
            if worker.is_busy:
                self.world.advance(worker)
        if not worker.is_busy or ending == "none":
            return
        if ending.startswith("killed"):
            self.world.kill(worker, after_call=ending == "killed after")
        else:
            self.world.fail(worker, ending)

    @precondition(lambda self: not self.world.is_quiet)
    @rule()
    def work_off(self) -> None:
        self.world.work_off()

    # ------------------------------------------------------------------------------------- what must hold

    @invariant()
    def every_recording_has_its_result(self) -> None:
        self.tally.steps += 1
        if self.world.is_quiet:
            self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.work_off()
            self.world.check()
            self.world.redrive()
            self.world.work_off()
            if not self.world.dead:
                self.world.check(is_final=True)
        finally:
            self.world.end()


@pytest.fixture
def queue(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Queue]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    folder: Path = tmp_path_factory.mktemp("w")
    with forking_process(folder) as address, mock_aws():
        Queue.s3, Queue.workers_at, Queue.tally = boto3.client("s3"), address, Tally()
        yield Queue


@pytest.mark.timeout(0 if EXAMPLES else 600)
def test_whatever_happens_each_recording_has_one_right_result(queue: type[Queue]) -> None:
    run_state_machine_as_test(
        queue,
        settings=settings(
            max_examples=EXAMPLES or 60,
            stateful_step_count=STEPS,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
    sys.stdout.write(f"{queue.tally}\n")
    assert queue.tally.steps >= (EXAMPLES * STEPS if EXAMPLES else 2000)
    assert queue.tally.kills > 0
    assert queue.tally.dead_letters > 0
