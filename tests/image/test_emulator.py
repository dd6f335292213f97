"""Cold start without a container: the handler of this checkout under Lambda's emulator."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner

from core.cli.app import app
from core.local.stack import Stack
from tests.image.conftest import event, result
from tests.support.lambda_api import LambdaApi
from tools.emulator import emulated
from tools.invoke import BACKFILL_HANDLER, stage


@pytest.fixture
def log(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "log").open("w+b") as file:
        yield file


def test_the_first_invocation_is_a_cold_start_and_the_second_is_not(
    sam: None, stack: Stack, package: Path, log: IO[bytes]
) -> None:
    sent = stage(event("s3-put"), stack)
    environment = stack.environment(package) | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}
    with emulated(environment, log) as invoke:
        assert invoke(sent) == {"uploads": 1}
        assert invoke(sent) == {"uploads": 1}
    assert result(stack, "anger.wav")["status"] == "classified"
    log.seek(0)
    lines = [json.loads(line) for line in log.read().splitlines() if b'"message":"recording"' in line]
    assert [line["cold_start"] for line in lines] == [True, False]


def test_a_function_without_its_bucket_says_which_variable_is_missing(sam: None, package: Path, log: IO[bytes]) -> None:
    environment = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008", "MODEL_DIR": str(package), "RESULTS_BUCKET": ""}
    with emulated(environment, log) as invoke:
        answer = invoke({})
    assert answer["errorType"] == "SettingsInvalid"
    assert "RESULTS_BUCKET" in answer["errorMessage"]


def test_a_benchmark_is_answered_through_lambda_s_api(
    sam: None, stack: Stack, package: Path, log: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = stack.environment(package) | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configuration = {"FunctionName": "classify", "Architectures": ["x86_64"], "MemorySize": 3008, "Timeout": 300}
    with emulated(environment, log) as invoke, LambdaApi(invoke, configuration).serving() as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", api.endpoint)
        ended = CliRunner().invoke(app, ["benchmark", "--function", "classify", "--rounds", "1", "--json"])
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)["benchmark"]
    assert [each["utterances"] for each in found["recordings"]] == [1, 1, 1, 1, 7]
    assert found["start_ms"] > 0


def test_a_task_of_s3_batch_operations_is_answered(sam: None, stack: Stack, package: Path, log: IO[bytes]) -> None:
    sent = stage(event("batch-operations-2.0"), stack)
    environment = stack.environment(package) | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008"}
    with emulated(environment, log, handler=BACKFILL_HANDLER) as invoke:
        answer = invoke(sent)
    [task] = answer["results"]
    assert task["resultCode"] == "Succeeded"
    assert result(stack, "calls/hotline 2026-01-31.wav")["status"] == "classified"
