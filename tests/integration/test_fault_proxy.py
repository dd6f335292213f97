"""The fault proxy: which error a client gets, and whether the call was executed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError

from core.local.stack import RESULTS_BUCKET, Stack, running_stack
from tests.support.faults.fault_proxy import LIES, Call, Fault, FaultyEndpoint, faulty, random_plan

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

BODY = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def stack(aws_server: str) -> Iterator[Stack]:
    with running_stack(endpoint=aws_server) as running:
        yield running


@pytest.fixture
def proxy(stack: Stack) -> Iterator[FaultyEndpoint]:
    with faulty(stack.endpoint, slow_s=0.2) as running:
        yield running


@pytest.fixture
def s3(proxy: FaultyEndpoint) -> "S3Client":
    made: S3Client = proxy.client("s3")
    return made


@pytest.fixture
def sqs(proxy: FaultyEndpoint) -> "SQSClient":
    made: SQSClient = proxy.client("sqs")
    return made


def test_a_call_without_a_fault_passes_unchanged(s3: "S3Client", proxy: FaultyEndpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BODY)
    with (tmp_path / "file").open("rb") as file:
        s3.put_object(Bucket=RESULTS_BUCKET, Key="a b/ü+.wav", Body=file, Metadata={"state": "done"})
    answer = s3.get_object(Bucket=RESULTS_BUCKET, Key="a b/ü+.wav")
    assert answer["Body"].read() == BODY
    assert answer["Metadata"] == {"state": "done"}
    assert [call.path for call in proxy.calls] == [f"/{RESULTS_BUCKET}/a b/ü+.wav"] * 2
    assert not proxy.injected


@pytest.mark.parametrize(
    ("fault", "error", "is_executed"),
    [
        (Fault.TIMEOUT, ReadTimeoutError, False),
        (Fault.RESET, ConnectionClosedError, False),
        (Fault.LOST_TIMEOUT, ReadTimeoutError, True),
        (Fault.LOST_RESET, ConnectionClosedError, True),
        (Fault.INTERNAL_ERROR, ClientError, False),
        (Fault.SLOW_DOWN, ClientError, False),
        (Fault.EXPIRED, ClientError, False),
        (Fault.REFUSED, ClientError, False),
        (Fault.KEY_DISABLED, ClientError, False),
        (Fault.CONFLICT, ClientError, False),
        (Fault.PRECONDITION, ClientError, False),
        (Fault.NOT_FOUND, ClientError, False),
    ],
)
def test_a_failed_write_was_executed_only_if_its_response_was_lost(
    s3: "S3Client", proxy: FaultyEndpoint, fault: Fault, error: type[Exception], is_executed: bool
) -> None:
    proxy.plan = lambda _: fault
    # Only a call that gets no response waits for its timeout, so that a busy machine causes no other one.
    writer: S3Client = proxy.client("s3", read_timeout_s=1.0) if error is ReadTimeoutError else s3
    with pytest.raises(error) as raised:
        writer.put_object(Bucket=RESULTS_BUCKET, Key=fault.name, Body=BODY, IfNoneMatch="*")
    if isinstance(raised.value, ClientError):
        status, code = fault.value.split()
        assert raised.value.response["Error"]["Code"] == code
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == int(status)
    proxy.plan = lambda _: None
    listed = s3.list_objects_v2(Bucket=RESULTS_BUCKET, Prefix=fault.name)
    assert bool(listed["KeyCount"]) is is_executed
    assert proxy.injected == {fault: 1}


def test_a_body_is_truncated_or_slow(s3: "S3Client", proxy: FaultyEndpoint) -> None:
    s3.put_object(Bucket=RESULTS_BUCKET, Key="body", Body=BODY)
    proxy.plan = lambda _: Fault.TRUNCATED
    with pytest.raises(ResponseStreamingError):
        s3.get_object(Bucket=RESULTS_BUCKET, Key="body")["Body"].read()
    proxy.plan = lambda _: Fault.SLOW
    body = s3.get_object(Bucket=RESULTS_BUCKET, Key="body")["Body"]
    assert body.read() == BODY


def test_calls_to_the_queue_fail_in_the_format_of_sqs(sqs: "SQSClient", stack: Stack, proxy: FaultyEndpoint) -> None:
    proxy.plan = lambda call: Fault.SLOW_DOWN if call.operation == "SendMessage" else None
    with pytest.raises(ClientError) as raised:
        sqs.send_message(QueueUrl=stack.queue_url, MessageBody="{}")
    assert raised.value.response["Error"]["Code"] == "SlowDown"
    sqs.receive_message(QueueUrl=stack.queue_url)
    assert [call.operation for call in proxy.calls] == ["SendMessage", "ReceiveMessage"]


def test_a_seed_determines_the_faults_and_their_rate_is_about_the_requested_one() -> None:
    call = Call(1, "PUT", "/b/k", {"if-none-match": "*"})

    def drawn(seed: int) -> list[Fault | None]:
        plan = random_plan(seed, 0.1)
        return [plan(call) for _ in range(2000)]

    assert drawn(1) == drawn(1) != drawn(2)
    injected = [fault for fault in drawn(1) if fault]
    assert 100 < len(injected) < 300
    assert set(injected) == {fault for fault in Fault if call.can_suffer(fault)} - LIES


@pytest.mark.parametrize(
    ("call", "never"),
    [
        (Call(1, "GET", "/b/k", {}), {Fault.CONFLICT, Fault.PRECONDITION}),
        (
            Call(1, "HEAD", "/b/k", {}),
            {Fault.CONFLICT, Fault.PRECONDITION, Fault.TRUNCATED, Fault.SLOW, Fault.KEY_DISABLED},
        ),
        (Call(1, "PUT", "/b/k", {}), {Fault.CONFLICT, Fault.PRECONDITION, Fault.TRUNCATED, Fault.SLOW}),
        (Call(1, "PUT", "/b/k", {"if-match": '"e"'}), {Fault.TRUNCATED, Fault.SLOW}),
        (
            Call(1, "POST", "/", {"x-amz-target": "AmazonSQS.ReceiveMessage"}),
            {Fault.CONFLICT, Fault.PRECONDITION, Fault.TRUNCATED, Fault.SLOW, Fault.NOT_FOUND, Fault.KEY_DISABLED},
        ),
    ],
    ids=lambda value: value.operation if isinstance(value, Call) else None,
)
def test_a_call_gets_only_faults_that_apply_to_it(call: Call, never: set[Fault]) -> None:
    can: Callable[[Fault], bool] = call.can_suffer
    assert {fault for fault in Fault if not can(fault)} == never
