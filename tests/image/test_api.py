"""The HTTP API under Lambda's emulator with events of API Gateway, in the image and without one."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import httpx2
import pytest

from core.local.stack import Stack
from tests.image.conftest import event
from tools.container import SANDBOX, Container, Network, running_function
from tools.emulator import Event, emulated
from tools.invoke import API_HANDLER

Invoke = Callable[[Event], Any]

LAMBDA_BYTES = 6 * 1024 * 1024
"""Maximum size of an event in Lambda, with the body in base64."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IO[bytes]]:
    with (tmp_path_factory.mktemp("api") / "log").open("w+b") as file:
        yield file


@pytest.fixture(scope="module")
def process(sam: None, stack: Stack, package: Path, memory_mb: int, log: IO[bytes]) -> Iterator[Invoke]:
    environment = stack.environment(package) | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb)}
    with emulated(environment, log, handler=API_HANDLER) as invoke:
        yield invoke


@pytest.fixture(scope="module")
def container(image: str, network: Network, stack: Stack, memory_mb: int) -> Iterator[Container]:
    environment = stack.environment(Path("/opt/model")) | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb)}
    runtime = ("/usr/bin/python3", "-m", "awslambdaric", API_HANDLER)
    limits = (f"--memory={memory_mb}m", "--memory-swap", f"{memory_mb}m")
    with running_function(network, environment, *SANDBOX, *limits, image=image, runtime=runtime) as container:
        yield container


@pytest.fixture(params=["process", "container"])
def invoke(request: pytest.FixtureRequest) -> Invoke:
    if request.param == "process":
        process: Invoke = request.getfixturevalue("process")
        return process
    container: Container = request.getfixturevalue("container")
    return container.invoke


def other(sent: Event, method: str, path: str, **changes: Any) -> Event:
    """Return an event for another request of the same caller."""
    http = sent["requestContext"]["http"] | {"method": method, "path": path}
    return sent | {"rawPath": path, "requestContext": sent["requestContext"] | {"http": http}} | changes


def without_body(sent: Event, method: str, path: str) -> Event:
    headers = {name: value for name, value in sent["headers"].items() if not name.startswith("content-")}
    return {**other(sent, method, path), "headers": headers, "body": None, "isBase64Encoded": False}


def test_the_published_call_is_answered_and_the_result_is_stored(invoke: Invoke, stack: Stack) -> None:
    answer = invoke(event("api-recognize"))

    assert answer["statusCode"] == 200, answer["body"]
    body = json.loads(answer["body"])
    assert list(body) == ["predict", "score", "result"]
    assert (body["predict"], body["score"]) == ("fear", body["result"]["score"])
    assert json.loads(stack.result(f"results/{body['result']['source']['key']}.json")) == body["result"]
    kept = invoke(without_body(event("api-recognize"), "GET", answer["headers"]["content-location"]))
    assert json.loads(kept["body"]) == body["result"]


def with_recording(file: Path) -> Event:
    """Return the event of the published client's request with another recording."""
    sent: Event = event("api-recognize")
    with file.open("rb") as recording:
        request = httpx2.Request("POST", "https://api.example/recognize/", files={"file": recording})
        body = request.read()
    headers = {name: request.headers[name] for name in ("content-type", "content-length")}
    return sent | {"headers": sent["headers"] | headers, "body": base64.b64encode(body).decode()}


def test_the_recording_of_the_published_test_is_classified(invoke: Invoke, stack: Stack, corpora: Path) -> None:
    sent = with_recording(corpora / "data" / "seed" / "111.wav")
    assert len(json.dumps(sent)) < LAMBDA_BYTES

    answer = invoke(sent)

    assert answer["statusCode"] == 200, answer["body"]
    body = json.loads(answer["body"])
    scores = body["result"]["scores"]
    assert {name: body[name] for name in ("predict", "score")} == {
        "predict": max(scores, key=scores.__getitem__),
        "score": max(scores.values()),
    }
    assert body["result"]["source"]["size_bytes"] == (corpora / "data" / "seed" / "111.wav").stat().st_size
    assert json.loads(stack.result(f"results/{body['result']['source']['key']}.json")) == body["result"]


def test_the_largest_event_is_refused_with_the_alternative(invoke: Invoke) -> None:
    sent = event("api-recognize")
    # Lambda refuses larger events before the function runs.
    room = LAMBDA_BYTES - len(json.dumps(sent | {"body": ""}))
    body = base64.b64encode(b"x" * (room // 4 * 3)).decode()

    answer = invoke(sent | {"body": body, "headers": sent["headers"] | {"content-length": str(room // 4 * 3)}})

    assert answer["statusCode"] == 413
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert json.loads(answer["body"])["uploads"] == "/uploads"


def test_an_upload_form_is_signed_for_one_key(invoke: Invoke) -> None:
    answer = invoke(without_body(event("api-recognize"), "POST", "/uploads"))

    assert answer["statusCode"] == 201
    upload = json.loads(answer["body"])
    policy = json.loads(base64.b64decode(upload["fields"]["policy"]))
    assert {"key": f"api/{upload['id']}"} in policy["conditions"]
    assert ["content-length-range", 1, 2_000_000_000] in policy["conditions"]
    waiting = invoke(without_body(event("api-recognize"), "GET", upload["result"]))
    assert waiting["statusCode"] == 404


def test_the_page_and_its_files_are_not_base64(invoke: Invoke) -> None:
    for path, kind in [("/", "text/html"), ("/static/page.js", "text/javascript"), ("/static/icon.svg", "image/svg")]:
        answer = invoke(without_body(event("api-recognize"), "GET", path))
        assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
        assert answer["headers"]["content-type"].startswith(kind)


def test_the_image_redirects_from_the_api_reference_to_the_openapi_document(container: Container) -> None:
    redirect = container.invoke(without_body(event("api-recognize"), "GET", "/docs"))
    document = container.invoke(without_body(event("api-recognize"), "GET", redirect["headers"]["location"]))

    assert (redirect["statusCode"], redirect["headers"]["location"]) == (307, "/openapi.json")
    assert json.loads(document["body"])["info"]["title"] == "Audio Emotion"


def test_tmp_is_empty_afterwards(container: Container) -> None:
    container.invoke(event("api-recognize"))
    assert container.run("ls", "-A", "/tmp") == ""
