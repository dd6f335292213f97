"""Bringing dead letters back into the queue, once what failed them is mended. SQS itself moves them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import AwsRefused
from core.operations.deployed_stack import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_POLL_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Moved:
    """How far the move is."""

    messages: int
    of: int
    status: str


def waiting_messages(sqs: "SQSClient", queue_url: str) -> int:
    """About how many messages wait in a queue."""
    with aws_errors(f"the queue {queue_url}"):
        answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def redrive(
    sqs: "SQSClient", queue_arn: str, *, per_s: int | None = None, between_looks_s: float = _POLL_INTERVAL_S
) -> Iterator[Moved]:
    """Move everything in a dead-letter queue to where it came from, and say how far that is until it is over.

    Parameters
    ----------
    per_s
        Messages a second at the most; as fast as SQS can if None.

    Raises
    ------
    OperationFailed
        If SQS will not begin (a move may be under way already), or gave up in between.
    """
    asked: dict[str, Any] = {"SourceArn": queue_arn}
    if per_s is not None:
        asked["MaxNumberOfMessagesPerSecond"] = per_s
    with aws_errors(f"the queue {queue_arn}"):
        sqs.start_message_move_task(**asked)
    while True:
        with aws_errors(f"the queue {queue_arn}"):
            newest = sqs.list_message_move_tasks(SourceArn=queue_arn, MaxResults=1)["Results"][0]
        status = newest.get("Status", "RUNNING")
        moved = newest.get("ApproximateNumberOfMessagesMoved", 0)
        yield Moved(moved, newest.get("ApproximateNumberOfMessagesToMove") or moved, status)
        if status == "COMPLETED":
            return
        if status not in ("RUNNING", "CANCELLING"):
            why = newest.get("FailureReason") or status.lower()
            raise AwsRefused(f"SQS stopped after {moved} messages: {why}. The rest are where they were.")
        time.sleep(between_looks_s)
