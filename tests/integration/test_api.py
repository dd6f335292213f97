"""The HTTP API over a real connection, as published clients use it."""

import errno
import io
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from core.errors import DecoderUnavailable, DiskUnavailable, RecordingError, StorageRefused, StorageUnavailable
from core.online.folder_store import FolderResultStore
from core.online.result_store import is_id, new_id
from core.pipeline import Pipeline
from core.results import Result
from core.settings import ApiSettings
from handlers.api import middleware, web
from handlers.api.problems import KINDS, Problem
from handlers.api.server import HOST_NAMES
from handlers.api.service import Service, Workers
from handlers.log import logger
from tests.conftest import ROOT, MakeMedia
from tests.support.serving import folder_service, serving

SAMPLES = ROOT / "samples"
EXPECTED = {
    name: about["emotion"]
    for name, about in json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8")).items()
}
ANGER = SAMPLES / "anger.wav"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def service(package: Path, results: Path) -> Service:
    return folder_service(package, results)


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with serving(service) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=address, timeout=600) as client:
        yield client


def problem(answer: httpx2.Response, status: int, code: str) -> Any:
    """Assert that an answer is a problem document, and return the document."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document = answer.json()
    assert Problem.model_validate(document).code == code
    assert document["status"] == status
    assert document["detail"].endswith((".", "`"))
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return document


def other_settings(service: Service, **changes: object) -> Service:
    return replace(service, settings=ApiSettings.model_validate(service.settings.model_dump() | changes))


# ------------------------------------------------------------------------------------------------- POST /recognize/


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


def form_of(*parts: tuple[str, bytes]) -> dict[str, Any]:
    """Return the arguments of a request: a form of parts, each with its Content-Disposition parameters and content."""
    body = b"".join(
        b"--b\r\nContent-Disposition: form-data%b\r\n\r\n%b\r\n" % (parameters.encode(), content)
        for parameters, content in parts
    )
    return {"content": body + b"--b--\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}


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


# ------------------------------------------------------------------------------------------- refusals with a body


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
FORM = "Content-Type: multipart/form-data; boundary=b\r\n"
REFUSALS = {
    404: ("POST /nothing", FORM),
    405: ("POST /health", FORM),
    415: ("POST /recognize/", "Content-Type: application/json\r\n"),
    400: ("POST /recognize/", FORM),
    403: ("POST /recognize/", f"{FORM}Origin: https://evil.example\r\n"),
    421: ("POST /recognize/", f"{FORM}Host: evil.example\r\n"),
    413: ("POST /recognize/", FORM),
}


def request_head(request: str, headers: str) -> bytes:
    host = "" if "Host:" in headers else "Host: 127.0.0.1\r\n"
    return f"{request} HTTP/1.1\r\n{host}{headers}".encode()


def framed(body: bytes, framing: str) -> bytes:
    """Return the rest of a request: the length header and the body."""
    if framing == "sized":
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    size = 64 * 1024
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    return (
        b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    )


def connected(address: str) -> socket.socket:
    host, _, port = address.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.parametrize("status", REFUSALS)
def test_a_client_that_sends_the_whole_body_first_reads_the_refusal(address: str, status: int, framing: str) -> None:
    body = PART + b"x" * 5_000_000 if status == 413 else b"no form" + b"x" * 2_000_000
    sent = request_head(*REFUSALS[status]) + framed(body, framing)
    health = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

    def refused(_: int) -> bytes:
        with connected(address) as connection:
            # The second request shows that the server read the first one to its end.
            connection.sendall(sent)
            connection.sendall(health)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(refused, range(8)))

    for answer in answers:
        assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"%d" % status, b"200"]


def test_a_client_that_stops_sending_gets_its_refusal(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_DRAIN_TIMEOUT_S", 0.3)
    with connected(address) as connection:
        connection.sendall(request_head(*REFUSALS[404]) + b"Content-Length: 1000\r\n\r\nx")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 404")
    assert b"connection: close" in answer.lower()


def test_a_body_without_an_end_is_not_read_forever(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_MAX_DRAIN_BYTES", 1_000_000)
    sent = 0

    def send_until_reset(connection: socket.socket) -> None:
        nonlocal sent
        while sent < 100_000_000:
            sent += connection.send(b"10000\r\n%b\r\n" % (b"x" * 0x10000))

    with connected(address) as connection:
        connection.sendall(request_head(*REFUSALS[404]) + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_until_reset(connection)


def test_a_client_that_expects_100_continue_is_refused_without_its_body(address: str) -> None:
    with connected(address) as connection:
        connection.sendall(
            request_head("POST /recognize/", FORM) + b"Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 413")


# ------------------------------------------------------------------------------------- POST /uploads, GET /results/


def wait_for(client: httpx2.Client, where: str) -> httpx2.Response:
    give_up = time.monotonic() + 60
    while (answer := client.get(where)).status_code == 202:
        assert answer.json()["status"] == "on_its_way"
        assert time.monotonic() < give_up
        time.sleep(0.1)
    return answer


def test_a_recording_too_large_for_a_request_is_uploaded(client: httpx2.Client, make_media: MakeMedia) -> None:
    large = make_media(
        "large.wav", "-af", "apad=whole_dur=30", "-ac", "1", sample_rate_hz=96_000, source=f"amovie={ANGER}"
    )
    assert large.stat().st_size > 4_500_000
    asked = client.post("/uploads")
    assert asked.status_code == 201
    upload = asked.json()
    problem(client.get(upload["result"]), 404, "no_result")

    with large.open("rb") as recording:
        assert client.post(upload["url"], data=upload["fields"], files={"file": recording}).status_code == 204
        recording.seek(0)
        again = client.post(upload["url"], data=upload["fields"], files={"file": recording})
    first = client.get(upload["result"])
    answer = wait_for(client, upload["result"])

    problem(again, 403, "ticket_refused")
    assert first.status_code in {200, 202}
    assert asked.headers["location"] == upload["result"] == f"/results/{upload['id']}"
    assert (answer.status_code, answer.json()["emotion"]) == (200, "anger")
    assert answer.json()["source"] == {"key": f"api/{upload['id']}", "size_bytes": large.stat().st_size}


def test_uploads_waiting_at_shutdown_get_a_failed_result(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    service = folder_service(package, tmp_path / "results")
    store, run, begun = service.store, Pipeline.run, threading.Event()
    assert isinstance(store, FolderResultStore)

    def run_until_shutdown(*args: Any, **kwargs: Any) -> Result:
        begun.set()
        assert store._closing.wait(60)
        return run(*args, **kwargs)

    monkeypatch.setattr(Pipeline, "run", run_until_shutdown)
    where = []
    with serving(service) as address:
        for _ in range(3):
            upload = httpx2.post(f"{address}/uploads").json()
            httpx2.post(upload["url"], data=upload["fields"], files={"file": ANGER.read_bytes()})
            where.append(upload["result"])
        assert begun.wait(60)

    with serving(folder_service(package, tmp_path / "results")) as address:
        current, *waiting = [httpx2.get(address + each).json() for each in where]
    assert current["emotion"] == "anger"
    assert [(each["status"], each["error"]["code"]) for each in waiting] == 2 * [("failed", "given_up")]
    assert "Upload it again." in waiting[0]["error"]["message"]
    assert list(scratch.iterdir()) == []


def test_an_upload_that_crashes_the_pipeline_gets_a_result_and_its_id_is_not_logged(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: Any, **__: Any) -> Result:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Pipeline, "run", crash)
    upload = client.post("/uploads").json()
    client.post(upload["url"], data=upload["fields"], files={"file": ANGER.read_bytes()})

    answer = wait_for(client, upload["result"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (200, "given_up")
    assert "a bug" in caplog.text
    assert upload["id"] not in caplog.text


def test_an_upload_that_is_not_audio_gets_a_failed_result(client: httpx2.Client) -> None:
    upload = client.post("/uploads").json()
    client.post(upload["url"], data=upload["fields"], files={"file": b"this is text"})

    answer = wait_for(client, upload["result"])

    assert (answer.status_code, answer.json()["error"]["code"]) == (200, "not_audio")


def test_a_form_that_was_not_issued_or_has_expired_is_refused(
    client: httpx2.Client, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = client.post("/uploads").json()
    recording = {"file": ANGER.read_bytes()}
    unknown = [f"api/{new_id()}", upload["id"], "api/../../evil", "\u00e9", ""]
    for key in unknown:
        problem(client.post(upload["url"], data={"key": key}, files=recording), 403, "ticket_refused")
    problem(client.post(upload["url"], files=recording), 403, "ticket_refused")

    expires_at = datetime.fromisoformat(upload["expires_at"])
    monkeypatch.setattr("core.online.folder_store.now", lambda: expires_at + timedelta(seconds=1))
    document = problem(client.post(upload["url"], data=upload["fields"], files=recording), 403, "ticket_refused")

    assert "expired" in document["detail"]
    problem(client.get(upload["result"]), 404, "no_result")


def test_a_form_is_used_once_even_if_it_is_posted_twice_at_the_same_time(client: httpx2.Client) -> None:
    upload = client.post("/uploads").json()

    def post(_: int) -> int:
        return client.post(upload["url"], data=upload["fields"], files={"file": ANGER.read_bytes()}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(post, range(4))) == [204, 403, 403, 403]
    assert wait_for(client, upload["result"]).json()["emotion"] == "anger"


def test_a_form_can_be_posted_again_after_the_server_failed_to_copy_the_recording(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, recording = service.store, io.BytesIO(ANGER.read_bytes())
    assert isinstance(store, FolderResultStore)
    upload = store.create_upload("")
    with monkeypatch.context() as full_disk:
        error = OSError(errno.ENOSPC, "No space left on device")
        full_disk.setattr("core.online.folder_store.shutil.copyfileobj", raises(error))
        with pytest.raises(DiskUnavailable, match="No space"):
            store.submit(upload.fields["key"], recording, service.recogniser)

    store.submit(upload.fields["key"], recording, service.recogniser)
    store.close()

    assert isinstance(store.find(upload.id), bytes)


def raises(error: Exception) -> Callable[..., None]:
    def function(*_: object) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    "name", ["0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a4c11", "x", "..%2F..%2Fetc%2Fpasswd", "%00", "1" * 3000]
)
def test_an_unknown_id_is_not_found(client: httpx2.Client, name: str) -> None:
    answer = client.get(f"/results/{name}")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_a_result_has_a_report(client: httpx2.Client) -> None:
    where = client.post("/recognize/", files={"file": ANGER.read_bytes()}).headers["content-location"]

    page = client.get(f"{where}/report")

    assert page.headers["content-type"].startswith("text/html")
    assert "<h2>Anger (score 98%)</h2>" in page.text
    assert "<audio" not in page.text
    assert "<audio" in client.get(f"{where}/report?player=1").text
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]


# ------------------------------------------------------------------------------------------------ errors and safety


def test_an_unknown_path_and_a_wrong_method_are_problems(client: httpx2.Client) -> None:
    problem(client.get("/nothing/here"), 404, "not_found")
    problem(client.get("/static/page.html"), 404, "not_found")
    problem(client.get("/static/..%2Fapp.py"), 404, "not_found")
    answer = client.get("/recognize/")
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    head = client.head("/")
    assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", "text/html; charset=utf-8")


def test_a_killed_decoder_is_restarted_once(
    service: Service, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Pipeline.run
    crashes: list[bool] = []

    def crash_once(*args: Any, **kwargs: Any) -> Result:
        if not crashes:
            crashes.append(True)
            raise DecoderUnavailable("ffmpeg was killed.")
        return run(*args, **kwargs)

    monkeypatch.setattr(Pipeline, "run", crash_once)
    answer = client.post("/recognize/", files={"file": ANGER.read_bytes()})

    assert (answer.status_code, crashes) == (200, [True])


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Capture the API's log."""
    lines = io.StringIO()
    for handler in logger.handlers:
        monkeypatch.setattr(handler, "stream", lines)
    return lines


def test_a_server_error_is_answered_without_its_details(
    service: Service, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    with serving(service) as address:
        for error, status, code in [
            (StorageUnavailable("S3 failed on secret-bucket."), 503, "unavailable"),
            (StorageRefused("S3 denied access to secret-bucket.", "kms:GenerateDataKey"), 503, "unavailable"),
            (RuntimeError("a secret"), 500, "internal"),
        ]:

            def fail(*_: object, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(service.store, "store", fail)
            answer = httpx2.post(f"{address}/recognize/", files={"file": ANGER.read_bytes()}, timeout=600)
            problem(answer, status, code)
            assert "secret" not in answer.text
            assert answer.headers["x-content-type-options"] == "nosniff"
    logged = log.getvalue()
    assert '"error":"StorageUnavailable"' in logged
    assert '"error":"StorageRefused","reason":"kms:GenerateDataKey"' in logged
    assert "secret-bucket" not in logged
    assert "request crashed" in logged
    assert "a secret" in logged


def test_each_request_logs_one_json_line_without_file_name_and_id(service: Service, log: io.StringIO) -> None:
    with serving(service) as address:
        form = {"file": ("private name.wav", ANGER.read_bytes())}
        answer = httpx2.post(f"{address}/recognize/", files=form, timeout=600)
        httpx2.get(address + answer.headers["content-location"])

    logged = log.getvalue()
    first, second = (json.loads(line) for line in logged.splitlines() if '"message":"request"' in line)
    assert (first["route"], first["status"], first["emotion"]) == ("/recognize/", 200, "anger")
    assert first["request_id"] == answer.headers["x-request-id"] == answer.json()["result"]["processing"]["request_id"]
    assert first["request_bytes"] > ANGER.stat().st_size
    assert second["route"] == "/results/{recording_id}"
    assert "private" not in logged
    assert answer.headers["content-location"].rpartition("/")[2] not in logged


LOOPBACK_NAMES = ["127.0.0.1", "localhost", "LOCALHOST", "LocalHost", "localhost.", "[::1]"]
OTHER_NAMES = [
    "",
    ".",
    "evil.example",
    "localhost.evil.example",
    "evil.localhost",
    "localhost..",
    "localhost@evil.example",
    "evil.example:80:localhost",
    "localhost:80:80",
    "localhost:evil",
    "127.0.0.1.evil.example",
    "127.0.0.2",
    "[::2]",
    "::1",
    "[::1",
    "[::1]evil.example",
]


@pytest.fixture(scope="module")
def loopback(service: Service) -> Iterator[str]:
    with serving(service, hosts=HOST_NAMES) as address:
        yield address


@pytest.mark.parametrize("port", ["", ":", ":80", ":8010"])
@pytest.mark.parametrize("name", LOOPBACK_NAMES)
def test_every_spelling_of_the_server_s_name_is_accepted(loopback: str, name: str, port: str) -> None:
    host = name + port
    assert httpx2.get(f"{loopback}/health", headers={"host": host}).status_code == 200
    page = {"host": host, "origin": f"http://{host.lower()}"}
    assert httpx2.post(f"{loopback}/uploads", headers=page).status_code == 201


@pytest.mark.parametrize("host", OTHER_NAMES)
def test_every_other_host_name_is_refused(loopback: str, host: str) -> None:
    problem(httpx2.get(f"{loopback}/health", headers={"host": host}), 421, "wrong_host")


def test_pages_of_other_sites_are_refused(address: str, service: Service) -> None:
    form = {"file": ANGER.read_bytes()}
    evil = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    problem(httpx2.post(f"{address}/recognize/", files=form, headers=evil), 403, "cross_site")
    problem(httpx2.get(f"{address}/health", headers={"host": "evil.example"}), 421, "wrong_host")
    assert "access-control-allow-origin" not in httpx2.get(f"{address}/health", headers=evil).headers

    # Browsers without Fetch Metadata send the origin only.
    for origin in ("https://evil.example", "null", f"{address}9"):
        problem(httpx2.post(f"{address}/uploads", headers={"origin": origin}), 403, "cross_site")
    assert httpx2.post(f"{address}/uploads", headers={"origin": address}).status_code == 201

    friend = {"origin": "https://friend.example", "sec-fetch-site": "cross-site"}
    with serving(other_settings(service, api_allowed_origins="https://friend.example")) as address_for_friend:
        answer = httpx2.post(f"{address_for_friend}/recognize/", files=form, headers=friend, timeout=600)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        problem(httpx2.post(f"{address_for_friend}/recognize/", files=form, headers=evil), 403, "cross_site")
        assert httpx2.post(f"{address_for_friend}/uploads", headers={"origin": friend["origin"]}).status_code == 201


def test_a_page_of_an_allowed_origin_can_read_refusals(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    friend = {"origin": "https://friend.example", "sec-fetch-site": "cross-site"}
    small = other_settings(service, api_allowed_origins=friend["origin"], api_max_request_bytes=2000)
    with serving(small) as address:
        too_large = httpx2.post(f"{address}/recognize/", files={"file": b"x" * 3000}, headers=friend)
        monkeypatch.setattr(service.store, "create_upload", lambda _: 1 / 0)
        crashed = httpx2.post(f"{address}/uploads", headers=friend)
        wanted = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,x-amz-content-sha256,x-amz-date,x-amz-security-token",
        }
        may = httpx2.options(f"{address}/recognize/", headers=friend | wanted)

    problem(too_large, 413, "request_too_large")
    problem(crashed, 500, "internal")
    assert may.status_code == 200
    for answer in (too_large, crashed, may):
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"


# ------------------------------------------------------------------------------------------------- the description


@pytest.fixture(scope="module")
def described(client: httpx2.Client) -> Any:
    return client.get("/openapi.json").json()


def test_every_described_example_is_valid(described: Any) -> None:
    examples = 0
    for path in described["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    schema = content["schema"] | {"components": described["components"]}
                    named = [each["value"] for each in content.get("examples", {}).values()]
                    for example in [content["example"]] if "example" in content else named:
                        Draft202012Validator(schema).validate(example)
                        examples += 1
    assert examples > 15
    assert "HTTPValidationError" not in described["components"]["schemas"]
    codes = [*(KINDS.keys() - {"not_classified"}), *(error.code for error in RecordingError.__subclasses__())]
    for code in codes:
        assert f"`{code}`" in described["info"]["description"]


def test_the_pages_load_everything_from_this_server(client: httpx2.Client) -> None:
    for name in ("/docs", "/"):
        page = client.get(name)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "'unsafe-" not in policy
        loaded = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        assert len(loaded) >= 4
        for file in loaded:
            assert client.get(file).status_code == 200
    own = [f"/static/{file.name}" for file in web._STATIC.iterdir() if file.suffix in {".css", ".js"}]
    assert len(own) > 10
    for name in ("/docs", "/", *own):
        assert re.findall(r"https?://[\w.]+", client.get(name).text) == [], name


def test_without_swagger_ui_the_reference_is_the_openapi_document(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "find_spec", lambda _: None)
    web._static_files.cache_clear()
    try:
        reference = client.get("/docs")
        missing = client.get("/static/swagger-ui.css")
    finally:
        web._static_files.cache_clear()

    assert (reference.status_code, reference.headers["location"]) == (307, "/openapi.json")
    problem(missing, 404, "not_found")


def test_answers_match_their_schemas(client: httpx2.Client, described: Any) -> None:
    answer = client.post("/recognize/", files={"file": (SAMPLES / "conversation.ogg").read_bytes()})
    refusal = client.post("/recognize/", files={"file": b"this is text"})

    for schema, document in [
        ("Recognition", answer.json()),
        ("Result", client.get(answer.headers["content-location"]).json()),
        ("Result", refusal.json()["result"]),
        ("Problem", refusal.json()),
        ("Upload", client.post("/uploads").json()),
        ("Health", client.get("/health").json()),
    ]:
        whole = {"$ref": f"#/components/schemas/{schema}", "components": described["components"]}
        Draft202012Validator(whole).validate(document)


SCHEMATHESIS = """
[[operations]]
# The generated forms are valid, but their content is not a recording, so the API rejects it.
include-name = "POST /recognize/"
checks.positive_data_acceptance.enabled = false

[[operations]]
# Use a real id. Other tests request unknown ids.
include-path = "/results/{{recording_id}}"
parameters = {{ "path.recording_id" = "{known}" }}

[[operations]]
include-path = "/results/{{recording_id}}/report"
parameters = {{ "path.recording_id" = "{known}" }}

[[operations]]
# The generated bodies have unknown ids.
include-name = "POST /results.csv"
warnings = false
"""


@pytest.mark.timeout(600)
def test_schemathesis_finds_no_violation(client: httpx2.Client, address: str, tmp_path: Path) -> None:
    where = client.post("/recognize/", files={"file": ANGER.read_bytes()}).headers["content-location"]
    settings = SCHEMATHESIS.format(known=where.removeprefix("/results/"))
    (tmp_path / "schemathesis.toml").write_text(settings, encoding="utf-8")
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{address}/openapi.json"]
    options = ["--max-examples", "25", "--generation-deterministic", "--no-color"]

    done = subprocess.run([*command, *options], check=False, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout
    assert re.search(r"Tested: +6", done.stdout), done.stdout
    assert "404" not in done.stdout, done.stdout
