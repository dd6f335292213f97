"""`audio-emotion benchmark` against a server with Lambda's API, behind which the real handler runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner, Result

from core import benchmark
from core.cli.app import app
from core.deadline import Deadline
from core.local.stack import Stack
from core.local.workers import LocalContext
from core.model.classifier import EmotionClassifier
from core.operations.benchmark import run_on
from core.operations.costs import CALL, CLIP, PROCESSORS, S3_WAIT_S, expected_usd, lambda_usd
from core.pipeline import Pipeline
from core.settings import MediaLimits, SegmentationSettings
from tests.support.cloudformation import STACK, TEMPLATE, Deployed
from tests.support.lambda_api import REPORT, LambdaApi

NAME = f"{STACK}-classify"
ARN = f"arn:aws:lambda:eu-west-3:123456789012:function:{NAME}"
CONFIGURATION = {
    "FunctionName": NAME,
    "Architectures": ["arm64"],
    "MemorySize": 1769,
    "Timeout": 300,
    "EphemeralStorage": {"Size": 2560},
}


@pytest.fixture
def stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("COLUMNS", "200")
    return stack


@pytest.fixture(scope="module")
def answer(classifier: EmotionClassifier) -> dict[str, Any]:
    """The answer of a real benchmark."""
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
    return benchmark.run(benchmark.Request(rounds=1), pipeline, Deadline(), 1).model_dump(mode="json")


def real_handler(event: Any) -> Any:
    from handlers.s3_upload import handler

    return handler(event, LocalContext(900.0))


Served = Callable[..., LambdaApi]


@pytest.fixture
def served(stack: Stack, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Return a function that serves a function behind Lambda's API, by default one with a stored answer."""
    with ExitStack() as running:

        def serve(function: Callable[[Any], Any] = lambda _event: answer, **options: Any) -> LambdaApi:
            api = running.enter_context(LambdaApi(function, CONFIGURATION, **options).serving())
            monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", api.endpoint)
            return api

        yield serve


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["benchmark", "--rounds", "1", *arguments])


def figures(*arguments: str) -> dict[str, Any]:
    ended = run("--json", *arguments)
    assert ended.exit_code == 0, ended.output
    # The handler in this process also prints its metrics.
    parsed: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return parsed


def reason(*arguments: str) -> str:
    ended = run("--function", NAME, *arguments)
    assert ended.exit_code == 1
    return str(ended.exception)


def test_the_figures_come_from_the_function_its_configuration_and_lambda_s_report(served: Served) -> None:
    api = served(real_handler)
    found = figures("--function", NAME)
    assert api.invoked == [NAME]
    assert found["function"] | {"region": ""} == {
        "name": NAME,
        "region": "",
        "architecture": "arm64",
        "memory_mb": 1769,
        "timeout_s": 300,
        "tmp_mb": 2560,
    }
    assert found["report"] == {"billed_ms": 5532, "max_memory_mb": 412, "init_ms": 1320.15}
    recordings = found["benchmark"]["recordings"]
    assert [each["name"] for each in recordings] == ["1 s", "2 s", "4 s", "6 s", "conversation"]
    [clip_ms], [call_ms] = recordings[1]["total_ms"], recordings[4]["total_ms"]
    clip_s = clip_ms / 1000 + S3_WAIT_S
    call_s = call_ms / 1000 * 300 / recordings[4]["duration_s"] + S3_WAIT_S
    assert found["usd_per_1000_hours"] == {
        "utterances": pytest.approx(lambda_usd(CLIP, clip_s, 1769, "arm64", tmp_mb=2560)),
        "calls": pytest.approx(lambda_usd(CALL, call_s, 1769, "arm64", tmp_mb=2560)),
    }


def test_the_tables_show_the_function_beside_the_documents_processors(served: Served) -> None:
    served()
    ended = run("--function", ARN)
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    assert f"{NAME} in eu-west-3: arm64, 1,769 MB, timeout 300 s" in lines[0]
    assert "1,320 ms, a cold start" in ended.stdout
    assert "412 MB" in ended.stdout
    assert sum("Graviton2 (modelled)" in line for line in lines) == 2
    [calls] = [line for line in lines if line.startswith("calls of 5 min")]
    assert calls.split()[-3:] == [f"{expected_usd(CALL, each, 1769):,.2f}" for each in PROCESSORS]
    assert next(line for line in lines if line.startswith("utterance of 6 s")).count("ms") == 2 + len(PROCESSORS)


def test_the_option_has_the_limits_of_the_event() -> None:
    shown = " ".join(CliRunner().invoke(app, ["benchmark", "--help"], env={"COLUMNS": "300"}).output.split())
    assert f"[1<=x<={benchmark.MAX_ROUNDS}] How often each recording is classified" in shown
    assert f"if the timeout permits. [default: {benchmark.DEFAULT_ROUNDS}]" in shown


def test_a_warm_environment_tells_how_long_its_start_took(served: Served) -> None:
    served(log=REPORT.replace("\tInit Duration: 1320.15 ms", ""))
    assert "the environment was already warm" in run("--function", NAME).stdout
    served(log="")
    assert figures("--function", NAME)["report"] is None


def test_the_function_is_that_of_the_stack(served: Served, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    api = served()
    described = {
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in Deployed().outputs().items()],
        "Parameters": [
            {"ParameterKey": name, "ParameterValue": str(parameter["Default"])}
            for name, parameter in TEMPLATE["Parameters"].items()
        ],
    }
    original = boto3.client

    class CloudFormation:
        def describe_stacks(self, StackName: str) -> Any:  # noqa: N803 (boto3's name)
            assert StackName == STACK
            return {"Stacks": [described]}

    def client(service: str, **options: Any) -> Any:
        return CloudFormation() if service == "cloudformation" else original(service, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(boto3, "client", client)
    figures("--stack", STACK)
    assert api.invoked == [NAME]


def test_a_throttled_invocation_is_not_repeated_and_is_explained(served: Served) -> None:
    api = served(refusals=[(429, "TooManyRequestsException", "Rate Exceeded.")])
    assert reason().startswith(f"Lambda throttled the function {NAME}: all of its concurrency")
    assert len(api.invoked) == 1


def test_a_missing_permission_is_named(served: Served) -> None:
    message = "User: u is not authorized to perform: lambda:InvokeFunction on resource: r"
    served(refusals=[(403, "AccessDeniedException", message)])
    assert reason() == f"AWS refused the request for the function {NAME}: {message}"


def test_an_unknown_function_is_named(served: Served) -> None:
    served(refusals=[(404, "ResourceNotFoundException", f"Function not found: {ARN}")])
    assert reason() == f"AWS cannot find the function {NAME} in this account and region."


def test_an_inactive_function_is_invoked_again(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.waiter.time.sleep", lambda _s: None)
    api = served(refusals=[(409, "ResourceConflictException", "The function is inactive.")])
    api.configuration = {**CONFIGURATION, "State": "Active"}
    figures("--function", NAME)
    assert len(api.invoked) == 2


def test_a_function_of_an_older_version_is_explained(served: Served) -> None:
    from handlers.events import uploads_in

    served(uploads_in)  # the handler before it knew the benchmark
    told = reason()
    assert told.startswith(f"The function {NAME} does not accept the benchmark: The event is neither an S3 event nor")
    assert told.endswith("deploy the stack again if it has another version.")


def test_the_backfill_function_is_refused(served: Served) -> None:
    from handlers.batch_operations import handler

    served(lambda event: handler(event, LocalContext(900.0)))
    assert "The event is not a task of S3 Batch Operations" in reason()


@pytest.mark.parametrize("answer", [{"uploads": 0}, None, []], ids=["object", "null", "list"])
def test_another_function_s_answer_is_refused(served: Served, answer: Any) -> None:
    served(lambda _event: answer)
    assert reason().startswith(f"The answer of the function {NAME} is not that of this version's benchmark.")


def test_a_function_that_times_out_or_refuses_its_speech_is_reported(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(_event: Any) -> Any:
        raise TimeoutError("2026-11-27 Task timed out after 300.00 seconds")

    served(time_out)
    assert reason() == f"The function {NAME} failed: 2026-11-27 Task timed out after 300.00 seconds"
    monkeypatch.setenv("MAX_DURATION_S", "10")
    served(real_handler)
    assert reason().startswith("The built-in recording conversation.ogg cannot be classified")


def test_an_unreachable_endpoint_is_reported(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
    assert "Could not connect to the endpoint URL" in reason()


def test_another_region_is_that_of_the_arn(served: Served) -> None:
    api = served()
    client = boto3.client("lambda", region_name="eu-west-3")
    assert run_on(client, ARN, 1).function.region == "eu-west-3"
    assert api.invoked == [ARN]
