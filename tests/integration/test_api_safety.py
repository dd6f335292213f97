"""The HTTP API's errors, log and checks of hosts and origins."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from core.errors import DecoderUnavailable, StorageRefused, StorageUnavailable
from core.pipeline import Pipeline
from core.results import Result
from handlers.api.server import HOST_NAMES
from handlers.api.service import Service
from handlers.log import logger
from tests.support.api import ANGER, other_settings, problem
from tests.support.serving import serving


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
