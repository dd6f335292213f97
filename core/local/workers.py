"""The event source mapping and the worker processes that run the function."""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.errors import WorkerEnded

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef


from core.local.stack import _REGION, Stack, StackOptions

_logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any], Any], Mapping[str, Any] | None]

HANDLER = "handlers.s3_upload.handler"
"""What the function's image names as its command; imported by name, as Lambda's runtime does."""


@dataclass
class LocalContext:
    """What the function is told of its invocation."""

    timeout_s: float
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_name: str = "audio-emotion"
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 3538
    invoked_function_arn: str = f"arn:aws:lambda:{_REGION}:000000000000:function:audio-emotion"
    started_s: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function would be killed."""
        return max(0, round((self.started_s + self.timeout_s - time.monotonic()) * 1000))


class EventSourceMapping:
    """Takes messages from the queue to the function, as Lambda's own does with `ReportBatchItemFailures`."""

    def __init__(self, sqs: "SQSClient", queue_url: str, function: Handler, options: StackOptions) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._function = function
        self._options = options

    def poll(self, wait_s: int = 1) -> int:
        """Take one batch to the function, and delete what it does not report as failed; returns the batch's size.

        A function that raises fails the whole batch. What failed, or could not be deleted, comes back after the
        visibility time-out; a queue that does not answer is asked again with the next poll.
        """
        try:
            messages = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=self._options.batch_size,
                WaitTimeSeconds=wait_s,
                AttributeNames=["All"],
            ).get("Messages", [])
        except (BotoCoreError, ClientError) as error:
            _logger.warning("the queue gave nothing: %s", error)
            return 0
        failed = self._invoke(messages) if messages else set()
        for message in messages:
            if message["MessageId"] not in failed:
                self._delete(message)
        return len(messages)

    def _delete(self, message: "MessageTypeDef") -> None:
        try:
            self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
        except (BotoCoreError, ClientError) as error:
            _logger.warning("message %s will come again: %s", message["MessageId"], error)

    def _invoke(self, messages: "Sequence[MessageTypeDef]") -> set[str]:
        event = {"Records": [_sqs_record(message) for message in messages]}
        try:
            answer = self._function(event, LocalContext(self._options.function_timeout_s)) or {}
        except Exception:
            _logger.exception("the function raised")
            return {message["MessageId"] for message in messages}
        return {failure["itemIdentifier"] for failure in answer.get("batchItemFailures", [])}


def _sqs_record(message: "MessageTypeDef") -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {},
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{_REGION}:000000000000:audio-emotion-uploads",
        "awsRegion": _REGION,
    }


def load_handler(name: str) -> Handler:
    """Import a function by its dotted name, as Lambda's runtime does."""
    module, _, attribute = name.rpartition(".")
    return cast(Handler, getattr(importlib.import_module(module), attribute))


def work(queue_url: str, options: StackOptions, handler: str = HANDLER) -> None:
    """A worker's whole life: take batches to the function until told to stop."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever started us ends us
    # A poll waits a second at the most: silence beyond five is a fault, and the next poll is the next try.
    sqs = boto3.client("sqs", config=Config(read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}))
    mapping = EventSourceMapping(sqs, queue_url, load_handler(handler), options)
    while not stopping:
        mapping.poll()


@dataclass(frozen=True)
class Workers:
    """Running worker processes.

    Attributes
    ----------
    start
        Starts one more like them.
    """

    processes: "list[subprocess.Popen[bytes]]"
    log_file: Path
    start: "Callable[[], subprocess.Popen[bytes]]"

    def kill(self, number: int) -> None:
        """End one as a crash would, in the middle of whatever it does, and start another in its place."""
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self.start()

    def check(self) -> None:
        """See that they are all alive.

        Raises
        ------
        WorkerEnded
            If one has ended by itself.
        """
        if any(process.poll() is not None for process in self.processes):
            raise WorkerEnded(f"A worker of the function ended by itself: {self.log_file} says why.")


@contextmanager
def running_workers(
    stack: Stack,
    model_dir: Path,
    log_file: Path,
    count: int = 1,
    *,
    handler: str = HANDLER,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Workers]:
    """Start worker processes that serve the stack's queue; what the function logs goes to a file.

    Parameters
    ----------
    settings
        More environment variables for the function.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "core.local.workers", stack.queue_url, json.dumps(vars(stack.options)), handler]
    environment = {**os.environ, **stack.environment(model_dir), **(settings or {})}
    with ExitStack() as cleanup:
        log = cleanup.enter_context(log_file.open("wb"))

        def start() -> "subprocess.Popen[bytes]":
            worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            cleanup.callback(_end, worker)
            return worker

        yield Workers([start() for _ in range(count)], log_file, start)


def _end(worker: "subprocess.Popen[bytes]") -> None:
    worker.terminate()
    try:
        worker.wait(timeout=10)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


if __name__ == "__main__":
    work(sys.argv[1], StackOptions(**json.loads(sys.argv[2])), *sys.argv[3:])
