"""Answers of the HTTP API that exceed Lambda's limit."""

import base64
import gzip
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext

from core.local.stack import RESULTS_BUCKET, Stack, running_stack
from core.online.result_store import new_id
from tests.integration.conftest import LogLines
from tests.support.upload_events import event

MAX_BYTES = 6_291_556
MODULE = "handlers.api.on_lambda"

Answer = dict[str, Any]
Get = Callable[..., Answer]


@pytest.fixture(scope="module")
def stack(aws_server: str) -> Iterator[Stack]:
    with running_stack(endpoint=aws_server) as stack:
        yield stack


@pytest.fixture
def get(stack: Stack, package: Path, monkeypatch: pytest.MonkeyPatch) -> Get:
    """Return a function that requests a path, with headers."""
    for name, value in stack.environment(package).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    entry_point = importlib.import_module(MODULE)
    monkeypatch.delitem(sys.modules, MODULE)
    context = LambdaContext()
    context._aws_request_id = "request"

    def request(path: str, **headers: str) -> Answer:
        sent = event("api-recognize.json")
        http = sent["requestContext"]["http"] | {"method": "GET", "path": path}
        changed = {"rawPath": path, "requestContext": sent["requestContext"] | {"http": http}, "body": ""}
        own = {"host": sent["headers"]["host"], **headers}
        answer: Answer = entry_point.handler(sent | changed | {"headers": own}, context)
        return answer

    return request


def stored(stack: Stack, document: bytes) -> str:
    """Store a document as a result, and return its path."""
    recording_id = new_id()
    stack.s3.put_object(Bucket=RESULTS_BUCKET, Key=f"results/api/{recording_id}.json", Body=document)
    return f"/results/{recording_id}"


def test_a_client_that_accepts_gzip_gets_an_answer_that_exceeds_the_limit(get: Get, stack: Stack) -> None:
    document = b'{"utterances": [' + b'{"score": 0.5}, ' * 2_000_000 + b"]}"
    answer = get(stored(stack, document), **{"accept-encoding": "br, gzip"})

    assert answer["statusCode"] == 200
    assert (answer["headers"]["content-encoding"], answer["isBase64Encoded"]) == ("gzip", True)
    assert gzip.decompress(base64.b64decode(answer["body"])) == document
    assert len(json.dumps(answer)) < MAX_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_an_answer_that_is_too_large_is_a_problem(get: Get, stack: Stack, encoding: str, log_lines: LogLines) -> None:
    # Quotes need two bytes in Lambda's JSON, and random digits cannot be compressed to less than half.
    digits = np.random.default_rng(1).integers(48, 58, 12_000_000, np.uint8).tobytes()
    document = b'"' * 3_500_000 if encoding == "identity" else digits
    answer = get(stored(stack, document), **{"accept-encoding": encoding})

    problem = json.loads(answer["body"])
    assert (answer["statusCode"], problem["code"]) == (413, "answer_too_large")
    assert "--compressed" in problem["detail"]
    assert answer["isBase64Encoded"] is False
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert {"content-security-policy", "x-request-id"} <= set(answer["headers"])
    assert {"content-length", "content-encoding"}.isdisjoint(answer["headers"])
    [line] = [line for line in log_lines() if line["message"] == "answer too large"]
    assert line["answer_bytes"] > MAX_BYTES


def test_a_small_answer_is_not_compressed(get: Get, stack: Stack) -> None:
    answer = get(stored(stack, b'{"a": 1}'), **{"accept-encoding": "gzip"})

    assert (answer["statusCode"], answer["body"], answer["isBase64Encoded"]) == (200, '{"a": 1}', False)
