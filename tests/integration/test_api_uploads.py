"""`POST /uploads` and `GET /results/`: recordings that are too large for one request."""

import errno
import io
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.errors import DiskUnavailable
from core.online.folder_store import FolderResultStore
from core.online.result_store import new_id
from core.pipeline import Pipeline
from core.results import Result
from handlers.api.service import Service
from tests.conftest import MakeMedia
from tests.support.api import ANGER, problem, wait_for
from tests.support.serving import folder_service, serving


def raises(error: Exception) -> Callable[..., None]:
    def function(*_: object) -> None:
        raise error

    return function


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
