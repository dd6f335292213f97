"""`make deploy`, with moto as CloudFormation and ECR, and a recorder of the calls of the SAM CLI."""

import hashlib
import io
import itertools
import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from core.operations.images import UNUSED, delete_old_versions, mark_unused, remove_marks
from tests.support.cloudformation import ACCOUNT, STACK, TEMPLATE
from tests.support.operations import cloudformation, described_by_cloudformation
from tools.deploy import ASKED, deploy, main, stack_file
from tools.template import read_template

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"
REPOSITORY = read_template(ROOT / "layers" / "repository.yaml")


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)


class Terminal(io.StringIO):
    """Standard input of a user who types some lines."""

    def isatty(self) -> bool:
        return True


class Checkout:
    """A copy of what a deployment reads of the checkout, with a `sam` that records its calls."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name in ("core", "tools", "layers", "template.yaml"):
            (folder / name).symlink_to(ROOT / name)
        monkeypatch.setattr("tools.deploy.ROOT", folder)
        monkeypatch.setattr("tools.deploy.STACKS", folder / "stacks")
        self.calls: list[list[str]] = []

    def deploy(self, *arguments: str, answers: str | None = None) -> tuple[int, str]:
        """Deploy with the answers on a terminal, or without one, and return the exit status and the output.

        The deployment of the stack itself fails.
        """

        def sam(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
            self.calls.append(command[1:])
            if "--template-file" not in command:
                return subprocess.CompletedProcess(command, 3)
            create_stack(command)
            return subprocess.CompletedProcess(command, 0)

        with self._monkeypatch.context() as patched:
            patched.setattr("tools.deploy.subprocess.run", sam)
            patched.setattr("sys.stdin", io.StringIO() if answers is None else Terminal(answers))
            status = main(["--sam", "sam", *arguments])
        printed = self._capsys.readouterr()
        return status, printed.out + printed.err

    def file(self, name: str = "audio-emotion") -> dict[str, Any]:
        text = (self.folder / "stacks" / f"{name}.toml").read_text(encoding="utf-8")
        parameters: dict[str, Any] = tomllib.loads(text)["default"]["deploy"]["parameters"]
        return parameters


def create_stack(arguments: list[str]) -> None:
    """Create the stack of the repository, as `sam deploy` does."""
    given = dict(itertools.pairwise(arguments))
    name = given["--stack-name"]
    client = boto3.client("cloudformation", region_name=given["--region"])
    if not any(stack["StackName"] == name for stack in client.describe_stacks()["Stacks"]):
        parameter: Any = {"ParameterKey": "Stack", "ParameterValue": given["--parameter-overrides"].partition("=")[2]}
        body = (ROOT / given["--template-file"]).read_text(encoding="utf-8")
        client.create_stack(StackName=name, TemplateBody=body, Parameters=[parameter])


@pytest.fixture
def checkout(
    tmp_path: Path, aws: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Checkout:
    return Checkout(tmp_path, monkeypatch, capsys)


# ---------------------------------------------------------------------------------------------------------- questions


def test_the_first_deployment_asks_four_questions(checkout: Checkout) -> None:
    status, output = checkout.deploy(answers="calls\neu-central-1\nops@example.com\n\n")
    assert status == 3, output
    assert output.count(": ") >= 4
    assert checkout.file("calls") == {
        "stack_name": "calls",
        "region": "eu-central-1",
        "parameter_overrides": {"AlarmEmail": "ops@example.com"},
    }
    first, second = checkout.calls
    assert first[:5] == ["deploy", "--template-file", "layers/repository.yaml", "--stack-name", "calls-images"]
    assert second[:3] == ["deploy", "--config-file", str(checkout.folder / "stacks" / "calls.toml")]
    uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/calls-functions"
    assert second[3:] == [
        *("--image-repository", uri, "--resolve-s3"),
        *("--capabilities", "CAPABILITY_IAM", "--confirm-changeset"),
    ]


def test_empty_answers_mean_the_defaults(checkout: Checkout) -> None:
    status, output = checkout.deploy(answers="\n\n\n\n")
    assert status == 3, output
    assert checkout.file() == {"stack_name": "audio-emotion", "region": REGION, "parameter_overrides": {}}


def test_an_invalid_answer_is_asked_again(checkout: Checkout) -> None:
    answers = "Calls_1\ncalls\nfrankfurt\neu-central-1\nnobody\nops@example.com\nBUCKET\nrecordings\n"
    status, output = checkout.deploy(answers=answers)
    assert status == 3
    assert output.count("not a valid answer") == 4
    assert checkout.file("calls")["parameter_overrides"] == {
        "AlarmEmail": "ops@example.com",
        "ExistingUploadsBucket": "recordings",
    }


def test_a_later_deployment_asks_nothing(checkout: Checkout) -> None:
    checkout.deploy(answers="\n\n\n\n")
    arguments = ("--stack", "audio-emotion", "--", "--no-confirm-changeset", "--parameter-overrides", "Paused=true")
    status, output = checkout.deploy(*arguments)
    assert status == 3, output
    assert checkout.calls[-1][-3:] == ["--no-confirm-changeset", "--parameter-overrides", "Paused=true"]
    assert output == ""


def test_the_stack_of_an_image_for_arm64_has_functions_for_arm64(checkout: Checkout) -> None:
    status, output = checkout.deploy("--architecture", "arm64", answers="\n\n\n\n")
    assert status == 3, output
    assert checkout.file()["parameter_overrides"] == {"Architecture": "arm64"}
    assert checkout.deploy("--architecture", "arm64", "--stack", "audio-emotion")[0] == 3


@pytest.mark.parametrize(
    ("overrides", "architecture", "built"),
    [
        ('[default.deploy.parameters.parameter_overrides]\nArchitecture = "arm64"\n', "arm64", "x86_64"),
        ('parameter_overrides = "Paused=true Architecture=arm64"\n', "arm64", "x86_64"),
        ('[default.deploy.parameters.parameter_overrides]\n# Architecture = "arm64"\n', "x86_64", "arm64"),
        ("", "x86_64", "arm64"),
    ],
    ids=["table", "string", "comment", "nothing"],
)
def test_an_image_for_another_architecture_is_not_deployed(
    checkout: Checkout, overrides: str, architecture: str, built: str
) -> None:
    (checkout.folder / "stacks").mkdir()
    head = f'version = 0.1\n[default.deploy.parameters]\nstack_name = "calls"\nregion = "{REGION}"\n'
    (checkout.folder / "stacks" / "calls.toml").write_text(head + overrides)

    status, output = checkout.deploy("--stack", "calls", "--architecture", built)

    assert (status, checkout.calls) == (1, [])
    assert f"The stack calls has the Architecture {architecture}, and the image is for {built}." in output
    assert checkout.deploy("--stack", "calls", "--architecture", architecture)[0] == 3


def test_a_file_without_the_architecture_keeps_that_of_the_deployed_stack(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout.folder / "stacks").mkdir()
    head = f'version = 0.1\n[default.deploy.parameters]\nstack_name = "{STACK}"\nregion = "{REGION}"\n'
    (checkout.folder / "stacks" / f"{STACK}.toml").write_text(head)
    with cloudformation(described_by_cloudformation(Architecture="arm64")) as client:
        monkeypatch.setattr("tools.deploy.boto3.client", lambda *_, **__: client)
        status, output = checkout.deploy("--stack", STACK, "--architecture", "x86_64")

    assert (status, checkout.calls) == (1, [])
    assert f"The stack {STACK} has the Architecture arm64, and the image is for x86_64." in output


def test_without_a_terminal_a_missing_file_is_an_error(checkout: Checkout) -> None:
    status, output = checkout.deploy("--stack", "calls")
    assert (status, checkout.calls) == (1, [])
    assert output == "stacks/calls.toml does not exist. docs/how-to/deploy.md shows how to write it.\n"
    status, output = checkout.deploy("--stack", "Calls_1")
    assert status == 1
    assert output.startswith("Calls_1 is not a stack's name")


def test_the_end_of_the_input_deploys_nothing(checkout: Checkout) -> None:
    status, output = checkout.deploy(answers="calls\n")
    assert (status, checkout.calls) == (1, [])
    assert "Nothing was deployed." in output
    assert not (checkout.folder / "stacks").exists()


def test_a_terminal_is_asked() -> None:
    terminal, child = pty.openpty()
    command = [sys.executable, "-m", "tools.deploy"]
    with subprocess.Popen(command, cwd=ROOT, stdin=child, stdout=child, stderr=child) as run:
        os.close(child)
        os.write(terminal, b"Calls_1\n\x04")
        output = b""
        while True:
            try:
                output += os.read(terminal, 4096)
            except OSError:  # the process has closed the terminal
                break
        os.close(terminal)
    assert run.returncode == 1
    assert b"Name of the stack [audio-emotion]: " in output
    assert b"not a valid answer" in output
    assert b"Nothing was deployed." in output


def test_the_stack_file_describes_every_parameter() -> None:
    values = {"AlarmEmail": 'a"b\\c@example.com'}
    text = stack_file("calls", REGION, values, TEMPLATE)
    assert tomllib.loads(text)["default"]["deploy"]["parameters"]["parameter_overrides"] == values
    assert max(map(len, text.splitlines())) <= 120
    # Each commented line sets the default.
    lines = [line.removeprefix("# ") for line in text.splitlines() if " = " in line and line.startswith("# ")]
    defaults = tomllib.loads("\n".join(lines))
    assert {**defaults, **values}.keys() == TEMPLATE["Parameters"].keys()
    assert defaults == {name: str(TEMPLATE["Parameters"][name]["Default"]) for name in defaults}
    prose = " ".join(line.removeprefix("# ") for line in text.splitlines())
    for described in TEMPLATE["Parameters"].values():
        assert described["Description"] in prose
    assert set(ASKED) <= set(TEMPLATE["Parameters"])


# ------------------------------------------------------------------------------------------------------------- images


def push(ecr: Any, repository: str, number: int) -> str:
    """Push an image and return its digest."""
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    config = {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": 1,
        "digest": f"sha256:{number:064d}",
    }
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
    text = json.dumps(manifest)
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    # ECR computes the digest, moto does not.
    ecr.put_image(repositoryName=repository, imageManifest=text, imageTag=f"image-{number}", imageDigest=digest)
    return digest


class Functions:
    """Lambda with functions whose versions use images."""

    class exceptions:  # noqa: N801 (boto3's name)
        class ResourceNotFoundException(Exception):
            pass

    def __init__(self, **versions: dict[str, str]) -> None:
        self.versions = versions
        self.deleted: list[str] = []

    def get_paginator(self, _name: str) -> "Functions":
        return self

    def paginate(self, FunctionName: str) -> list[dict[str, Any]]:  # noqa: N803
        name = FunctionName.rpartition("-")[2]
        if name not in self.versions:
            raise self.exceptions.ResourceNotFoundException
        return [
            {"Versions": [{"Version": version, "FunctionArn": arn(name, version)}]} for version in self.versions[name]
        ]

    def get_function(self, FunctionName: str) -> dict[str, Any]:  # noqa: N803
        *_, name, version = FunctionName.split(":")
        return {"Code": {"ResolvedImageUri": f"uri@{self.versions[name.rpartition('-')[2]][version]}"}}

    def get_alias(self, FunctionName: str, Name: str) -> dict[str, Any]:  # noqa: N803
        return {"FunctionVersion": max(self.versions["backfill"])}

    def delete_function(self, FunctionName: str) -> None:  # noqa: N803
        self.deleted.append(FunctionName)
        *_, version = FunctionName.split(":")
        del self.versions["backfill"][version]


def arn(function: str, version: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:calls-{function}:{version}"


@pytest.fixture
def ecr(aws: None) -> Any:
    client = boto3.client("ecr", region_name=REGION)
    for found in client.describe_repositories()["repositories"]:  # those of other tests
        client.delete_repository(repositoryName=found["repositoryName"], force=True)
    client.create_repository(repositoryName="calls-functions")
    return client


def marked(ecr: Any) -> set[str]:
    found = ecr.describe_images(repositoryName="calls-functions")["imageDetails"]
    return {
        image["imageDigest"] for image in found if any(tag.startswith(UNUSED) for tag in image.get("imageTags", []))
    }


def test_only_images_that_no_version_uses_are_marked(ecr: Any) -> None:
    digests = [push(ecr, "calls-functions", number) for number in range(4)]
    functions = Functions(
        classify={"$LATEST": digests[3]}, backfill={"$LATEST": digests[3], "1": digests[1], "2": digests[3]}
    )
    assert mark_unused(ecr, functions, "calls-functions", "calls") == 2
    assert marked(ecr) == {digests[0], digests[2]}
    remove_marks(ecr, "calls-functions")
    assert marked(ecr) == set()
    assert len(ecr.describe_images(repositoryName="calls-functions")["imageDetails"]) == 4, "no image is deleted"


def test_a_version_stays_while_a_job_may_invoke_it() -> None:
    functions = Functions(backfill={"$LATEST": "d", "1": "a", "2": "b", "3": "c", "4": "d"})
    s3control = boto3.client("s3control", region_name=REGION, aws_access_key_id="x", aws_secret_access_key="x")
    pinned = {"LambdaInvoke": {"FunctionArn": arn("backfill", "2")}}
    with Stubber(s3control) as stub:
        stub.add_response("list_jobs", {"Jobs": [{"JobId": "job-1"}], "NextToken": "more"})
        stub.add_response("describe_job", {"Job": {"Operation": pinned}})
        stub.add_response("list_jobs", {"Jobs": [{"JobId": "job-2"}]})
        stub.add_response("describe_job", {"Job": {"Operation": {"S3PutObjectCopy": {}}}})
        assert delete_old_versions(functions, s3control, ACCOUNT, "calls") == 2
        stub.assert_no_pending_responses()
    assert functions.deleted == [arn("backfill", "1"), arn("backfill", "3")]


def test_the_lifecycle_rule_expires_only_marked_images() -> None:
    policy = REPOSITORY["Resources"]["Repository"]["Properties"]["LifecyclePolicy"]["LifecyclePolicyText"]
    [rule] = json.loads(policy)["rules"]
    assert rule["selection"]["tagStatus"] == "tagged"
    assert rule["selection"]["tagPatternList"] == [f"{UNUSED}*"]


@pytest.mark.parametrize("status", [0, 3])
def test_a_deployment_marks_unused_images_only_at_its_end(
    ecr: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    digests = [push(ecr, "calls-functions", number) for number in range(3)]
    functions = Functions(classify={"$LATEST": digests[2]}, backfill={"1": digests[1], "2": digests[2]})
    mark_unused(ecr, Functions(backfill={"2": digests[2]}), "calls-functions", "calls")
    during: list[set[str]] = []

    def sam(command: list[str], **_: Any) -> Any:
        if "--config-file" in command:
            during.append(marked(ecr))
            return subprocess.CompletedProcess(command, status)
        return subprocess.CompletedProcess(command, 0)

    class Others:
        def describe_stacks(self, StackName: str) -> dict[str, Any]:  # noqa: N803
            uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/calls-functions"
            return {"Stacks": [{"Outputs": [{"OutputKey": "RepositoryUri", "OutputValue": uri}]}]}

        def list_jobs(self, **_: Any) -> dict[str, Any]:
            return {"Jobs": []}

    clients = {"ecr": ecr, "lambda": functions}
    monkeypatch.setattr("tools.deploy.subprocess.run", sam)
    monkeypatch.setattr("tools.deploy.boto3.client", lambda name, **_: clients.get(name, Others()))
    assert deploy("sam", "calls", REGION, []) == status
    assert during == [set()]
    assert marked(ecr) == (set() if status else {digests[0], digests[1]})
    assert functions.deleted == ([] if status else [arn("backfill", "1")])
