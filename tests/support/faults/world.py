"""S3, a queue and the workers of a function, driven one step at a time by a simulated clock.

S3 is the client that a test passes in. The queue is simulated, because its time must stand still between two steps: it
delivers at least once and in any order, lets the function set when a message is visible again, and has a visibility
timeout and a dead-letter queue. The workers are processes that are killed with SIGKILL.
"""

import json
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, unquote_plus

from botocore.exceptions import ClientError

from core.delivery.keys import result_key_for
from core.operations.deployed_stack import DeployedStack
from core.operations.forget import Recording, Scope, delete_derived, delete_versions, find_recordings
from tests.support.quick_pipeline import PART

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPLOADS, RESULTS = "uploads", "results"
PREFIX = "results/"
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/000000000000/uploads"
TIMEOUT_S = 60.0
VISIBILITY_S = 6 * TIMEOUT_S

STACK = DeployedStack(
    name="model",
    uploads_bucket=UPLOADS,
    results_bucket=RESULTS,
    results_prefix=PREFIX,
    queue_url="",
    dead_letter_queue_url="",
    dead_letter_queue_arn="",
    backfill_version_arn="",
    batch_operations_role_arn="",
    memory_size_mb=3008,
    timeout_s=60,
    backfill_concurrency=0,
    log_retention_days=30,
)

Identity = tuple[str, str]
"""Key and version, or key and ETag in a bucket without versions."""

Part = tuple[Identity, int]
"""A part of a recording that takes several invocations; part 0 of another one."""


@dataclass(frozen=True)
class Setup:
    """The configuration of the buckets, the events and the function.

    Attributes
    ----------
    ids, sequencers
        Whether events name the version and the sequencer.
    """

    name: str
    versioned: bool = True
    ids: bool = True
    sequencers: bool = True
    leases: bool = True
    reports: bool = False
    deletes: bool = False

    def environment(self, max_receive_count: int) -> dict[str, str]:
        """The function's environment."""
        return {
            "RESULTS_BUCKET": RESULTS,
            "RESULTS_PREFIX": PREFIX,
            "LEASES_PREFIX": "claims/" if self.leases else "",
            "REPORTS": "html" if self.reports else "none",
            "DELETE_RESULTS": str(self.deletes).lower(),
            "QUEUE_URL": QUEUE_URL,
            "MAX_RECEIVE_COUNT": str(max_receive_count),
        }


SETUPS = [
    Setup("as deployed"),
    Setup("with reports", reports=True),
    Setup("without leases", leases=False),
    Setup("events without sequencers", sequencers=False),
    Setup("events with ETags only", ids=False, sequencers=False),
    Setup("no versions", versioned=False, ids=False),
    Setup("no versions, no sequencers", versioned=False, ids=False, sequencers=False),
    Setup("with deletions", reports=True, deletes=True),
    Setup("with deletions, without leases", leases=False, deletes=True),
    Setup("with deletions, no versions", versioned=False, ids=False, sequencers=False, deletes=True),
]


@dataclass(eq=False)
class Message:
    """A message of the queue."""

    body: dict[str, Any]
    receive_count: int = 0
    visible_at_s: float = 0.0
    attributes: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    excused: bool = False
    """Whether its last delivery was killed, or failed in more than one call, before it could store a result."""

    @property
    def receipt_handle(self) -> str:
        """The handle of its last receipt, with which the function names the message."""
        return f"{self.number}:{self.receive_count}"

    @property
    def key(self) -> str:
        """The key of its recording."""
        return unquote_plus(self.body["Records"][0]["s3"]["object"]["key"])


@dataclass(eq=False)
class Worker:
    """A process of the function, which waits for the driver before each step.

    Attributes
    ----------
    messages
        The messages that the queue delivered to it, with the handles of their receipts; none if a backfill invoked it.
    about
        The keys of the recordings that it processes; none if it is idle.
    waits_for
        Its next step: `("call", operation, request)`, or `("inference", content)`.
    classified
        The recordings that it has classified since its last failed call.
    results_written
        The keys of the results that it has stored.
    """

    pid: int
    line: Connection
    messages: list[tuple[Message, str]] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    waits_for: tuple[Any, ...] = ()
    ends_at_s: float = 0.0
    reading: Identity | None = None
    classified: list[Part] = field(default_factory=list)
    results_written: set[str] = field(default_factory=set)
    hurt: int = 0

    @property
    def is_busy(self) -> bool:
        return bool(self.about)

    @property
    def is_writing(self) -> bool:
        """Whether its next call is a write. All writes are conditional."""
        return self.waits_for[:2] == ("call", "put_object")

    @property
    def held(self) -> list[Message]:
        """Its messages that were not delivered to another worker meanwhile."""
        return [message for message, handle in self.messages if message.receipt_handle == handle]


@dataclass
class Tally:
    """Counts of the steps and events of all runs."""

    steps: int = 0
    examples: int = 0
    calls: int = 0
    delays: int = 0
    continued: int = 0
    deliveries: int = 0
    inferences: int = 0
    kills: int = 0
    removals: int = 0
    erasures: int = 0
    dead_letters: int = 0
    excused: int = 0
    quiet: int = 0
    right_failures: int = 0
    folder_markers: int = 0
    setups: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)


class World:
    """The state that a step can change."""

    def __init__(self, s3: "S3Client", workers_at: str, setup: Setup, max_receive_count: int, tally: Tally) -> None:
        self.s3, self.setup, self.max_receive_count, self.tally = s3, setup, max_receive_count, tally
        self._workers_at = workers_at
        tally.setups[setup.name] += 1
        self.now_s = 1_000_000.0
        self.queue: list[Message] = []
        self.dead: list[Message] = []
        self.workers: list[Worker] = []
        self.events: list[dict[str, Any]] = []
        self.contents: dict[Identity, bytes] = {}
        self.inferences: Counter[Part] = Counter()
        self.excuses: Counter[Part] = Counter()
        self.newest: dict[str, Identity | None] = {}
        self.done: dict[str, Identity | None] = {}
        self._uploaded: dict[int, Identity] = {}
        self.forgetting: list[Recording] = []
        self.forgotten: set[str] = set()
        self.failed_backfills: set[str] = set()
        self.is_checked = False
        self._sent = 0
        status: Any = {"Status": "Enabled"}
        s3.create_bucket(Bucket=RESULTS)
        s3.put_bucket_versioning(Bucket=RESULTS, VersioningConfiguration=status)
        s3.create_bucket(Bucket=UPLOADS)
        if setup.versioned:
            s3.put_bucket_versioning(Bucket=UPLOADS, VersioningConfiguration=status)

    # ------------------------------------------------------------------------------------------ uploads

    def upload(self, key: str, content: bytes) -> None:
        """Upload a recording, and send its event."""
        if not self.setup.versioned:
            # Without versioning, equal bytes are the same upload (docs/reliability.md).
            content += b" %d" % len(self.events)
        answer = self.s3.put_object(Bucket=UPLOADS, Key=key, Body=content)
        etag = answer["ETag"].strip('"')
        about: dict[str, Any] = {"key": quote_plus(key, safe="/"), "eTag": etag, "size": len(content)}
        if self.setup.ids:
            about["versionId"] = answer["VersionId"]
        if self.setup.sequencers:
            about["sequencer"] = f"{len(self.events) + 1:016X}"
        identity = (key, answer.get("VersionId") or etag)
        self.contents[identity] = content
        self.newest[key] = identity
        self.forgotten.discard(key)
        self.is_checked = False
        s3 = {"bucket": {"name": UPLOADS}, "object": about}
        self.events.append({"eventSource": "aws:s3", "eventVersion": "2.4", "eventName": "ObjectCreated:Put", "s3": s3})
        self._uploaded[id(self.events[-1])] = identity
        self.send(self.events[-1])

    def upload_of(self, message: Message) -> Identity | None:
        """Return the upload that caused a message, which an event with only an ETag does not identify."""
        return self._uploaded.get(id(message.body["Records"][0]))

    def delete(self, key: str) -> None:
        """Delete a recording, which causes an event if the function deletes results."""
        self.newest[key] = None
        self.s3.delete_object(Bucket=UPLOADS, Key=key)
        self._send_removal(key)

    def _send_removal(self, key: str) -> None:
        self.is_checked = False
        if not self.setup.deletes:
            return
        s3 = {"bucket": {"name": UPLOADS}, "object": {"key": quote_plus(key, safe="/")}}
        self.events.append(
            {"eventSource": "aws:s3", "eventVersion": "2.4", "eventName": "ObjectRemoved:Delete", "s3": s3}
        )
        self.send(self.events[-1])

    def forget(self, key: str) -> None:
        """Begin the erasure of a recording: delete its uploads."""
        for recording in find_recordings(self.s3, STACK, Scope(frozenset([key]))):
            assert delete_versions(self.s3, recording.of_kind("upload")) == []
            self.forgetting.append(recording)
        self.newest[key] = None
        self._send_removal(key)

    def finish_erasures(self) -> None:
        """Finish the erasures of recordings of which no delivery is running."""
        for recording in list(self.forgetting):
            if any(recording.key in worker.about for worker in self.busy):
                continue
            assert delete_derived(self.s3, STACK, [recording]) == []
            self.forgetting.remove(recording)
            assert recording.key is not None
            if self.newest.get(recording.key) is None:
                self.forgotten.add(recording.key)
            self.tally.erasures += 1

    def send(self, event: dict[str, Any]) -> None:
        """Send a message about an upload to the queue. A second message is a duplicate."""
        self.is_checked = False
        self._send({"Records": [event]})

    def _send(self, body: dict[str, Any], attributes: dict[str, Any] | None = None) -> None:
        self._sent += 1
        self.queue.append(Message(body, attributes=attributes or {}, number=self._sent))

    def redrive(self) -> None:
        """Move the dead letters back to the queue, as new messages."""
        for message in self.dead:
            self._send(message.body, message.attributes)
        self.dead.clear()

    # --------------------------------------------------------------------------------------- the queue

    @property
    def visible(self) -> list[Message]:
        """The messages that can be received now."""
        return [message for message in self.queue if message.visible_at_s <= self.now_s]

    @property
    def busy(self) -> list[Worker]:
        """The workers that are processing an event."""
        return [worker for worker in self.workers if worker.is_busy]

    @property
    def is_quiet(self) -> bool:
        """Whether the queue is empty and every worker is idle."""
        return not self.queue and not self.busy

    def receive(self, messages: list[Message]) -> Worker | None:
        """Deliver messages to a worker, and move those that were delivered too often to the dead-letter queue."""
        taken = []
        for message in messages:
            if message.receive_count >= self.max_receive_count:
                self.queue.remove(message)
                self.dead.append(message)
                self.tally.dead_letters += 1
                continue
            message.receive_count += 1
            message.visible_at_s = self.now_s + VISIBILITY_S
            taken.append(message)
        self.tally.deliveries += len(taken)
        return self._deliver(taken) if taken else None

    def backfill(self, key: str, version_id: str | None) -> Worker:
        """Invoke the function as S3 Batch Operations does: once, for one object."""
        task = {"taskId": "1", "s3Bucket": UPLOADS, "s3Key": quote_plus(key, safe="/"), "s3VersionId": version_id}
        self.is_checked = False
        return self._begin({"invocationSchemaVersion": "2.0", "invocationId": "1", "tasks": [task]}, [], [key])

    def _deliver(self, messages: list[Message]) -> Worker:
        records = [
            {
                "messageId": str(index),
                "receiptHandle": message.receipt_handle,
                "eventSource": "aws:sqs",
                "body": json.dumps(message.body),
                "messageAttributes": message.attributes,
                "attributes": {"ApproximateReceiveCount": str(message.receive_count)},
            }
            for index, message in enumerate(messages)
        ]
        return self._begin({"Records": records}, messages, [message.key for message in messages])

    def _begin(self, event: dict[str, Any], messages: list[Message], about: list[str]) -> Worker:
        worker = next((worker for worker in self.workers if not worker.is_busy), None) or self._new_worker()
        worker.messages = [(message, message.receipt_handle) for message in messages]
        worker.about, worker.ends_at_s = about, self.now_s + TIMEOUT_S
        worker.classified, worker.reading, worker.results_written, worker.hurt = [], None, set(), 0
        environment = self.setup.environment(self.max_receive_count)
        worker.line.send((event, environment, self.now_s, worker.ends_at_s))
        self._listen(worker)
        return worker

    def _new_worker(self) -> Worker:
        line = Client(self._workers_at, family="AF_UNIX")
        worker = Worker(line.recv(), line)
        self.workers.append(worker)
        return worker

    def pass_time(self, seconds: float) -> None:
        """Advance the clock, and kill the workers that exceed their timeout."""
        self.now_s += seconds
        for worker in self.busy:
            if worker.ends_at_s <= self.now_s:
                self.kill(worker)

    # ------------------------------------------------------------------------------------- workers

    def advance(self, worker: Worker) -> None:
        """Carry out a worker's next step."""
        kind, *what = worker.waits_for
        if kind == "inference":
            self._note_inference(worker)
            self._answer(worker, "ok", None)
            return
        operation, request = what
        self._answer(worker, *self._carried_out(worker, operation, request))

    def fail(self, worker: Worker, fault: str) -> None:
        """Let a worker's next call fail: `lost` after it was carried out, the other faults before."""
        if worker.waits_for[0] != "call":
            self.advance(worker)
            return
        _, operation, request = worker.waits_for
        self.tally.faults[fault] += 1
        if fault == "lost":
            self._carried_out(worker, operation, request)
        if operation != "change_message_visibility":  # it is called after the delivery has failed
            self._hurt(worker)
        if fault in ("lost", "timeout"):
            self._answer(worker, "lost", None)
        else:
            status = {"SlowDown": 503, "ConditionalRequestConflict": 409, "ExpiredToken": 400}[fault]
            refusal = {"Error": {"Code": fault}, "ResponseMetadata": {"HTTPStatusCode": status}}
            self._answer(worker, "refused", refusal)

    def kill(self, worker: Worker, *, after_call: bool = False) -> None:
        """Kill a worker, before its next call or right after it was carried out."""
        if after_call and worker.waits_for[0] == "call":
            self._carried_out(worker, *worker.waits_for[1:])
        elif after_call:
            self._note_inference(worker)
        os.kill(worker.pid, signal.SIGKILL)
        worker.line.close()
        self.tally.kills += 1
        if not worker.messages:
            self.failed_backfills.update(worker.about)
        self._hurt(worker)
        for message in worker.held:
            message.excused = not self._has_written(worker, message)
        self.workers.remove(worker)

    def _hurt(self, worker: Worker) -> None:
        """Allow a second inference of what a worker has classified, unless the result is stored."""
        worker.hurt += 1
        self.excuses.update(part for part in worker.classified if self.done.get(part[0][0]) != part[0])
        worker.classified.clear()

    def _has_written(self, worker: Worker, message: Message) -> bool:
        return result_key_for(message.key, PREFIX) in worker.results_written

    def _carried_out(self, worker: Worker, operation: str, request: dict[str, Any]) -> tuple[str, Any]:
        self.tally.calls += 1
        if operation == "change_message_visibility":
            return self._hide(request["ReceiptHandle"], request["VisibilityTimeout"])
        if operation == "send_message":
            return self._continue(request)
        try:
            answer = dict(getattr(self.s3, operation)(**request))
        except ClientError as error:
            return "refused", error.response
        if operation == "get_object":
            answer["Body"] = answer["Body"].read()
            if request["Bucket"] == UPLOADS:
                which = request.get("VersionId") or answer["ETag"].strip('"')
                worker.reading = (request["Key"], which)
        if operation == "delete_object" and request["Key"].startswith(PREFIX) and request["Key"].endswith(".json"):
            self.tally.removals += 1
            self.done[request["Key"].removeprefix(PREFIX).removesuffix(".json")] = None
        if operation == "put_object" and request["Key"].endswith(".progress"):
            # What is stored is not classified again.
            worker.classified = [part for part in worker.classified if part[0] != worker.reading]
        if operation == "put_object" and request["Key"].startswith(PREFIX) and request["Key"].endswith(".json"):
            worker.results_written.add(request["Key"])
            source = json.loads(request["Body"])["source"]
            is_done = request["Metadata"]["state"] == "done"
            self.done[source["key"]] = (source["key"], source.get("version_id") or source["etag"]) if is_done else None
        return "ok", answer

    def _continue(self, request: dict[str, Any]) -> tuple[str, Any]:
        self.tally.continued += 1
        attributes = {
            name: {"stringValue": value["StringValue"], "dataType": value["DataType"]}
            for name, value in request["MessageAttributes"].items()
        }
        self.is_checked = False
        self._send(json.loads(request["MessageBody"]), attributes)
        return "ok", {"MessageId": str(self._sent)}

    def _hide(self, receipt_handle: str, timeout_s: int) -> tuple[str, Any]:
        message = next((message for message in self.queue if message.receipt_handle == receipt_handle), None)
        if message is None or message.visible_at_s <= self.now_s:
            return "refused", {"Error": {"Code": "MessageNotInflight"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        self.tally.delays += 1
        message.visible_at_s = self.now_s + timeout_s
        return "ok", {}

    def _note_inference(self, worker: Worker) -> None:
        identity = worker.reading
        assert identity is not None
        content, mark, number = worker.waits_for[1].partition(PART[: PART.index(b"%")])
        assert content == self.contents[identity], "the worker read a different recording from the one it requested"
        part = (identity, int(number) if mark else 0)
        self.tally.inferences += 1
        self.inferences[part] += 1
        worker.classified.append(part)
        # Without leases, concurrent deliveries may both classify.
        if self.setup.leases:
            times, allowed = self.inferences[part], 1 + self.excuses[part]
            assert self.done.get(identity[0]) != identity, f"{identity} was classified although its result is stored"
            assert times <= allowed, f"{part} was classified {times} times"

    def _answer(self, worker: Worker, outcome: str, value: Any) -> None:
        worker.line.send((self.now_s, outcome, value))
        self._listen(worker)

    def _listen(self, worker: Worker) -> None:
        worker.waits_for = worker.line.recv()
        if worker.waits_for[0] != "done":
            return
        answer = worker.waits_for[1]
        self.tally.tasks.update(result["resultCode"] for result in answer.get("results", []))
        if any(result["resultCode"] != "Succeeded" for result in answer.get("results", [])):
            self.failed_backfills.update(worker.about)
        failed = {item["itemIdentifier"] for item in answer.get("batchItemFailures", [])}
        for message in worker.held:
            message.excused = worker.hurt > 1 and not self._has_written(worker, message)
        for index, (message, _) in enumerate(worker.messages):
            if str(index) not in failed and message in self.queue:
                self.queue.remove(message)
        worker.messages, worker.about = [], []

    # ----------------------------------------------------------------------------------------- end

    def work_off(self, draw: random.Random | None = None, most_workers: int = 1) -> None:
        """Process messages until the queue is empty, with the calls of several workers interleaved at random."""
        draw = draw or random.Random(0)
        for _ in range(10_000):
            busy, visible = self.busy, self.visible
            if visible and len(busy) < most_workers and (not busy or draw.random() < 0.2):
                self.receive([draw.choice(visible)])
            elif busy:
                self.advance(draw.choice(busy))
            elif self.queue:
                self.pass_time(min(message.visible_at_s for message in self.queue) - self.now_s)
            else:
                return
        raise AssertionError("the queue does not become empty")

    def end(self) -> None:
        """End the workers."""
        for worker in self.workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.line.close()
        self.workers.clear()
