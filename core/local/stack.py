"""The resources of the local stack: buckets, queues and notifications in moto's server."""

import json
import logging
import os
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import boto3

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


UPLOADS_BUCKET = "audio-emotion-uploads"
RESULTS_BUCKET = "audio-emotion-results"
RESULTS_PREFIX = "results/"
REGION = "us-east-1"

_logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_NO_CONFIGURATION = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
"""boto3 reads no configuration file of the user."""


@dataclass(frozen=True)
class StackOptions:
    """Settings of the function and the queue. On AWS, template.yaml sets them.

    Attributes
    ----------
    function_timeout_s, visibility_timeout_s
        On AWS, the visibility timeout is six times the function's timeout. It is shorter here for quick retries.
    retry_delay_s
        The function's `RETRY_DELAY_S`, also shorter.
    """

    function_timeout_s: float = 60.0
    visibility_timeout_s: int = 60
    max_receive_count: int = 5
    retry_delay_s: float = 5.0
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
        """Return the environment variables of the function."""
        return {
            **_credentials(self.endpoint),
            "UPLOADS_BUCKET": UPLOADS_BUCKET,
            "RESULTS_BUCKET": RESULTS_BUCKET,
            "RESULTS_PREFIX": RESULTS_PREFIX,
            "QUEUE_URL": self.queue_url,
            "MAX_RECEIVE_COUNT": str(self.options.max_receive_count),
            "RETRY_DELAY_S": str(self.options.retry_delay_s),
            "MODEL_DIR": str(model_dir),
        }

    def upload(self, file: Path, key: str | None = None) -> str:
        """Put a file into the uploads bucket and return its key."""
        key = key or key_for(Path(file.name))
        with file.open("rb") as body:
            self.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=body)
        return key

    def results(self) -> dict[str, str]:
        """Return the key and the ETag of every result."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=RESULTS_BUCKET, Prefix=RESULTS_PREFIX)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}

    def take_new_results(self) -> list[str]:
        """Return the keys of results written since the last call, in the order of their notifications.

        Notifications provide the keys: moto takes 1.5 s to list two thousand results, which is too slow for polling.
        """
        keys: dict[str, None] = {}
        url = self.new_results_queue_url
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                records = json.loads(message["Body"]).get("Records", [])  # the test event has none
                keys |= {unquote_plus(record["s3"]["object"]["key"]): None for record in records}
            handles = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
            ]
            self.sqs.delete_message_batch(QueueUrl=url, Entries=handles)  # type: ignore[arg-type]
        return list(keys)

    def result(self, key: str) -> bytes:
        """Return the object at a key of the results bucket."""
        return self.s3.get_object(Bucket=RESULTS_BUCKET, Key=key)["Body"].read()

    def dead_letters(self) -> int:
        """Return the number of messages in the dead-letter queue."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.dead_letter_queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@contextmanager
def running_server() -> Iterator[str]:
    """Start moto's server on the loopback address, and yield its endpoint."""
    # Imported here, because the import takes half a second and a caller with a running server does not need it.
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log every request

    server = ThreadedMotoServer(ip_address=_LOOPBACK, port=0, verbose=False)
    server.start()
    server._server.app = _atomic_conditions(server._server.app)
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def _atomic_conditions(app: "WSGIApplication") -> "WSGIApplication":
    """Answer conditional requests one after the other.

    Of several concurrent conditional writes, S3 lets one succeed. moto checks and writes in two steps, so it would let
    several succeed.
    """
    lock = threading.Lock()

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        is_conditional = "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ
        with lock if is_conditional else nullcontext():
            return app(environ, start_response)

    return answer


@contextmanager
def running_stack(options: StackOptions | None = None, endpoint: str | None = None) -> Iterator[Stack]:
    """Create the resources of template.yaml in moto's server.

    Parameters
    ----------
    endpoint
        The endpoint of a running server, which is emptied first; None starts a server.
    """
    options = options or StackOptions()
    with nullcontext(endpoint) if endpoint else running_server() as address:
        with _isolated_process():
            # moto keeps one state for the whole process, so even a new server may contain an older stack's objects.
            reset = urllib.request.Request(f"{address}/moto-api/reset", method="POST")  # noqa: S310
            urllib.request.urlopen(reset).close()  # noqa: S310
            stack = _create_resources(address, options)
        yield stack


def _create_resources(endpoint: str, options: StackOptions) -> Stack:
    session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)  # noqa: S106
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
    # Leases are in the same bucket.
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


def key_for(path: Path) -> str:
    """Return the S3 key of a relative path, in which an escape sequence replaces each byte that is not UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def isolated(environment: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables without those that could lead boto3 to AWS or to a proxy.

    `AWS_ENDPOINT_URL_S3` and `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` would win over `AWS_ENDPOINT_URL`. A profile in
    `AWS_PROFILE` need not exist. `NO_PROXY` also disables the proxies in macOS's settings.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return {**kept, **_NO_CONFIGURATION, "NO_PROXY": "*"}


@contextmanager
def _isolated_process() -> Iterator[None]:
    """Hide the user's AWS and proxy settings from boto3 clients while they are created."""
    saved = dict(os.environ)
    _replace_environment(isolated(saved))
    try:
        yield
    finally:
        _replace_environment(saved)


def _replace_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _credentials(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        **_NO_CONFIGURATION,
    }
