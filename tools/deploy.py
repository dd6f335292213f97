"""Create or update a stack with the SAM CLI: `make deploy`.

The first deployment asks four questions and writes stacks/NAME.toml, a configuration file of the SAM CLI with every
parameter of the template. Later deployments read the file and ask nothing but the SAM CLI's confirmation.
"""

import argparse
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import typer

from core.errors import OperationFailed, StackUnknown
from core.operations.deployed_stack import aws_errors, find_stack
from core.operations.images import delete_old_versions, mark_unused, remove_marks
from tools.template import read_template

ROOT = Path(__file__).parents[1]
STACKS = ROOT / "stacks"

DEFAULT_STACK = "audio-emotion"
DEFAULT_ARCHITECTURE = "x86_64"
ASKED = {
    "AlarmEmail": "Email address for alarms (empty: none)",
    "ExistingUploadsBucket": "Existing bucket with recordings (empty: create a bucket)",
}
"""The parameters that a first deployment asks for."""
_STACK_NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, and return the exit status."""
    parser = argparse.ArgumentParser(prog="make deploy", description=__doc__)
    parser.add_argument("--sam", default="sam", help="the SAM CLI")
    parser.add_argument("--stack", help="name of the stack")
    parser.add_argument("--architecture", default=DEFAULT_ARCHITECTURE, help="the architecture of the built image")
    parser.add_argument("sam_arguments", nargs="*", help="further arguments of `sam deploy`")
    given = parser.parse_args(arguments)
    try:
        name, region = _stack(given.stack, given.architecture)
        return deploy(given.sam, name, region, given.sam_arguments)
    except (OperationFailed, ValueError) as error:
        typer.echo(error, err=True)
    except typer.Abort:
        typer.echo("\nNothing was deployed.", err=True)
    return 1


def deploy(sam: str, name: str, region: str, sam_arguments: Sequence[str]) -> int:
    """Create or update the repository and the stack, and return the exit status.

    Raises
    ------
    AwsRefused
        If AWS cannot be reached or refuses a request.
    """
    images = f"{name}-images"
    status = _sam(
        sam,
        ["--template-file", "layers/repository.yaml", "--stack-name", images, "--region", region],
        ["--parameter-overrides", f"Stack={name}", "--no-fail-on-empty-changeset"],
    )
    if status:
        return status
    with aws_errors(f"the stack {images}"):
        [stack] = boto3.client("cloudformation", region_name=region).describe_stacks(StackName=images)["Stacks"]
    [uri] = [output["OutputValue"] for output in stack["Outputs"] if output["OutputKey"] == "RepositoryUri"]
    repository = uri.partition("/")[2]
    ecr = boto3.client("ecr", region_name=region)
    remove_marks(ecr, repository)
    status = _sam(
        sam,
        ["--config-file", str(STACKS / f"{name}.toml"), "--image-repository", uri, "--resolve-s3"],
        ["--capabilities", "CAPABILITY_IAM", "--confirm-changeset", *sam_arguments],
    )
    if status == 0:
        lambda_client = boto3.client("lambda", region_name=region)
        account = uri.partition(".")[0]
        delete_old_versions(lambda_client, boto3.client("s3control", region_name=region), account, name)
        mark_unused(ecr, lambda_client, repository, name)
    return status


def _sam(sam: str, *arguments: Sequence[str]) -> int:
    command = [sam, "deploy", *(argument for group in arguments for argument in group)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _stack(name: str | None, architecture: str) -> tuple[str, str]:
    """Return the name and the region of the stack, and write its file after asking if there is none.

    Raises
    ------
    ValueError
        If the file is missing and there is no terminal to ask, or the name or the file is invalid, or if the image is
        for another architecture than the functions.
    """
    is_terminal = sys.stdin.isatty()
    if name is None and is_terminal:
        name = _ask("Name of the stack", DEFAULT_STACK, _STACK_NAME.fullmatch)
    name = name or DEFAULT_STACK
    if not _STACK_NAME.fullmatch(name):
        raise ValueError(f"{name} is not a stack's name: lower case, digits and hyphens, at most 24 characters.")
    file = STACKS / f"{name}.toml"
    if not file.exists():
        if not is_terminal:
            raise ValueError(f"{file.relative_to(ROOT)} does not exist. docs/how-to/deploy.md shows how to write it.")
        template = read_template(ROOT / "template.yaml")
        region = _ask("AWS region", boto3.session.Session().region_name or "us-east-1", _REGION.fullmatch)
        file.parent.mkdir(exist_ok=True)
        values = _answers(template)
        if architecture != DEFAULT_ARCHITECTURE:
            values["Architecture"] = architecture
        file.write_text(stack_file(name, region, values, template), encoding="utf-8")
        typer.echo(f"The answers are in {file.relative_to(ROOT)}, with every other parameter to change.")
    region = _region_in(file)
    _check_architecture(file, name, region, architecture)
    return name, region


def _region_in(file: Path) -> str:
    match = re.search(r'^region = "([^"]+)"', file.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"{file.relative_to(ROOT)} has no region.")
    return match[1]


def _check_architecture(file: Path, name: str, region: str, architecture: str) -> None:
    # Lambda accepts an image for another architecture, and then every invocation fails.
    # The SAM CLI also reads parameters from a list or from one string.
    match = re.search(r"""^[^#\n]*\bArchitecture *= *["']?(\w+)""", file.read_text(encoding="utf-8"), re.MULTILINE)
    expected = match[1] if match else _deployed_architecture(name, region)
    if architecture != expected:
        raise ValueError(
            f"The stack {name} has the Architecture {expected}, and the image is for {architecture}. Run make deploy "
            f'ARCH={expected}, or write Architecture = "{architecture}" into {file.relative_to(ROOT)}.'
        )


def _deployed_architecture(name: str, region: str) -> str:
    """Return the architecture that a stack keeps without a value in its file."""
    try:
        return find_stack(name, boto3.client("cloudformation", region_name=region)).architecture
    except StackUnknown:
        return DEFAULT_ARCHITECTURE


def _answers(template: Mapping[str, Any]) -> dict[str, str]:
    answers = {}
    for parameter, question in ASKED.items():
        pattern = re.compile(template["Parameters"][parameter]["AllowedPattern"])
        answers[parameter] = _ask(question, "", pattern.search)
    return {parameter: answer for parameter, answer in answers.items() if answer}


def _ask(question: str, default: str, is_valid: Callable[[str], object]) -> str:
    """Ask until the answer is valid, and return the answer or the default."""

    def check(answer: str) -> str:
        if not is_valid(answer.strip()):
            raise typer.BadParameter("not a valid answer")
        return answer.strip()

    return str(typer.prompt(question, default, show_default=bool(default), value_proc=check))


def stack_file(name: str, region: str, values: Mapping[str, str], template: Mapping[str, Any]) -> str:
    """Return a configuration file of the SAM CLI that describes every parameter and sets some."""
    lines = [
        "# A stack of Audio Emotion: `make deploy STACK=" + name + "` reads this file (docs/how-to/deploy.md).",
        "# A parameter without a value here keeps the value of the deployed stack, or gets its default in a new one.",
        "version = 0.1",
        "",
        "[default.deploy.parameters]",
        f'stack_name = "{name}"',
        f'region = "{region}"',
        "",
        "[default.deploy.parameters.parameter_overrides]",
    ]
    for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        lines += ["", f"# ---- {group['Label']['default']}"]
        for parameter in group["Parameters"]:
            described = template["Parameters"][parameter]
            allowed = described.get("AllowedValues")
            text = described["Description"] + (f" One of: {', '.join(map(str, allowed))}." if allowed else "")
            lines += ["", *textwrap.wrap(text, 118, initial_indent="# ", subsequent_indent="# ")]
            mark = "" if parameter in values else "# "
            value = json.dumps(str(values.get(parameter, described["Default"])), ensure_ascii=False)
            lines.append(f"{mark}{parameter} = {value}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
