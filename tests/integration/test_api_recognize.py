"""`POST /recognize/` over a real connection, as published clients use it."""

import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.online.result_store import is_id
from core.results import Result
from handlers.api.service import Service, Workers
from tests.conftest import MakeMedia
from tests.support.api import ANGER, EXPECTED, SAMPLES, problem, wait_for
from tests.support.serving import serving


def form_of(*parts: tuple[str, bytes]) -> dict[str, Any]:
    """Return the arguments of a request: a form of parts, each with its Content-Disposition parameters and content."""
    body = b"".join(
        b"--b\r\nContent-Disposition: form-data%b\r\n\r\n%b\r\n" % (parameters.encode(), content)
        for parameters, content in parts
    )
    return {"content": body + b"--b--\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}


@pytest.mark.parametrize("field", ["file", "audio"])
def test_the_published_call_is_answered_and_the_result_is_stored(
    client: httpx2.Client, results: Path, field: str
) -> None:
    with ANGER.open("rb") as recording:
        answer = client.post("/recognize/", files={field: recording})

    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["predict", "score", "result"]
    result = Result.model_validate(body["result"])
    assert (body["predict"], body["score"]) == (result.emotion, result.score) == ("anger", result.scores["anger"])  # type: ignore[index]
    assert result.model.demo is True
    where = answer.headers["content-location"]
    assert client.get(where).json() == body["result"]
    recording_id = where.removeprefix("/results/")
    assert is_id(recording_id)
    assert json.loads((results / "api" / f"{recording_id}.json").read_bytes()) == body["result"]
    assert result.source.key == f"api/{recording_id}"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"this is text", "not_audio"), (b"", "empty")],
    ids=["text", "nothing"],
)
def test_a_recording_that_cannot_be_classified_is_a_problem_with_its_result(
    client: httpx2.Client, content: bytes, code: str
) -> None:
    answer = client.post("/recognize/", files={"file": ("a.wav", content)})

    document = problem(answer, 422, code)
    assert document["result"]["error"] == {"code": code, "message": document["detail"]}
    assert client.get(answer.headers["content-location"]).json() == document["result"]


def test_a_recording_without_speech_is_a_problem_with_its_result(client: httpx2.Client, make_media: MakeMedia) -> None:
    silence = make_media("silence.wav", source="anullsrc=r=16000:cl=mono:d=2")

    answer = client.post("/recognize/", files={"file": silence.read_bytes()})

    assert problem(answer, 422, "no_speech")["result"]["status"] == "no_speech"


@pytest.mark.timeout(600)
def test_fifty_concurrent_requests_are_classified_while_health_answers(client: httpx2.Client) -> None:
    names = (sorted(EXPECTED) * 5)[:50]
    busy = []

    def ask(name: str) -> tuple[str, str]:
        with (SAMPLES / name).open("rb") as recording:
            answer = client.post("/recognize/", files={"file": recording})
        assert answer.status_code == 200, (name, answer.text)
        return answer.headers["content-location"], answer.json()["predict"]

    with ThreadPoolExecutor(50) as pool, httpx2.Client(base_url=client.base_url, timeout=600) as other:
        asked = [pool.submit(ask, name) for name in names]
        while not all(each.done() for each in asked):
            health = other.get("/health").json()
            busy.append(health["working"] + health["waiting"])
            time.sleep(0.05)
        answers = [each.result() for each in asked]

    assert [predicted for _, predicted in answers] == [EXPECTED[name] for name in names]
    assert len({key for key, _ in answers}) == 50
    assert max(busy) > 2, "/health answered only while the server was idle"


def test_the_client_s_file_name_is_ignored(client: httpx2.Client, results: Path, tmp_path: Path) -> None:
    before = set(results.rglob("*.*"))
    names = ["../../../evil.wav", f"{tmp_path}/evil", "a\\..\\evil", "x" * 1000, "<script>.wav", "con\u202e.wav", "-i"]
    for name in names:
        # Text is rejected fast, and its result is stored like any other.
        answer = client.post("/recognize/", files={"file": (name, b"this is text")})
        problem(answer, 422, "not_audio")
        assert name not in answer.text
        assert "evil" not in answer.text

    new = set(results.rglob("*.*")) - before
    assert len(new) == len(names), new
    assert all(file.parent == results / "api" and is_id(file.stem) for file in new)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "parameters", ["; name=file", '; name="audio";', "; name=\"file\"; filename*=UTF-8''r%C3%A9.wav"]
)
def test_a_recording_needs_no_file_name(client: httpx2.Client, parameters: str) -> None:
    answer = client.post("/recognize/", **form_of((parameters, ANGER.read_bytes())))

    assert (answer.status_code, answer.json()["predict"]) == (200, "anger")
    assert answer.json()["result"]["source"]["size_bytes"] == ANGER.stat().st_size


@pytest.mark.parametrize("unused", ['; name="audio"', '; name="audio"; filename=""'])
def test_a_form_may_send_its_other_field_empty(client: httpx2.Client, unused: str) -> None:
    for parts in [[("; name=file", ANGER.read_bytes()), (unused, b"")], [(unused, b""), ("; name=file", b"text")]]:
        answer = client.post("/recognize/", **form_of(*parts))
        assert answer.status_code == (200 if parts[0][1] else 422)
    problem(answer, 422, "not_audio")


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"files": {"other": b"x"}}, 422, "missing_file"),
        ({"files": {"other": b"x"}, "data": {"another": "text, no file"}}, 422, "missing_file"),
        ({"files": [("file", b"x"), ("audio", b"x")]}, 400, "malformed"),
        ({"files": [("file", b"x"), ("file", b"x")]}, 400, "malformed"),
        ({"files": [("file", b"x"), ("file", b""), ("file", b"")]}, 400, "malformed"),
        ({"files": {"file": b"x"}, "data": {f"field{number}": "x" for number in range(40)}}, 400, "malformed"),
        ({"files": {"file": b"x"}, "data": {"long": "x" * 100_000}}, 400, "malformed"),
        (form_of(("", b"x")), 400, "malformed"),
        (form_of(("; name=file" + "x" * 10_000, b"x")), 400, "malformed"),
        ({"json": {"file": "x"}}, 415, "not_multipart"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "malformed"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400, "malformed"),
        ({"content": b"--b\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 422, "missing_file"),
    ],
    ids=[
        "other",
        "text",
        "two recordings",
        "one field twice",
        "many files",
        "many fields",
        "long field",
        "no name",
        "long header",
        "json",
        "no boundary",
        "no form",
        "cut off",
    ],
)
def test_an_invalid_form_is_refused(client: httpx2.Client, form: dict[str, Any], status: int, code: str) -> None:
    problem(client.post("/recognize/", **form), status, code)


def test_a_request_that_is_too_large_is_refused_with_the_alternative(client: httpx2.Client, service: Service) -> None:
    most = service.settings.api_max_request_bytes
    document = problem(client.post("/recognize/", files={"file": b"x" * most}), 413, "request_too_large")
    assert (document["uploads"], document["max_request_bytes"]) == ("/uploads", most)

    def without_length() -> Iterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(most // 100_000 + 1):
            yield b"x" * 100_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    problem(client.post("/recognize/", content=without_length(), headers=headers), 413, "request_too_large")


def test_the_temporary_folder_is_empty_afterwards(
    client: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client.post("/recognize/", files={"file": ANGER.read_bytes()})
    client.post("/recognize/", files={"file": b"x" * 3_000_000})

    upload = client.post("/uploads").json()
    client.post(upload["url"], data=upload["fields"], files={"file": b"x" * 3_000_000})
    wait_for(client, upload["result"])

    give_up = time.monotonic() + 20
    while list(tmp_path.iterdir()) and time.monotonic() < give_up:
        time.sleep(0.05)  # an upload's folder is removed just after its result is stored
    assert list(tmp_path.iterdir()) == []


def test_a_full_queue_is_refused_with_retry_after(service: Service) -> None:
    narrow = replace(service, workers=Workers(1, 0))
    with serving(narrow) as address, ThreadPoolExecutor(6) as pool:

        def ask(_: int) -> httpx2.Response:
            return httpx2.post(f"{address}/recognize/", files={"file": ANGER.read_bytes()}, timeout=600)

        answers = list(pool.map(ask, range(6)))

    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < 6
    for answer in refused:
        problem(answer, 503, "busy")
        assert int(answer.headers["retry-after"]) > 0
