"""The event source mapping and the worker processes that run the function, as Lambda does on AWS."""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
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
from core.local.stack import REGION, Stack, StackOptions, isolated

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any], Any], Mapping[str, Any] | None]

_MAX_EXIT_S = 10.0
"""Inference and S3 calls end within this time, otherwise the process is aborted."""

HANDLER = "handlers.s3_upload.handler"
"""The command of the function's image."""


@dataclass
class LocalContext:
    """The context object of an invocation."""

    timeout_s: float
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_name: str = "audio-emotion"
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 3008
    invoked_function_arn: str = f"arn:aws:lambda:{REGION}:000000000000:function:audio-emotion"
    started_s: float = field(default_factory=lambda: time.monotonic())  # noqa: PLW0108 # tests replace `time`

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda would stop the function."""
        return max(0, round((self.started_s + self.timeout_s - time.monotonic()) * 1000))


class EventSourceMapping:
    """Invokes the function with messages of the queue, like Lambda with `ReportBatchItemFailures`."""

    def __init__(self, sqs: "SQSClient", queue_url: str, function: Handler, options: StackOptions) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._function = function
        self._options = options

    def poll(self, wait_s: int = 1) -> int:
        """Receive one batch, invoke the function, delete the messages that succeeded, and return the batch's size.

        If the function raises, the whole batch fails. A message that failed or could not be deleted is received again
        after the visibility timeout, unless the function set another time. If the queue does not answer, the next poll
        is the retry.
        """
        try:
            messages = self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=self._options.batch_size,
                WaitTimeSeconds=wait_s,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            ).get("Messages", [])
        except (BotoCoreError, ClientError) as error:
            _logger.warning("The queue did not answer: %s", error)
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
            _logger.warning("Message %s was not deleted and will be received again: %s", message["MessageId"], error)

    def _invoke(self, messages: "Sequence[MessageTypeDef]") -> set[str]:
        event = {"Records": [_sqs_record(message) for message in messages]}
        try:
            answer = self._function(event, LocalContext(self._options.function_timeout_s)) or {}
        except Exception:
            _logger.exception("The function raised an error.")
            return {message["MessageId"] for message in messages}
        return {failure["itemIdentifier"] for failure in answer.get("batchItemFailures", [])}


def _sqs_record(message: "MessageTypeDef") -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {
            name: {"stringValue": attribute.get("StringValue"), "dataType": attribute.get("DataType")}
            for name, attribute in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{REGION}:000000000000:audio-emotion-uploads",
        "awsRegion": REGION,
    }


def load_handler(name: str) -> Handler:
    """Import a handler by its dotted name, as Lambda's runtime does."""
    module, _, attribute = name.rpartition(".")
    return cast(Handler, getattr(importlib.import_module(module), attribute))


def run_worker(queue_url: str, options: StackOptions, handler: str = HANDLER) -> None:
    """Poll the queue until SIGTERM or the end of the parent process."""
    stopping = False
    _exit_with_parent()

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent sends SIGTERM
    # A poll waits one second at most, so five seconds without an answer are an error.
    sqs = boto3.client("sqs", config=Config(read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}))
    mapping = EventSourceMapping(sqs, queue_url, load_handler(handler), options)
    while not stopping:
        mapping.poll()


def _exit_with_parent() -> None:
    """Exit when the parent process ends, even if it is killed.

    Only the parent holds the other end of stdin, a pipe that it never writes to, so that the pipe ends with the parent.
    Unlike Linux's PR_SET_PDEATHSIG, a pipe works on macOS and does not depend on the thread that started this process.
    """

    def stop(*_: object) -> None:
        sys.exit("The parent process has ended.")  # an exception, so that decoders are killed on the way out

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGHUP)
        threading.Event().wait(_MAX_EXIT_S)
        os._exit(1)

    signal.signal(signal.SIGHUP, stop)
    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class Workers:
    """Running worker processes.

    Attributes
    ----------
    start
        Starts another worker process.
    """

    processes: "list[subprocess.Popen[bytes]]"
    log_file: Path
    start: "Callable[[], subprocess.Popen[bytes]]"

    def kill(self, number: int) -> None:
        """Kill a worker, as a crash would, and start another in its place."""
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self.start()

    def check(self) -> None:
        """Check that every worker is alive.

        Raises
        ------
        WorkerEnded
            If one has ended.
        """
        if any(process.poll() is not None for process in self.processes):
            raise WorkerEnded(f"A worker process of the function ended unexpectedly. See {self.log_file}.")


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
    """Start worker processes that poll the stack's queue and write their log to a file.

    Parameters
    ----------
    settings
        Additional environment variables of the function.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "core.local.workers", stack.queue_url, json.dumps(vars(stack.options)), handler]
    environment = {**isolated(os.environ), **stack.environment(model_dir), **(settings or {})}
    with ExitStack() as cleanup:
        log = cleanup.enter_context(log_file.open("ab"))  # another command may write to the same log

        def start() -> "subprocess.Popen[bytes]":
            worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
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
    assert worker.stdin is not None  # guaranteed by PIPE
    worker.stdin.close()


if __name__ == "__main__":
    run_worker(sys.argv[1], StackOptions(**json.loads(sys.argv[2])), *sys.argv[3:])
