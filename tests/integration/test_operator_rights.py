"""The policy for operators, docs/how-to/operator-policy.json, grants exactly the calls that each command makes."""

import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from core.benchmark import Answer, Measurement
from core.cli.app import app
from core.delivery.keys import leases_prefix_for
from core.errors import GivenUp
from core.local.stack import Stack, running_stack
from core.operations.images import UNUSED
from core.results import Model, Result, Source
from tests.support.cloudformation import ACCOUNT, REGION, STACK, TEMPLATE, Deployed
from tests.support.permissions import Right, as_list, recorded
from tools.deploy import deploy

POLICY_FILE = Path(__file__).parents[2] / "docs" / "how-to" / "operator-policy.json"
COMMANDS = ("Status", "Results", "Redrive", "Backfill", "Benchmark", "Forget", "Deploy")
DEPLOYED = Deployed()
UPLOADS, RESULTS = (DEPLOYED.resources()[name]["BucketName"] for name in ("UploadsBucket", "ResultsBucket"))
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-uploads"
ROLE = DEPLOYED.outputs()["BatchOperationsRoleArn"]
VERSION = DEPLOYED.outputs()["BackfillVersionArn"]
OLD_VERSION = f"{VERSION.rpartition(':')[0]}:0"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{STACK}-functions@sha256:{'0' * 64}"

WITHOUT_A_CALL = {
    "Forget": [Right("s3:ListBucket", f"arn:aws:s3:::{UPLOADS}")],
    "Redrive": [Right("sqs:SendMessage", QUEUE)],
    "Backfill": [Right("iam:PassRole", ROLE)],
}
"""Rights that no call names.

Without the first, S3 answers 403 for an absent upload. SQS moves messages in the caller's name. S3 checks that the
caller may pass the role of a job.
"""

ARGUMENTS = {"Backfill": ("--yes", "--wait"), "Forget": ("a.wav", "--yes")}

MODEL = Model(id="m", revision="r", precision="fp32", fingerprint="sha256:0", labels=("anger", "sad"))

AwsAnswer = dict[str, Any] | str
"""An answer of AWS, or the code of an error."""
ANSWERS: dict[str, list[AwsAnswer]] = {
    "cloudformation.DescribeStacks": [
        {
            "Stacks": [
                {
                    "Outputs": [
                        {"OutputKey": key, "OutputValue": value}
                        for key, value in {**DEPLOYED.outputs(), "RepositoryUri": IMAGE.partition("@")[0]}.items()
                    ],
                    "Parameters": [
                        {"ParameterKey": name, "ParameterValue": str(described["Default"])}
                        for name, described in TEMPLATE["Parameters"].items()
                    ],
                }
            ]
        }
    ],
    "cloudwatch.GetMetricStatistics": [{"Datapoints": []}],
    "sqs.StartMessageMoveTask": [{"TaskHandle": "t"}],
    "sqs.ListMessageMoveTasks": [{"Results": [{"Status": "COMPLETED"}]}],
    "lambda.GetFunction": [
        {
            "Configuration": {
                "FunctionName": f"{STACK}-classify",
                "MemorySize": 3008,
                "Timeout": 900,
                "State": "Active",
            },
            "Code": {"ResolvedImageUri": IMAGE},
        }
    ],
    "lambda.GetAlias": [{"FunctionVersion": VERSION.rpartition(":")[2]}],
    "lambda.ListVersionsByFunction": [
        {"Versions": [{"FunctionArn": arn, "Version": arn.rpartition(":")[2]} for arn in (VERSION, OLD_VERSION)]}
    ],
    "lambda.DeleteFunction": [{}],
    "s3-control.CreateJob": [{"JobId": "job-1"}],
    "s3-control.ListJobs": [{"Jobs": [{"JobId": "job-1"}]}],
    "s3-control.DescribeJob": [{"Job": {"Status": "Complete", "Operation": {}}}],
}
"""The answers of services that moto lacks. The last one is repeated."""


def policy(command: str) -> set[Right]:
    """Return the rights that the policy grants to a command of the test's stack."""
    text = POLICY_FILE.read_text(encoding="utf-8")
    for name, value in (("STACK", STACK), ("ACCOUNT", ACCOUNT), ("REGION", REGION)):
        text = text.replace(name, value)
    return {
        Right(action, resource)
        for statement in json.loads(text)["Statement"]
        if command in statement["Sid"] or ("EveryCommand" in statement["Sid"] and command != "Deploy")
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


@pytest.fixture
def stack(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack with a recording, its result and its lease, and with a dead letter."""
    with running_stack(endpoint=aws_server) as running:
        for name, value in running.environment(Path("unused")).items():
            monkeypatch.setenv(name, value)
        for bucket in (UPLOADS, RESULTS):
            running.s3.create_bucket(Bucket=bucket)
            running.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        document = Result.failed(Source(key="a.wav"), MODEL, GivenUp("No.")).to_json().encode()
        lease_key = leases_prefix_for("results/a.wav.json", "claims/") + "lease"
        for bucket, key in ((UPLOADS, "a.wav"), (RESULTS, "results/a.wav.json"), (RESULTS, lease_key)):
            running.s3.put_object(Bucket=bucket, Key=key, Body=document)
        event = (Path(__file__).parents[2] / "events" / "s3-put.json").read_text(encoding="utf-8")
        for body in (event, event.replace(json.loads(event)["Records"][0]["s3"]["object"]["key"], "a.wav")):
            running.sqs.send_message(QueueUrl=running.dead_letter_queue_url, MessageBody=body)
        monkeypatch.setattr("core.operations.forget._LONG_POLL_S", 0)
        monkeypatch.setattr("core.operations.forget.POLL_INTERVAL_S", 0.01)
        monkeypatch.setattr("botocore.waiter.time.sleep", lambda _s: None)
        yield running


def benchmark_answer(model: Model) -> bytes:
    """Return the answer of the function that classifies uploads to the benchmark event."""
    recordings = tuple(
        Measurement(name=name, duration_s=2.0, utterances=1, total_ms=(90.0,), inference_ms=(80,))
        for name in ("1 s", "2 s", "4 s", "6 s", "conversation")
    )
    machine = {"processor": "p", "architecture": "x86_64", "flags": (), "cores": 2, "threads": 2, "version": "1.0.0"}
    figures = {"speakers": "off", "start_ms": 900, "peak_memory_mb": 200, "recordings": recordings}
    return Answer(**machine, **figures, model=model).model_dump_json().encode()  # type: ignore[arg-type]


def answer_for_aws() -> None:
    """Answer the calls to services that moto lacks."""
    assert boto3.DEFAULT_SESSION is not None

    def prepared(left: list[AwsAnswer]) -> Callable[..., Any]:
        def reply(**_: Any) -> Any:
            chosen = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(chosen, str):
                return SimpleNamespace(status_code=409), {"Error": {"Code": chosen, "Message": "No."}}
            return SimpleNamespace(status_code=200), chosen

        return reply

    # The first invocation of an inactive function fails.
    invoked: AwsAnswer = {"StatusCode": 200, "Payload": io.BytesIO(benchmark_answer(MODEL))}
    for operation, answers in {**ANSWERS, "lambda.Invoke": ["ResourceConflictException", invoked]}.items():
        boto3.DEFAULT_SESSION.events.register(f"before-call.{operation}", prepared(list(answers)))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_operator_has_exactly_the_rights_that_a_command_needs(
    stack: Stack, package: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    if command == "Deploy":
        repository = {"repositoryName": f"{STACK}-functions"}
        ecr = boto3.client("ecr")
        ecr.create_repository(**repository)
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {}, "layers": []})
        ecr.put_image(**repository, imageManifest=manifest, imageTag=f"{UNUSED}1")
        ecr.put_image(**repository, imageManifest=manifest, imageTag="1")
    with recorded() as calls:
        answer_for_aws()
        if command == "Deploy":
            done = subprocess.CompletedProcess[str]([], 0)
            monkeypatch.setattr("tools.deploy.subprocess.run", lambda *_, **__: done)
            assert deploy("sam", STACK, REGION, []) == 0
        else:
            model = ["--model", str(package)] if command in ("Status", "Backfill") else []
            ended = CliRunner().invoke(app, [command.lower(), *ARGUMENTS.get(command, ()), *model, "--stack", STACK])
            assert ended.exit_code == 0, ended.output
    rights = policy(command)
    assert not [call for call in set(calls) if not any(right.covers(call) for right in rights)]
    needed = [*calls, *WITHOUT_A_CALL.get(command, ())]
    assert not [right for right in rights if not any(right.covers(call) for call in needed)]


def test_every_statement_names_a_command() -> None:
    statements = json.loads(POLICY_FILE.read_text(encoding="utf-8"))["Statement"]
    for statement in statements:
        assert any(command in statement["Sid"] for command in (*COMMANDS, "EveryCommand"))
    assert len({statement["Sid"] for statement in statements}) == len(statements)
