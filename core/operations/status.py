"""How a stack is doing: what lies in its buckets and waits in its queues."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from core.delivery.keys import is_folder_marker, result_key_for
from core.operations.deployed_stack import DeployedStack, aws_errors
from core.operations.results import StoredResult, read_results
from core.operations.s3_listing import listed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

SAMPLE = 1000
"""Documents that are read to judge the others by; with so many or fewer, all of them."""

_AGE_WINDOW = timedelta(minutes=15)


@dataclass(frozen=True)
class Status:
    """What was counted. `judged` is what some documents say, of `read` ones: a status, or `stale` or `given_up`."""

    uploads: int
    uploads_bytes: int
    results: int
    without_result: int
    read: int
    judged: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    in_flight: int = 0
    dead_letters: int = 0
    oldest_s: float | None = None


def status_of(
    stack: DeployedStack,
    s3: "S3Client",
    sqs: "SQSClient",
    cloudwatch: Any,
    *,
    fingerprint: str | None = None,
    sample: int = SAMPLE,
) -> Status:
    """Count a stack's uploads, results and messages, and read some results.

    Parameters
    ----------
    fingerprint
        Of the model that results should be by; None: whether they are stale is not asked.
    sample
        How many documents are read at the most.

    Raises
    ------
    OperationFailed
        If AWS cannot or will not say.
    """
    keys = {
        found.key for found in listed(s3, stack.results_bucket, stack.results_prefix) if found.key.endswith(".json")
    }
    uploads = uploads_bytes = without_result = 0
    for found in listed(s3, stack.uploads_bucket):
        if is_folder_marker(found.key, found.size_bytes):
            continue
        uploads += 1
        uploads_bytes += found.size_bytes
        without_result += result_key_for(found.key, stack.results_prefix) not in keys
    chosen = random.sample(sorted(keys), min(sample, len(keys)))
    read = list(read_results(s3, stack.results_bucket, chosen))
    waiting, in_flight = _depth(sqs, stack.queue_url)
    dead_letters, _ = _depth(sqs, stack.dead_letter_queue_url)
    return Status(
        uploads=uploads,
        uploads_bytes=uploads_bytes,
        results=len(keys),
        without_result=without_result,
        read=len(read),
        judged=judge(read, fingerprint),
        waiting=waiting,
        in_flight=in_flight,
        dead_letters=dead_letters,
        oldest_s=oldest_age_s(cloudwatch, stack.queue_url),
    )


def judge(results: list[StoredResult], fingerprint: str | None) -> dict[str, int]:
    """How many documents have which status, were given up, or are another model's."""
    counted = {"classified": 0, "no_speech": 0, "failed": 0, "given_up": 0, "stale": 0, "unreadable": 0}
    for found in results:
        if found.result is None:
            counted["unreadable"] += 1
            continue
        counted[found.result.status] += 1
        counted["given_up"] += found.state == "given-up"
        counted["stale"] += fingerprint is not None and found.result.model.fingerprint != fingerprint
    return counted


def _depth(sqs: "SQSClient", queue_url: str) -> tuple[int, int]:
    with aws_errors(f"the queue {queue_url}"):
        attributes = sqs.get_queue_attributes(
            QueueUrl=queue_url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
    )


def oldest_age_s(cloudwatch: Any, queue_url: str) -> float | None:
    """How long the oldest message has been waiting, or None if CloudWatch does not know of any.

    SQS tells this to CloudWatch alone. Looking at the message itself would count as a delivery.
    """
    now = datetime.now(UTC)
    with aws_errors("the queue's age"):
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": queue_url.rpartition("/")[2]}],
            StartTime=now - _AGE_WINDOW,
            EndTime=now,
            Period=60,
            Statistics=["Maximum"],
        )["Datapoints"]
    return float(max(points, key=lambda point: point["Timestamp"])["Maximum"]) if points else None
