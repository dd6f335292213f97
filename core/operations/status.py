"""The status of a stack: the objects in its buckets and the messages in its queues."""

import json
import random
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from core.delivery.keys import is_folder_marker, result_key_for
from core.operations.deployed_stack import DeployedStack, aws_errors
from core.operations.results import StoredResult, read_results
from core.operations.s3_listing import list_objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

DEFAULT_SAMPLE_SIZE = 1000
"""Number of results to read, chosen at random; a smaller stack's results are all read."""

_AGE_WINDOW = timedelta(minutes=15)


@dataclass(frozen=True)
class Status:
    """The counts of a stack.

    Attributes
    ----------
    read
        Results that were read.
    by_status
        The number of those results with each status, and of those that are `given_up`, `stale` or `unreadable`.
    oldest_s
        Age of the oldest message in the queue; None if CloudWatch has no value.
    """

    uploads: int
    uploads_bytes: int
    results: int
    without_result: int
    read: int
    by_status: dict[str, int]
    waiting: int
    in_flight: int
    dead_letters: int
    oldest_s: float | None

    def to_json(self) -> str:
        """Return the counts as a JSON object, in which `by_status` has the name `judged`."""
        return json.dumps({"judged" if name == "by_status" else name: value for name, value in asdict(self).items()})


def read_status(
    stack: DeployedStack,
    s3: "S3Client",
    sqs: "SQSClient",
    cloudwatch: Any,
    *,
    fingerprint: str | None = None,
    sample: int = DEFAULT_SAMPLE_SIZE,
) -> Status:
    """Count a stack's uploads, results and messages, and read some results.

    Parameters
    ----------
    fingerprint
        Fingerprint of the model that results should have. If None, no result counts as stale.
    sample
        Maximum number of results to read.

    Raises
    ------
    OperationFailed
        If AWS cannot be reached or refuses the request.
    """
    keys = {
        found.key
        for found in list_objects(s3, stack.results_bucket, stack.results_prefix)
        if found.key.endswith(".json")
    }
    uploads = uploads_bytes = without_result = 0
    for found in list_objects(s3, stack.uploads_bucket):
        if is_folder_marker(found.key, found.size_bytes):
            continue
        uploads += 1
        uploads_bytes += found.size_bytes
        without_result += result_key_for(found.key, stack.results_prefix) not in keys
    chosen = random.sample(sorted(keys), min(sample, len(keys)))
    read = list(read_results(s3, stack.results_bucket, chosen))
    waiting, in_flight = message_counts(sqs, stack.queue_url)
    dead_letters, _ = message_counts(sqs, stack.dead_letter_queue_url)
    return Status(
        uploads=uploads,
        uploads_bytes=uploads_bytes,
        results=len(keys),
        without_result=without_result,
        read=len(read),
        by_status=count_by_status(read, fingerprint),
        waiting=waiting,
        in_flight=in_flight,
        dead_letters=dead_letters,
        oldest_s=_oldest_message_age_s(cloudwatch, stack.queue_url),
    )


def count_by_status(results: list[StoredResult], fingerprint: str | None) -> dict[str, int]:
    """Count the documents by status, and those that are `given_up`, `stale` (of another model) or `unreadable`."""
    counted = {"classified": 0, "no_speech": 0, "failed": 0, "given_up": 0, "stale": 0, "unreadable": 0}
    for found in results:
        if found.result is None:
            counted["unreadable"] += 1
            continue
        counted[found.result.status] += 1
        counted["given_up"] += found.state == "given-up"
        counted["stale"] += fingerprint is not None and found.result.model.fingerprint != fingerprint
    return counted


def message_counts(sqs: "SQSClient", queue_url: str) -> tuple[int, int]:
    """Return the approximate numbers of messages in a queue that wait and that are in flight."""
    with aws_errors(f"the queue {queue_url}"):
        attributes = sqs.get_queue_attributes(
            QueueUrl=queue_url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
    )


def _oldest_message_age_s(cloudwatch: Any, queue_url: str) -> float | None:
    """Return the age of the oldest message, or None if CloudWatch has no value.

    Only CloudWatch has the age: receiving the message from SQS would count as a delivery.
    """
    now = datetime.now(UTC)
    with aws_errors("the age of the queue's oldest message"):
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
