"""Every call of a delivery fails once with every fault, and the result is still correct.

A clean delivery is recorded first. Then a proxy in front of moto's S3 and SQS injects each fault that makes sense into
each call, and the function processes the queue as in Lambda. The tests assert the number of cases, so they fail
if a call or a fault is left out.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.retries.standard import ExponentialBackoff

from core.delivery import Delivery
from core.delivery.queue import UploadQueue
from core.delivery.report_pages import page_key_for
from core.delivery.storage import Storage, s3_client
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, StackOptions, running_stack
from core.local.workers import EventSourceMapping
from core.report import render
from core.results import Result
from core.settings import FunctionSettings, StorageSettings, read
from tests.integration.conftest import Clock
from tests.support.faults.fault_proxy import Call, Fault, FaultyEndpoint, Plan, faulty, random_plan
from tests.support.quick_pipeline import LONG, QuickPipeline, is_right

CONTENT = b"the recording, " * 2000
OTHER_CONTENT = b"another recording, " * 2000

SHORT_READ_TIMEOUT_S = 0.5
"""Read timeout for faults without an answer. Other faults get a longer one."""

MAX_POLLS = 40
"""Five deliveries, a redrive, some messages that are lost before they reach the function, and the time between them."""

STEP_S = 10.0
"""The clock advances by this time when no message is visible."""
FUNCTION_TIMEOUT_S = 20.0
VISIBILITY_S = 120


@dataclass
class World:
    """A stack behind a proxy, whose queue the real handler processes."""

    stack: Stack
    proxy: FaultyEndpoint
    mapping: EventSourceMapping
    settings: FunctionSettings
    connect: Callable[[float], EventSourceMapping]
    advance: Callable[[float], None]
    uploaded: int = 0
    waited_s: float = 0.0
    classified: list[bytes] = field(default_factory=list)

    def set_read_timeout(self, read_timeout_s: float) -> None:
        """Connect clients with another read timeout."""
        self.mapping = self.connect(read_timeout_s)

    def upload(self, content: bytes = CONTENT) -> str:
        """Upload a recording under a new key, not through the proxy."""
        self.uploaded += 1
        key = f"calls/{self.uploaded}.wav"
        self.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=content)
        return key

    def with_plan(self, plan: Plan, work: Callable[[], None]) -> None:
        """Call a function while calls fail."""
        self.proxy.calls.clear()
        self.proxy.plan = plan
        work()
        self.proxy.plan = lambda _: None

    def process_queue(self, max_polls: int = MAX_POLLS) -> None:
        """Poll until the queue is empty, and let time pass while every message is hidden."""
        for _ in range(max_polls):
            if self.mapping.poll(wait_s=0):
                continue
            if not self.messages(self.stack.queue_url):
                return
            self.advance(STEP_S)
            self.waited_s += STEP_S
        raise AssertionError("the queue does not become empty")

    def messages(self, queue_url: str) -> int:
        names: list[Any] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.stack.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))

    def expire_leases(self) -> None:
        """Delete the leases that killed deliveries left, as if time had passed."""
        for item in self.stack.s3.list_objects_v2(Bucket=RESULTS_BUCKET, Prefix="claims/").get("Contents", []):
            self.stack.s3.delete_object(Bucket=RESULTS_BUCKET, Key=item["Key"])

    def redrive(self) -> None:
        """Move the dead letters back to the queue, as an operator does."""
        url = self.stack.dead_letter_queue_url
        while messages := self.stack.sqs.receive_message(QueueUrl=url, VisibilityTimeout=60).get("Messages"):
            for message in messages:
                self.stack.sqs.send_message(QueueUrl=self.stack.queue_url, MessageBody=message["Body"])
                self.stack.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def result(self, key: str) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = json.loads(self.stack.result(f"results/{key}.json"))
        except self.stack.s3.exceptions.NoSuchKey:
            return None
        return document

    def check(self, key: str, content: bytes) -> None:
        """Check that the result is right, or `given_up` with a dead letter and right after a redrive."""
        if self.stack.dead_letters():
            document = self.result(key)
            assert document is not None, "a dead letter without a result"
            assert is_right(document, content) or document["error"]["code"] == "given_up"
            self.redrive()
            self.process_queue()
        document = self.result(key)
        assert document is not None
        assert is_right(document, content), document
        newest = self.stack.s3.head_object(Bucket=UPLOADS_BUCKET, Key=key)["VersionId"]
        assert document["source"]["version_id"] == newest
        if self.settings.reports == "html":
            page = self.stack.result(page_key_for(f"results/{key}.json"))
            assert page.decode() == render(Result.model_validate(document))


@dataclass(frozen=True)
class Setting:
    """A configuration of the function.

    Attributes
    ----------
    calls, faults, overwrites
        The number of calls of a clean delivery, of faults injected, and of overwrites and deletions before a call.
    """

    name: str
    calls: int
    faults: int
    overwrites: int = 0
    reports: str = "none"
    content: bytes = CONTENT
    leases_prefix: str = "claims/"
    max_receive_count: int = 5

    def faults_for(self, call: Call) -> list[Fault]:
        """Return the faults of a call: all for the default setting and for reports, otherwise one of each class."""
        is_for_page = call.path.endswith(".html") or (call.method == "GET" and call.path.endswith(".json"))
        is_new = call.path.endswith(".progress") or call.operation == "SendMessage"
        everything = self == PLAIN or is_for_page or is_new
        return [fault for fault in (Fault if everything else ONE_OF_EACH_CLASS) if call.can_suffer(fault)]


PLAIN = Setting("as deployed", calls=9, faults=89, overwrites=16)
LAST = Setting("on the last delivery", calls=10, faults=40, overwrites=18, max_receive_count=1)
WITH_REPORTS = Setting("with reports", calls=12, faults=71, reports="html")
CONTINUED = Setting("in several invocations", calls=35, faults=214, content=LONG + CONTENT)
WITHOUT_LEASES = Setting("without leases", calls=6, faults=25, leases_prefix="")
SETTINGS = [
    pytest.param(setting, id=setting.name, marks=() if setting == PLAIN else pytest.mark.slow)
    for setting in (PLAIN, LAST, WITH_REPORTS, WITHOUT_LEASES, CONTINUED)
]

ONE_OF_EACH_CLASS = (
    Fault.RESET,  # stands for a timeout, a 500 or a 503 before the call was carried out
    Fault.LOST_RESET,  # stands for a timeout after the call was carried out
    Fault.EXPIRED,  # stands for any refusal
    Fault.CONFLICT,  # stands for a 412, too
    Fault.NOT_FOUND,
    Fault.TRUNCATED,
    Fault.SLOW,
)


@pytest.fixture
def build(
    aws_server: str, monkeypatch: pytest.MonkeyPatch, clock: Clock, advance_queue_time: Callable[[float], None]
) -> Iterator[Callable[..., World]]:
    """Return a function that builds a world for a setting."""
    from contextlib import ExitStack

    import handlers.processing
    import handlers.s3_upload

    # No back-off between two attempts of a call, which takes up to a second.
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0.0)

    def advance(seconds: float) -> None:
        clock.advance(seconds)
        advance_queue_time(seconds)

    with ExitStack() as cleanup:

        def make(setting: Setting, *, attempts: int = 1) -> World:
            options = StackOptions(FUNCTION_TIMEOUT_S, VISIBILITY_S, setting.max_receive_count)
            stack = cleanup.enter_context(running_stack(options, aws_server))
            # A lease must expire with the function's timeout.
            monkeypatch.setenv("DEADLINE_MARGIN_S", str(options.function_timeout_s / 4))
            proxy = cleanup.enter_context(faulty(stack.endpoint, slow_s=0.3))
            for name, value in stack.environment(Path("unused")).items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
            monkeypatch.setenv("LEASES_PREFIX", setting.leases_prefix)
            monkeypatch.setenv("REPORTS", setting.reports)
            settings = read(FunctionSettings)
            classified: list[bytes] = []

            def connect(read_timeout_s: float) -> EventSourceMapping:
                client = s3_client(StorageSettings(s3_read_timeout_s=read_timeout_s, s3_attempts=attempts))
                retries: Any = {"mode": "standard", "total_max_attempts": 1}
                sqs = boto3.client("sqs", config=Config(read_timeout=read_timeout_s, retries=retries))
                queue = UploadQueue(stack.queue_url, sqs)
                delivery = Delivery(Storage(client), QuickPipeline(classified.append), settings, queue)
                monkeypatch.setattr(handlers.processing, "delivery", lambda: delivery)
                monkeypatch.setattr(handlers.processing, "queue", lambda _: queue)
                return EventSourceMapping(sqs, stack.queue_url, handlers.s3_upload.handler, options)

            world = World(stack, proxy, connect(10.0), settings, connect, advance, classified=classified)
            world.process_queue()  # S3's test event
            return world

        yield make


def recorded(world: World, content: bytes = CONTENT) -> list[Call]:
    """Return the calls of all deliveries of a recording without faults."""
    key = world.upload(content)
    world.with_plan(lambda _: None, world.process_queue)
    calls = list(world.proxy.calls)
    world.check(key, content)
    # The poll after the last DeleteMessage finds the queue empty.
    last = max(number for number, call in enumerate(calls) if call.operation == "DeleteMessage")
    return calls[: last + 1]


def at(number: int, fault: Fault) -> Plan:
    return lambda call: fault if call.number == number else None


def reaches_the_function(call: Call) -> bool:
    """Return whether a call happens during the invocation. A message lost before it was received is a lost delivery."""
    return call.operation != "ReceiveMessage"


@contextmanager
def case(what: str) -> Iterator[None]:
    """Add the name of a case to its failure."""
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise


@pytest.mark.timeout(1200)  # a minute, unless the machine is busy
@pytest.mark.parametrize("setting", SETTINGS)
def test_each_call_may_fail_once_with_each_fault(build: Callable[..., World], setting: Setting) -> None:
    world = build(setting)
    made = recorded(world, setting.content)
    calls = made if setting != LAST else filter(reaches_the_function, made)
    cases = [(call, fault) for call in calls for fault in setting.faults_for(call)]
    timeouts = (Fault.TIMEOUT, Fault.LOST_TIMEOUT)
    for read_timeout_s, are_timeouts in ((10.0, False), (SHORT_READ_TIMEOUT_S, True)):
        world.set_read_timeout(read_timeout_s)
        for call, fault in cases:
            if (fault in timeouts) is not are_timeouts:
                continue
            with case(f"{call.operation} {call.path}: {fault}"):
                key = world.upload(setting.content)
                world.with_plan(at(call.number, fault), world.process_queue)
                world.check(key, setting.content)
    assert world.proxy.injected.total() == len(cases)
    assert (len(made), len(cases)) == (setting.calls, setting.faults)
    assert set(world.proxy.injected) >= set(Fault if setting == PLAIN else ONE_OF_EACH_CLASS)


@pytest.mark.timeout(600)
def test_the_call_that_sets_a_retry_may_fail_with_each_fault(build: Callable[..., World]) -> None:
    world = build(PLAIN)
    download = next(call.number for call in recorded(world) if call.method == "GET")
    kinds = [fault for fault in Fault if Call(1, "POST", "/", {"x-amz-target": "x"}).can_suffer(fault)]
    assert len(kinds) == 8
    for fault in (None, *kinds):
        is_timeout = fault in (Fault.TIMEOUT, Fault.LOST_TIMEOUT)
        world.set_read_timeout(SHORT_READ_TIMEOUT_S if is_timeout else 10.0)

        def plan(call: Call, fault: Fault | None = fault) -> Fault | None:
            if call.operation == "ChangeMessageVisibility":
                return fault
            return Fault.RESET if call.number == download else None

        with case(str(fault)):
            world.waited_s = 0.0
            world.classified.clear()
            key = world.upload()
            world.with_plan(plan, world.process_queue)
            made = [call.operation for call in world.proxy.calls]
            assert made.count("ChangeMessageVisibility") == 1
            is_set = fault in (None, Fault.LOST_TIMEOUT, Fault.LOST_RESET)
            assert (world.waited_s < VISIBILITY_S) is is_set
            world.check(key, CONTENT)
            assert world.classified == [CONTENT]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("setting", SETTINGS[:2])
def test_a_recording_may_be_overwritten_or_deleted_before_each_call(
    build: Callable[..., World], setting: Setting
) -> None:
    world = build(setting)
    calls = list(filter(reaches_the_function, recorded(world)))
    assert 2 * len(calls) == setting.overwrites
    for call in calls:
        for deleted in (False, True):
            key = world.upload()

            def change_upload(made: Call, number: int = call.number, key: str = key, deleted: bool = deleted) -> None:
                if made.number == number and deleted:
                    world.stack.s3.delete_object(Bucket=UPLOADS_BUCKET, Key=key)
                elif made.number == number:
                    world.stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=OTHER_CONTENT)

            world.with_plan(change_upload, world.process_queue)
            if not deleted:
                world.check(key, OTHER_CONTENT)
            else:
                assert world.stack.dead_letters() == 0
                document = world.result(key)
                assert document is None or is_right(document, CONTENT)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("setting", SETTINGS)
def test_calls_may_fail_at_random(build: Callable[..., World], setting: Setting) -> None:
    world = build(setting, attempts=2)
    contents = {world.upload(content): content for content in (setting.content, OTHER_CONTENT) * 5}
    world.with_plan(
        random_plan(seed=5, rate=0.1, kinds=set(Fault) - {Fault.TIMEOUT, Fault.LOST_TIMEOUT}),
        lambda: world.process_queue(max_polls=200),
    )
    assert len(world.proxy.injected) >= 4
    # Deliveries that could not release their lease blocked others, which are in the dead-letter queue.
    world.expire_leases()
    world.redrive()
    world.process_queue(max_polls=50)
    for key, content in contents.items():
        world.check(key, content)
