"""Operations on a deployed stack: moto plays S3, SQS and CloudWatch, stubs play the services that moto lacks."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from core.cli.app import app
from core.cli.aws import aws_client
from core.cli.backfill import run_backfill
from core.cli.redrive import run_redrive
from core.cli.status import run_status
from core.errors import AwsRefused, PackageRefused, StackUnknown
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.local.workers import LocalContext
from core.model.package import read_manifest
from core.operations.backfill import Forecast, Scope, activate, forecast, is_done, job_request
from core.operations.deployed_stack import DeployedStack, find_stack, stack_name_from_bucket
from core.operations.redrive import RedriveState, redrive
from core.operations.results import StoredResult
from core.operations.s3_listing import ReservoirSample, in_threads
from core.operations.status import read_status
from core.results import Error, Model, Processing, Result, Source
from tests.support.cloudformation import STACK, TEMPLATE, Deployed

NOW = datetime.now(UTC).replace(microsecond=0)
MODEL = Model(id="m", revision="r", precision="fp32", fingerprint="sha256:new", labels=("anger", "sad"))


def described_by_cloudformation(**parameters: str) -> dict[str, Any]:
    """Return the answer of DescribeStacks for the stack of template.yaml."""
    given = {name: str(described["Default"]) for name, described in TEMPLATE["Parameters"].items()} | parameters
    outputs = Deployed(**parameters).outputs()
    return {
        "StackName": STACK,
        "CreationTime": NOW,
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
    }


@contextmanager
def cloudformation(stack: dict[str, Any] | None) -> Iterator[Any]:
    client = boto3.client("cloudformation", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        if stack is None:
            message = f"Stack with id {STACK} does not exist"
            stub.add_client_error("describe_stacks", "ValidationError", message)
        else:
            stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": STACK})
        yield client


@pytest.mark.parametrize(("given", "architecture"), [("arm64", "arm64"), (None, "x86_64")], ids=["arm64", "absent"])
def test_a_stack_without_an_architecture_is_on_x86_64(given: str | None, architecture: str) -> None:
    described = described_by_cloudformation()
    named = [each for each in described["Parameters"] if each["ParameterKey"] != "Architecture"]
    chosen = [{"ParameterKey": "Architecture", "ParameterValue": given}] if given else []
    with cloudformation({**described, "Parameters": named + chosen}) as client:
        assert find_stack(STACK, client).architecture == architecture


@pytest.fixture(scope="module")
def world(aws_server: str) -> Iterator[Stack]:
    with running_stack(endpoint=aws_server) as running, pytest.MonkeyPatch.context() as patched:
        for name, value in running.environment(Path()).items():
            patched.setenv(name, value)
        fill(running)
        yield running


@pytest.fixture
def deployed(world: Stack) -> DeployedStack:
    with cloudformation(described_by_cloudformation()) as client:
        found = find_stack(STACK, client)
    return replace(
        found,
        uploads_bucket=UPLOADS_BUCKET,
        results_bucket=RESULTS_BUCKET,
        queue_url=world.queue_url,
        dead_letter_queue_url=world.dead_letter_queue_url,
    )


def fill(world: Stack) -> None:
    """Upload five recordings: two results of the newest model, one of an older model, one given up, one missing."""
    for key in ("a/new.wav", "a/failed.txt", "a/old.wav", "b/given-up.wav", "b/waiting.wav"):
        world.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=b"123")
    world.s3.put_object(Bucket=UPLOADS_BUCKET, Key="b/", Body=b"")  # a folder marker
    store(world, "a/new.wav", document("a/new.wav"))
    store(world, "a/failed.txt", document("a/failed.txt", status="failed"))
    old = MODEL.model_copy(update={"fingerprint": "sha256:old"})
    store(world, "a/old.wav", document("a/old.wav", model=old, status="no_speech"))
    store(world, "b/given-up.wav", document("b/given-up.wav", status="failed"), state="given-up")
    world.s3.put_object(Bucket=RESULTS_BUCKET, Key="results/a/new.wav.html", Body=b"<p>")


def document(
    key: str,
    *,
    status: Any = "classified",
    model: Model = MODEL,
    finished_at: datetime = NOW,
    error: str = "damaged",
) -> Result:
    scored: dict[str, Any] = {"emotion": "sad", "score": 0.9, "scores": {"sad": 0.9, "anger": 0.1}}
    return Result(
        status=status,
        source=Source(key=key),
        model=model,
        error=Error(code=error, message="No.") if status == "failed" else None,
        processing=Processing(
            finished_at=finished_at,
            decode_ms=0 if status == "failed" else 100,
            inference_ms=600 if status == "classified" else 0,
            version="1",
        ),
        **(scored if status == "classified" else {}),
    )


def store(world: Stack, key: str, result: Result, state: str = "done") -> None:
    world.s3.put_object(
        Bucket=RESULTS_BUCKET, Key=f"results/{key}.json", Body=result.to_json().encode(), Metadata={"state": state}
    )


# --------------------------------------------------------------------------------------------------------- the stack


def test_a_stack_is_read_from_its_outputs_and_parameters() -> None:
    with cloudformation(described_by_cloudformation(BackfillConcurrency="7", ResultsPrefix="r/")) as client:
        found = find_stack(STACK, client)
    deployed = Deployed(BackfillConcurrency="7", ResultsPrefix="r/")
    assert found.uploads_bucket == deployed.resources()["UploadsBucket"]["BucketName"]
    assert (found.results_prefix, found.backfill_concurrency, found.memory_size_mb) == ("r/", 7, 3008)
    assert (found.account, found.partition) == ("123456789012", "aws")
    assert stack_name_from_bucket(found.uploads_bucket) == STACK


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_is_read_from_either_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "eu-west-3")

    assert aws_client("sqs").meta.region_name == "eu-west-3"


def test_a_missing_region_is_reported_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    with pytest.raises(AwsRefused, match=r"^No AWS region is set\. Set AWS_REGION"):
        aws_client("sqs")


def test_an_empty_answer_means_that_the_stack_is_unknown() -> None:
    class Empty:
        def describe_stacks(self, **_: str) -> dict[str, list[object]]:
            return {"Stacks": []}

    with pytest.raises(StackUnknown, match="cannot find the stack"):
        find_stack(STACK, Empty())


def test_an_unknown_stack_is_named_in_the_error() -> None:
    with cloudformation(None) as client, pytest.raises(StackUnknown, match=STACK):
        find_stack(STACK, client)
    with (
        cloudformation({**described_by_cloudformation(), "Outputs": []}) as client,
        pytest.raises(StackUnknown, match="Deploy it again"),
    ):
        find_stack(STACK, client)
    with pytest.raises(StackUnknown, match="holidays"):
        stack_name_from_bucket("holidays")


# ---------------------------------------------------------------------------------------------------------- backfill


@pytest.mark.parametrize(("error", "done"), [("damaged", True), ("too_long", False), ("archived", False)])
def test_a_failure_that_another_setting_may_prevent_is_not_done(error: str, done: bool) -> None:
    failed = StoredResult("results/a.wav.json", document("a.wav", status="failed", error=error), state="done")
    assert is_done(failed, "sha256:new") is done


def test_a_forecast_counts_recordings_and_samples_their_results(world: Stack, deployed: DeployedStack) -> None:
    all_of_them = forecast(world.s3, deployed, Scope(UPLOADS_BUCKET), "sha256:new")
    assert (all_of_them.recordings, all_of_them.size_bytes, all_of_them.with_result) == (5, 15, 4)
    assert (all_of_them.sampled, all_of_them.share_done) == (4, 0.5)
    assert all_of_them.to_classify == 3
    assert all_of_them.work_s == pytest.approx(3 * 0.4)
    some = forecast(world.s3, deployed, Scope(UPLOADS_BUCKET, "b/"), "sha256:new")
    assert (some.recordings, some.with_result, some.to_classify) == (2, 1, 2)
    later = Scope(UPLOADS_BUCKET, created_after=datetime.now(UTC) + timedelta(hours=1))
    assert forecast(world.s3, deployed, later, "sha256:new").recordings == 0


def test_without_results_time_and_cost_are_unknown() -> None:
    unknown = Forecast(recordings=10, size_bytes=1, with_result=0, sampled=0, share_done=0.0, seconds_each=None)
    assert unknown.work_s is None
    assert unknown.cost_usd(3008) is None


def test_the_cost_adds_up_the_job_the_function_and_the_requests() -> None:
    a_million = Forecast(1_000_000, 1, 0, 200, 0.0, 1.0)
    job, invocations = 0.25 + 1.00, 0.20
    function = 1_000_000 * 2 * 16.6667e-6  # at 2,048 MB
    requests = 1_000_000 * (2 * 5e-6 + 4 * 0.4e-6)  # as tests/integration/test_scale.py counts them
    assert a_million.cost_usd(2048) == pytest.approx(job + invocations + function + requests)
    all_done = Forecast(1_000_000, 1, 1_000_000, 200, 1.0, 1.0)
    assert all_done.cost_usd(2048) == pytest.approx(job + invocations + 2 * 0.4)


def test_s3control_accepts_the_job(deployed: DeployedStack) -> None:
    client = boto3.client("s3control", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    request = job_request(deployed, Scope(UPLOADS_BUCKET, "calls/", NOW))
    with Stubber(client) as stub:
        # The stubber rejects parameters that the service model does not have.
        stub.add_response("create_job", {"JobId": "job-1"}, request)
        client.create_job(**request)
    assert request["Operation"]["LambdaInvoke"]["FunctionArn"].endswith("function:audio-emotion-backfill:1")
    assert request["RoleArn"] == Deployed().outputs()["BatchOperationsRoleArn"]
    generator = request["ManifestGenerator"]["S3JobManifestGenerator"]
    assert generator["SourceBucket"] == f"arn:aws:s3:::{UPLOADS_BUCKET}"
    assert generator["Filter"] == {"KeyNameConstraint": {"MatchAnyPrefix": ["calls/"]}, "CreatedAfter": NOW}
    report = request["Report"]
    assert (report["Bucket"], report["Prefix"]) == (f"arn:aws:s3:::{RESULTS_BUCKET}", "backfill")
    assert "Filter" not in job_request(deployed, Scope(UPLOADS_BUCKET))["ManifestGenerator"]["S3JobManifestGenerator"]


@contextmanager
def invoked(deployed: DeployedStack, *answers: str | dict[str, Any]) -> Iterator[Any]:
    """Lambda, in which each invocation of the pinned version ends with an error's code or an answer."""
    client = boto3.client("lambda", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    version = {"FunctionName": deployed.backfill_version_arn}
    with Stubber(client) as stub:
        for answer in answers:
            if isinstance(answer, str):
                stub.add_client_error("invoke", answer, "Lambda is initializing your function.")
            elif "State" in answer:
                stub.add_response("get_function", {"Configuration": answer}, version)
            else:
                stub.add_response("invoke", answer, {**version, "Payload": ANY})
        yield client
        stub.assert_no_pending_responses()


def payload(document: dict[str, Any]) -> StreamingBody:
    body = json.dumps(document).encode()
    return StreamingBody(io.BytesIO(body), len(body))


STARTED = {"StatusCode": 200, "Payload": payload({"results": []})}


@pytest.mark.parametrize(
    "error", ["CodeArtifactUserPendingException", "ResourceConflictException", "ResourceNotReadyException"]
)
def test_a_backfill_waits_until_an_inactive_version_is_active(
    deployed: DeployedStack, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    monkeypatch.setattr("botocore.waiter.time.sleep", lambda _s: None)
    states = ({"State": "Inactive"}, {"State": "Pending"}, {"State": "Active"})
    with invoked(deployed, error, *states, STARTED) as client:
        activate(client, deployed)
    with invoked(deployed, STARTED) as client:
        activate(client, deployed)


def test_a_function_that_does_not_start_is_reported(deployed: DeployedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = {"FunctionError": "Unhandled", "Payload": payload({"errorMessage": "exit status 1"})}
    with (
        invoked(deployed, crashed) as client,
        pytest.raises(AwsRefused, match=r"^The backfill function does not start: exit status 1$"),
    ):
        activate(client, deployed)
    with invoked(deployed, "AccessDeniedException") as client, pytest.raises(AwsRefused, match="refused the request"):
        activate(client, deployed)
    with (
        invoked(deployed, "ResourceConflictException", {"State": "Failed"}) as client,
        pytest.raises(AwsRefused, match="the backfill function failed"),
    ):
        activate(client, deployed)


def test_the_handler_answers_an_invocation_without_a_recording(
    deployed: DeployedStack, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handlers import batch_operations, processing

    monkeypatch.setenv("MODEL_DIR", str(package))
    processing.delivery.cache_clear()
    sent: list[str] = []

    class Lambda:
        def invoke(self, FunctionName: str, Payload: str) -> dict[str, Any]:  # noqa: N803 (boto3's names)
            assert FunctionName == deployed.backfill_version_arn
            sent.append(Payload)
            answer = batch_operations.handler(json.loads(Payload), LocalContext(60.0))
            return {"StatusCode": 200, "Payload": payload(answer)}

    activate(Lambda(), deployed)
    assert len(sent) == 1
    assert batch_operations.handler(json.loads(sent[0]), LocalContext(60.0))["results"] == []


@pytest.mark.parametrize(("confirmed", "dry_run"), [(True, False), (False, False), (True, True)])
def test_a_job_starts_only_after_confirmation(
    deployed: DeployedStack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: Path,
    confirmed: bool,
    dry_run: bool,
) -> None:
    client = boto3.client("s3control")
    original = boto3.client
    scope = Scope(UPLOADS_BUCKET)
    begun = confirmed and not dry_run
    with Stubber(client) as stub, invoked(deployed, *[STARTED] * begun) as function:
        stubbed = {"s3control": client, "lambda": function}
        monkeypatch.setattr(boto3, "client", lambda name: stubbed[name] if name in stubbed else original(name))
        if begun:
            request = {**job_request(deployed, scope), "ClientRequestToken": ANY}
            stub.add_response("create_job", {"JobId": "job-1"}, request)
            # S3 writes its report after the last task: the job is still active then.
            for status, done in (("Active", 2), ("Active", 5), ("Complete", 5)):
                progress = {
                    "TotalNumberOfTasks": 5,
                    "NumberOfTasksSucceeded": done,
                    "NumberOfTasksFailed": 0,
                }
                stub.add_response("describe_job", {"Job": {"Status": status, "ProgressSummary": progress}})
        pauses_s: list[float] = []
        monkeypatch.setattr("core.cli.backfill.time.sleep", pauses_s.append)
        rc = run_backfill(deployed, scope, package, confirm=lambda: confirmed, dry_run=dry_run, wait=True)
        stub.assert_no_pending_responses()
    printed = capsys.readouterr().out
    assert rc == (0 if begun or dry_run else 1)
    assert pauses_s == ([10.0, 10.0] if begun else [])
    assert "5 recordings" in printed
    assert "4 of them have a result" in printed
    assert "US dollars" in printed
    assert ("job-1" in printed, "5 succeeded, 0 failed" in printed) == (begun, begun)


# ----------------------------------------------------------------------------------------------------------- redrive


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


# ------------------------------------------------------------------------------------------------------------ status


def test_a_status_counts_uploads_results_and_messages(world: Stack, deployed: DeployedStack) -> None:
    status = read_status(deployed, world.s3, world.sqs, boto3.client("cloudwatch"), fingerprint="sha256:new")
    assert (status.uploads, status.uploads_bytes, status.results, status.without_result) == (5, 15, 4, 1)
    assert status.read == 4
    assert status.by_status == {
        "classified": 1, "no_speech": 1, "failed": 2, "given_up": 1, "stale": 1, "unreadable": 0,
    }  # fmt: skip
    assert status.waiting >= 5
    assert (status.in_flight, status.dead_letters, status.oldest_s) == (0, 0, None)


def test_a_status_reads_at_most_the_requested_number_of_results(world: Stack, deployed: DeployedStack) -> None:
    status = read_status(deployed, world.s3, world.sqs, boto3.client("cloudwatch"), sample=2)
    assert (status.results, status.read) == (4, 2)
    assert sum(status.by_status[name] for name in ("classified", "no_speech", "failed")) == 2
    assert status.by_status["stale"] == 0


def test_a_status_has_the_age_of_the_oldest_message_from_cloudwatch(
    deployed: DeployedStack, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dimensions = [{"Name": "QueueName", "Value": deployed.queue_url.rpartition("/")[2]}]
    now = datetime.now(UTC)  # NOW may be too old: the command reads the last 15 minutes
    points = [
        {"MetricName": "ApproximateAgeOfOldestMessage", "Dimensions": dimensions, "Value": value, "Timestamp": moment}
        for value, moment in ((30.0, now - timedelta(minutes=5)), (3725.0, now - timedelta(minutes=1)))
    ]
    boto3.client("cloudwatch").put_metric_data(Namespace="AWS/SQS", MetricData=points)
    assert run_status(deployed, package, sample=10, as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["oldest_s"] == 3725.0
    assert printed["judged"]["failed"] == 2  # a name of 1.0
    run_status(deployed, package, sample=10, as_json=False)
    shown = capsys.readouterr().out
    assert "1:02:05" in shown
    assert "uploads without a result" in shown
    assert read_manifest(package).fingerprint not in ("sha256:new", "sha256:old")
    assert "stale" in shown


def test_a_model_that_is_no_serving_package_is_refused(deployed: DeployedStack, tmp_path: Path) -> None:
    """Otherwise, no result would count as stale, and none as final."""
    with pytest.raises(PackageRefused, match="not a serving package"):
        run_status(deployed, tmp_path, sample=10, as_json=False)
    with pytest.raises(PackageRefused, match="not a serving package"):
        run_backfill(deployed, Scope(UPLOADS_BUCKET), tmp_path, confirm=lambda: True, dry_run=True, wait=False)


# ----------------------------------------------------------------------------------------------------------- helpers


def test_a_reservoir_sample_is_uniform() -> None:
    held = [0] * 20
    for seed in range(2000):
        sample = ReservoirSample(5, seed)
        for number in range(20):
            sample.offer(str(number))
        assert (len(sample.items), sample.seen) == (5, 20)
        for item in sample.items:
            held[int(item)] += 1
    # 500 each; four standard deviations of a binomial are 78.
    assert all(abs(count - 500) < 78 for count in held)


def test_threads_keep_the_order_and_read_ahead_a_bounded_number_of_items() -> None:
    begun = 0

    def items() -> Iterator[int]:
        nonlocal begun
        for number in range(10_000):
            begun += 1
            yield number

    answers = in_threads(lambda number: number * 2, items())
    assert [next(answers) for _ in range(3)] == [0, 2, 4]
    assert begun < 100


def test_every_command_has_a_help_text() -> None:
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {"backfill", "redrive", "status", "results"} <= commands
    assert all(command.callback.__doc__ for command in app.registered_commands if command.callback)
