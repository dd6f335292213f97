"""A backfill of a deployed stack: its forecast, the version that it runs, and its job."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from core.cli.backfill import run_backfill
from core.errors import AwsRefused
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack
from core.local.workers import LocalContext
from core.operations.backfill import Forecast, Scope, activate, forecast, is_done, job_request
from core.operations.deployed_stack import DeployedStack
from core.operations.results import StoredResult
from tests.support.cloudformation import Deployed
from tests.support.operations import NOW, document


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
