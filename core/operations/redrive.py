"""A redrive: SQS moves the messages of a dead-letter queue back to the queue that they came from."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import AwsRefused
from core.operations.deployed_stack import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_POLL_INTERVAL_S = 1.0
_MAX_UNLISTED_POLLS = 60
"""SQS may list a move only some seconds after its start."""


@dataclass(frozen=True)
class RedriveState:
    """The progress of a redrive."""

    messages: int
    of: int
    status: str


def redrive(
    sqs: "SQSClient", queue_arn: str, *, per_s: int | None = None, poll_interval_s: float = _POLL_INTERVAL_S
) -> Iterator[RedriveState]:
    """Move every message of a dead-letter queue back, and yield the progress until the move has ended.

    Parameters
    ----------
    per_s
        Maximum number of messages per second; None sets no limit.

    Raises
    ------
    OperationFailed
        If SQS does not start the move, for example because another one is running, or stops before the end.
    """
    request: dict[str, Any] = {"SourceArn": queue_arn}
    if per_s is not None:
        request["MaxNumberOfMessagesPerSecond"] = per_s
    with aws_errors(f"the queue {queue_arn}"):
        sqs.start_message_move_task(**request)
    unlisted = 0
    while True:
        with aws_errors(f"the queue {queue_arn}"):
            tasks = sqs.list_message_move_tasks(SourceArn=queue_arn, MaxResults=1).get("Results", [])
        newest: Any = tasks[0] if tasks else {}
        unlisted = 0 if tasks else unlisted + 1
        if unlisted > _MAX_UNLISTED_POLLS:
            raise AwsRefused("SQS has started the move but does not list it. Run `audio-emotion status` to follow it.")
        status = newest.get("Status", "RUNNING")
        moved = newest.get("ApproximateNumberOfMessagesMoved", 0)
        yield RedriveState(moved, newest.get("ApproximateNumberOfMessagesToMove") or moved, status)
        if status == "COMPLETED":
            return
        if status not in ("RUNNING", "CANCELLING"):
            why = newest.get("FailureReason") or status.lower()
            raise AwsRefused(
                f"SQS stopped after {moved} messages: {why}. The others are still in the dead-letter queue."
            )
        time.sleep(poll_interval_s)
