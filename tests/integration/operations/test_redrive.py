"""A redrive of dead letters. moto has no move task, so stubs play it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from core.cli.redrive import run_redrive
from core.errors import AwsRefused
from core.local.stack import Stack
from core.operations.deployed_stack import DeployedStack
from core.operations.redrive import RedriveState, redrive


@contextmanager
def moving(states: Sequence[dict[str, Any] | None]) -> Iterator[Any]:
    client = boto3.client("sqs", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        stub.add_response("start_message_move_task", {"TaskHandle": "t"}, {"SourceArn": "arn"})
        for state in states:
            stub.add_response(
                "list_message_move_tasks", {"Results": [state] if state else []}, {"SourceArn": "arn", "MaxResults": 1}
            )
        yield client


def test_a_redrive_yields_its_progress_until_the_end() -> None:
    states = [
        {"Status": "RUNNING", "ApproximateNumberOfMessagesMoved": 1, "ApproximateNumberOfMessagesToMove": 3},
        {"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 3},
    ]
    with moving(states) as sqs:
        assert list(redrive(sqs, "arn", poll_interval_s=0)) == [
            RedriveState(1, 3, "RUNNING"),
            RedriveState(3, 3, "COMPLETED"),
        ]


def test_a_redrive_waits_until_sqs_lists_it() -> None:
    done = {"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": 3}
    with moving([None, done]) as sqs:
        states = list(redrive(sqs, "arn", poll_interval_s=0))

    assert states == [RedriveState(0, 0, "RUNNING"), RedriveState(3, 3, "COMPLETED")]


def test_a_redrive_that_sqs_never_lists_is_an_error() -> None:
    with moving([None] * 61) as sqs, pytest.raises(AwsRefused, match="does not list it"):
        list(redrive(sqs, "arn", poll_interval_s=0))


def test_a_failed_redrive_says_how_many_messages_it_moved() -> None:
    failed = {"Status": "FAILED", "ApproximateNumberOfMessagesMoved": 2, "FailureReason": "AccessDenied"}
    with moving([failed]) as sqs, pytest.raises(AwsRefused, match="after 2 messages: AccessDenied"):
        list(redrive(sqs, "arn", poll_interval_s=0))


def test_a_redrive_without_dead_letters_moves_nothing(
    deployed: DeployedStack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_redrive(deployed, None) == 0
    assert "no dead letters" in capsys.readouterr().out


def test_a_redrive_moves_dead_letters_back_to_the_queue(
    world: Stack, deployed: DeployedStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """moto has no move task, so the test moves the messages between moto's queues."""
    moved: list[str] = []

    def move(**_: Any) -> Any:
        while messages := world.sqs.receive_message(QueueUrl=world.dead_letter_queue_url).get("Messages"):
            for message in messages:
                world.sqs.send_message(QueueUrl=queue_url, MessageBody=message["Body"])
                world.sqs.delete_message(QueueUrl=world.dead_letter_queue_url, ReceiptHandle=message["ReceiptHandle"])
                moved.append(message["Body"])
        return _ok(), {"TaskHandle": "t"}

    def tasks(**_: Any) -> Any:
        return _ok(), {"Results": [{"Status": "COMPLETED", "ApproximateNumberOfMessagesMoved": len(moved)}]}

    queue_url = world.sqs.create_queue(QueueName="source")["QueueUrl"]
    for number in range(3):
        world.sqs.send_message(QueueUrl=world.dead_letter_queue_url, MessageBody=str(number))
    client = boto3.client("sqs")
    client.meta.events.register("before-call.sqs.StartMessageMoveTask", move)
    client.meta.events.register("before-call.sqs.ListMessageMoveTasks", tasks)
    monkeypatch.setattr(boto3, "client", lambda _: client)
    assert run_redrive(deployed, None) == 0
    assert "3 uploads" in capsys.readouterr().out
    bodies = [message["Body"] for _ in range(3) for message in client.receive_message(QueueUrl=queue_url)["Messages"]]
    assert sorted(bodies) == ["0", "1", "2"]


class _ok:  # noqa: N801 (a value)
    status_code = 200
