"""`/results/…`: the progress of an upload, the CSV of several results, and the report under the recording's name."""

import csv
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.cli.app import main
from core.online.folder_store import FolderResultStore
from core.online.result_store import new_id
from core.pipeline import Pipeline
from core.results import Result
from core.settings import CLI_PREFIX, SpeakerSettings
from handlers.api.service import Service
from handlers.log import logger
from tests.conftest import ROOT
from tests.support.serving import folder_service
from tests.support.voices import write_speaker_network

ANGER = ROOT / "samples" / "anger.wav"
CONVERSATION = ROOT / "samples" / "conversation.ogg"


@pytest.fixture(scope="module")
def service(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = tmp_path_factory.mktemp("results")
    network = write_speaker_network(folder / "speakers.onnx")
    return folder_service(package, folder / "results", speakers=SpeakerSettings(speakers_model=network))


def classified(client: httpx2.Client, content: bytes) -> str:
    """Return the id of a recording's result."""
    answer = client.post("/recognize/", files={"file": content})
    return str(answer.headers["content-location"]).removeprefix("/results/")


@pytest.fixture(scope="module")
def anger(client: httpx2.Client) -> str:
    return classified(client, ANGER.read_bytes())


@pytest.fixture(scope="module")
def conversation(client: httpx2.Client) -> str:
    return classified(client, CONVERSATION.read_bytes())


# ---------------------------------------------------------------------------------------------------------- progress


class Halted:
    """Stops the pipeline at each step of its progress until the test continues."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shares: list[float] = []
        self.reached, self.go = threading.Semaphore(0), threading.Semaphore(0)
        run = Pipeline.run

        def halting_run(pipeline: Pipeline, *args: Any, advance: Callable[[float], None], **kwargs: Any) -> Result:
            def advance_and_halt(share: float) -> None:
                advance(share)
                self.shares.append(share)
                self.reached.release()
                assert self.go.acquire(timeout=60)

            return run(pipeline, *args, advance=advance_and_halt, **kwargs)

        monkeypatch.setattr(Pipeline, "run", halting_run)


@pytest.mark.parametrize("speakers", ["off", "auto"])
def test_an_upload_reports_the_share_that_is_classified(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch, speakers: str
) -> None:
    halted = Halted(monkeypatch)
    upload = client.post("/uploads", params={"speakers": speakers}).json()
    client.post(upload["url"], data=upload["fields"], files={"file": CONVERSATION.read_bytes()})
    answered = []
    while (answer := client.get(upload["result"])).status_code == 202:
        if halted.reached.acquire(timeout=0.05):
            answered.append(client.get(upload["result"]).json())
            halted.go.release()

    assert answer.json()["emotion"] == "anger"
    assert all(each.pop("status") == "on_its_way" for each in answered)
    assert [each.pop("progress") for each in answered] == pytest.approx(halted.shares, abs=1e-6)
    assert halted.shares == sorted(halted.shares)
    assert len(halted.shares) > 2
    assert halted.shares[-1] == pytest.approx(1.0, abs=0.02)


def test_a_recording_without_a_duration_reports_no_progress(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers record WebM without a duration, because they write the header first."""
    streamed = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(ANGER), "-f", "webm", "-live", "1", "pipe:1"],
        check=True,
        capture_output=True,
    ).stdout
    begun, go, run = threading.Event(), threading.Event(), Pipeline.run

    def halting_run(*args: Any, **kwargs: Any) -> Result:
        result = run(*args, **kwargs)
        begun.set()
        assert go.wait(60)
        return result

    monkeypatch.setattr(Pipeline, "run", halting_run)
    upload = client.post("/uploads").json()
    client.post(upload["url"], data=upload["fields"], files={"file": streamed})
    assert begun.wait(60)
    pending = client.get(upload["result"])
    go.set()
    while (answer := client.get(upload["result"])).status_code == 202:
        time.sleep(0.05)

    assert pending.json() == {"status": "on_its_way"}
    assert answer.json()["emotion"] == "anger"


# --------------------------------------------------------------------------------------------------------------- CSV


def read_csv(client: httpx2.Client, recordings: dict[str, str], **options: str) -> httpx2.Response:
    results = [{"id": each, "name": name} for each, name in recordings.items()]
    return client.post("/results.csv", json={"results": results, **options})


@pytest.mark.parametrize("per", ["utterance", "channel", "recording"])
def test_the_csv_is_that_of_the_command_line(
    client: httpx2.Client,
    anger: str,
    conversation: str,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    per: str,
) -> None:
    monkeypatch.setenv(CLI_PREFIX + "MODEL_DIR", str(package))
    files = [str(ANGER), str(CONVERSATION)]
    monkeypatch.setattr(sys, "argv", ["audio-emotion", "classify", *files, "--csv", "--per", per])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().out

    answer = read_csv(client, {anger: str(ANGER), conversation: str(CONVERSATION)}, per=per)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    (header, *rows), (own_header, *own_rows) = (list(csv.reader(io.StringIO(each))) for each in (printed, answer.text))
    finished = header.index("finished_at")
    assert own_header == header
    assert len(own_rows) == {"utterance": 8, "channel": 2, "recording": 2}[per]
    for row in (*rows, *own_rows):
        row[finished] = ""
    assert own_rows == rows


def test_a_name_cannot_become_a_formula_or_leave_its_cell(client: httpx2.Client, anger: str) -> None:
    failed = classified(client, b"this is text")
    names = {anger: '=HYPERLINK("http://evil.example";"x")', failed: '@SUM(1,2)\r\n"a",b'}

    header, first, second = csv.reader(io.StringIO(read_csv(client, names).text, newline=""))

    assert first[0] == "'" + names[anger]
    assert second[0] == "'" + names[failed]
    assert dict(zip(header, second, strict=True))["error_code"] == "not_audio"


def test_the_csv_has_the_labels_of_all_models(client: httpx2.Client, service: Service, anger: str) -> None:
    document = json.loads(client.get(f"/results/{anger}").content)
    document["model"] |= {"labels": ["calm", "anger"], "fingerprint": "sha256:" + "1" * 64}
    other, store = new_id(), service.store
    for utterance in (document, document["channels"][0], document["channels"][0]["utterances"][0]):
        utterance |= {"emotion": "calm", "score": 0.9, "scores": {"calm": 0.9, "anger": 0.1}}
    document["shares"] = document["channels"][0]["shares"] = {"calm": 1.0, "anger": 0.0}
    store.store(other, Result.model_validate(document))

    rows = list(csv.DictReader(io.StringIO(read_csv(client, {anger: "one.wav", other: "two.wav"}).text)))

    assert [(row["recording"], row["emotion"]) for row in rows] == [("one.wav", "anger"), ("two.wav", "calm")]
    assert [row["calm"] for row in rows] == ["", "0.9"]
    assert rows[1]["fear"] == ""


def test_ids_without_a_result_are_named(client: httpx2.Client, anger: str) -> None:
    unknown = [new_id(), "../../etc/passwd"]

    answer = read_csv(client, dict.fromkeys([unknown[0], anger, unknown[1]], "a.wav"))

    assert (answer.status_code, answer.json()["code"]) == (404, "no_result")
    assert answer.json()["missing"] == unknown
    assert answer.json()["detail"] == "The server has no result for 2 of 3 ids."


def test_the_documents_of_a_csv_file_have_a_limit(
    client: httpx2.Client, anger: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = service.store.find(anger)
    assert isinstance(document, bytes)
    monkeypatch.setattr("handlers.api.results._MAX_CSV_BYTES", 2 * len(document))
    results = [{"id": anger, "name": "a.wav"}] * 2
    assert client.post("/results.csv", json={"results": results}).status_code == 200

    answer = client.post("/results.csv", json={"results": [*results, results[0]]})

    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert answer.json()["detail"].startswith(f"The documents of the results exceed {2 * len(document):,} bytes.")


@pytest.mark.parametrize(
    "body",
    [
        "no JSON",
        "{}",
        '{"results": []}',
        '{"results": [{"id": "x", "name": ""}]}',
        '{"results": [{"id": "x"}], "per": 1}',
        json.dumps({"results": [{"id": "x" * 37, "name": "x"}]}),
        json.dumps({"results": [{"id": "\ud800", "name": "x"}]}),
        json.dumps({"results": [{"id": "x", "name": "\ud800"}]}),
        json.dumps({"results": [{"id": "x", "name": "x"}] * 501}),
    ],
    ids=[
        *("text", "no results", "empty", "empty name", "no name"),
        *("long id", "surrogate in the id", "surrogate in the name", "too many"),
    ],
)
def test_an_invalid_request_for_csv_is_refused(client: httpx2.Client, body: str) -> None:
    answer = client.post("/results.csv", content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


# ------------------------------------------------------------------------------------------------------------ report


def test_a_report_has_the_name_of_the_recording(client: httpx2.Client, conversation: str) -> None:
    name = "<b>call & 'more'\u202e.wav"

    page = client.get(f"/results/{conversation}/report", params={"name": name, "player": "1"}).text

    assert "<title>&lt;b&gt;call &amp; &#x27;more&#x27;\N{REPLACEMENT CHARACTER}.wav: emotions</title>" in page
    assert "<h1>&lt;b&gt;call" in page
    assert conversation not in page
    assert '<audio id="player" controls preload="auto">' in page
    assert name not in page


def test_a_linked_report_plays_the_file_in_its_folder_only(client: httpx2.Client, conversation: str) -> None:
    def linked(name: str) -> str:
        return client.get(f"/results/{conversation}/report", params={"name": name, "linked": "1"}).text

    assert 'src="call%20%231.wav"' in linked("call #1.wav")
    assert "media-src 'self' file:;" in linked("call #1.wav")
    assert 'src="..%2F..%2Fetc%2Fpasswd"' in linked("../../etc/passwd")
    assert 'src="https%3A%2F%2Fevil.example%2Fx"' in linked("https://evil.example/x")


def test_a_name_is_neither_stored_nor_logged(
    client: httpx2.Client, service: Service, conversation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    for handler in logger.handlers:
        monkeypatch.setattr(handler, "stream", log)
    client.get(f"/results/{conversation}/report", params={"name": "private.wav"})
    read_csv(client, {conversation: "private.wav"})

    store = service.store
    assert isinstance(store, FolderResultStore)
    assert b"private" not in store.find(conversation)  # type: ignore[operator]
    assert '"route":"/results.csv"' in log.getvalue()
    assert "private" not in log.getvalue()
