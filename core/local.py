"""The whole stack on this machine: S3, the queue and the function, without an AWS account.

moto's server holds the state. What moto does not do faithfully is done here: the event source mapping, which on AWS
honours `batchItemFailures`, the visibility time-out and the redrive policy. The function runs in worker processes of
its own, as on AWS, so that one that crashes loses nothing but its delivery.
"""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_plus

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.errors import WorkerEnded

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

Handler = Callable[[dict[str, Any], Any], Mapping[str, Any] | None]

HANDLER = "handlers.s3_upload.handler"
"""What the function's image names as its command; imported by name, as Lambda's runtime does."""

UPLOADS_BUCKET = "audio-emotion-uploads"
RESULTS_BUCKET = "audio-emotion-results"
RESULTS_PREFIX = "results/"

_logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_REGION = "us-east-1"


@dataclass(frozen=True)
class StackOptions:
    """What an operator would set in template.yaml, and what a test wants shorter.

    Attributes
    ----------
    function_timeout_s, visibility_timeout_s
        On AWS the second is six times the first; here a retry should not take an hour and a half.
    """

    function_timeout_s: float = 60.0
    visibility_timeout_s: int = 60
    max_receive_count: int = 5
    batch_size: int = 1


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    endpoint: str
    queue_url: str
    dead_letter_queue_url: str
    new_results_queue_url: str
    options: StackOptions
    s3: "S3Client"
    sqs: "SQSClient"

    def environment(self, model_dir: Path) -> dict[str, str]:
        """The environment variables of the function."""
        return {
            **_credentials(self.endpoint),
            "UPLOADS_BUCKET": UPLOADS_BUCKET,
            "RESULTS_BUCKET": RESULTS_BUCKET,
            "RESULTS_PREFIX": RESULTS_PREFIX,
            "MAX_RECEIVE_COUNT": str(self.options.max_receive_count),
            "MODEL_DIR": str(model_dir),
        }

    def upload(self, file: Path, key: str | None = None) -> str:
        """Put a file into the uploads bucket; returns its key."""
        key = key or file.name
        with file.open("rb") as body:
            self.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body)
        return key

    def results(self) -> dict[str, str]:
        """Key and ETag of every result there is."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=RESULTS_BUCKET, Prefix=RESULTS_PREFIX)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}

    def take_new_results(self) -> list[str]:
        """Keys of results that were written since the last call, in that order, each once.

        From notifications: moto takes a second and a half to list two thousand results, and looks are many.
        """
        keys: dict[str, None] = {}
        url = self.new_results_queue_url
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                records = json.loads(message["Body"]).get("Records", [])  # none in the event that tests the connection
                keys |= {unquote_plus(record["s3"]["object"]["key"]): None for record in records}
            handles = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
            ]
            self.sqs.delete_message_batch(QueueUrl=url, Entries=handles)  # type: ignore[arg-type]
        return list(keys)

    def result(self, key: str) -> bytes:
        """The document at a key of the results bucket."""
        return self.s3.get_object(Bucket=RESULTS_BUCKET, Key=key)["Body"].read()

    def dead_letters(self) -> int:
        """How many messages lie in the dead-letter queue."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.dead_letter_queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@contextmanager
def running_stack(options: StackOptions | None = None) -> Iterator[Stack]:
    """Start moto's server on the loopback address, and make in it what template.yaml makes on AWS."""
    # Imported here: moto's server costs half a second, and only this function needs it.
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request otherwise

    options = options or StackOptions()
    server = ThreadedMotoServer(ip_address=_LOOPBACK, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        # moto keeps one state for the whole process; a stack begins empty.
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()  # noqa: S310
        yield _create_resources(endpoint, options)
    finally:
        server.stop()


def _create_resources(endpoint: str, options: StackOptions) -> Stack:
    session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=_REGION)  # noqa: S106
    s3 = session.client("s3", endpoint_url=endpoint)
    sqs = session.client("sqs", endpoint_url=endpoint)
    for bucket in (UPLOADS_BUCKET, RESULTS_BUCKET):
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    dead_letter_queue_url = sqs.create_queue(QueueName="audio-emotion-dead-letters")["QueueUrl"]
    redrive = {"deadLetterTargetArn": _arn(sqs, dead_letter_queue_url), "maxReceiveCount": options.max_receive_count}
    queue_url = sqs.create_queue(
        QueueName="audio-emotion-uploads",
        Attributes={"VisibilityTimeout": str(options.visibility_timeout_s), "RedrivePolicy": json.dumps(redrive)},
    )["QueueUrl"]
    new_results_queue_url = sqs.create_queue(QueueName="audio-emotion-new-results")["QueueUrl"]
    _notify(s3, UPLOADS_BUCKET, _arn(sqs, queue_url), {})
    # Of results, and not of the claims beside them.
    only_results = {"Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": RESULTS_PREFIX}]}}}
    _notify(s3, RESULTS_BUCKET, _arn(sqs, new_results_queue_url), only_results)
    return Stack(endpoint, queue_url, dead_letter_queue_url, new_results_queue_url, options, s3, sqs)


def _notify(s3: "S3Client", bucket: str, queue_arn: str, only: dict[str, Any]) -> None:
    configuration: Any = {"QueueArn": queue_arn, "Events": ["s3:ObjectCreated:*"], **only}
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [configuration]}
    )


def _arn(sqs: "SQSClient", queue_url: str) -> str:
    return sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def _credentials(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": _REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


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
    command = [sys.executable, "-m", "core.local", stack.queue_url, json.dumps(vars(stack.options)), handler]
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
