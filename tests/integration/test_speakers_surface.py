"""The choice to separate speakers in the command line, the report, the API and the page, with the results shown."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from core.audio.waveform import SAMPLE_RATE_HZ
from core.cli.app import main
from core.cli.local import function_settings
from core.delivery.metadata import SPEAKERS_KEY, requested_speakers
from core.delivery.storage import Storage
from core.local.stack import UPLOADS_BUCKET, running_stack
from core.model.classifier import EmotionClassifier
from core.online.result_store import S3ResultStore, presigning_s3_client
from core.pipeline import Pipeline
from core.report import render
from core.results import Result, Source
from core.settings import CLI_PREFIX, ApiSettings, MediaLimits, SegmentationSettings, SpeakerSettings, read
from core.speakers.separation import SpeakerSeparator
from handlers.api.service import Service
from tests.conftest import ROOT
from tests.support.browser import running_browser
from tests.support.serving import folder_service, serving
from tests.support.voices import two_voices, write_speaker_network

TURNS = 4
LABELS = [int(voice != two_voices(TURNS)[1][0]) for voice in two_voices(TURNS)[1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("speakers")


@pytest.fixture(scope="module")
def network(folder: Path) -> Path:
    return write_speaker_network(folder / "speakers.onnx")


@pytest.fixture(scope="module")
def call(folder: Path) -> Path:
    soundfile.write(folder / "call.wav", two_voices(TURNS)[0], SAMPLE_RATE_HZ)
    return folder / "call.wav"


@pytest.fixture(scope="module")
def result(classifier: EmotionClassifier, network: Path, call: Path) -> Result:
    separator = SpeakerSeparator(SpeakerSettings(speakers="2", speakers_model=network))
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings(), separator)
    return pipeline.run(call, Source(key=call.name))


# ---------------------------------------------------------------------------------------------------- command line

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(network: Path, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return the exit status, stdout and stderr."""

    def command(*arguments: str | Path, **environment: str) -> tuple[int, str, str]:
        given = {"MODEL_DIR": str(package), "SPEAKERS_MODEL": str(network), **environment}
        for name, value in given.items():
            monkeypatch.setenv(CLI_PREFIX + name, value)
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys, "argv", ["audio-emotion", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return command


def test_csv_has_the_speaker_in_a_column(run: Run, call: Path) -> None:
    _, with_speakers, _ = run("classify", call, "--csv", "--speakers", "2")
    _, without, _ = run("classify", call, "--csv")

    assert [row["speaker"] for row in csv.DictReader(io.StringIO(with_speakers))] == list(map(str, LABELS))
    assert [row["speaker"] for row in csv.DictReader(io.StringIO(without))] == [""] * TURNS


@pytest.mark.parametrize(("option", "variable", "found"), [(None, "2", 2), ("off", "2", None), ("auto", "off", 2)])
def test_the_option_wins_over_the_environment(
    run: Run, call: Path, option: str | None, variable: str, found: int | None
) -> None:
    options = ["--speakers", option] if option else []
    status, stdout, _ = run("classify", call, "--json", *options, SPEAKERS=variable)
    assert status == 0
    assert json.loads(stdout)["channels"][0].get("voices", {}).get("found") == found


def test_the_table_has_a_lane_and_a_row_for_each_speaker(run: Run, call: Path) -> None:
    _, stdout, _ = run("classify", call, "--speakers", "2")
    lanes = [line for line in stdout.splitlines() if line.startswith("channel 0, speaker")]
    assert len(lanes) == 2
    assert "None" not in stdout
    rows = [line.split() for line in stdout.splitlines() if line.strip().startswith("0 ") and ":" in line]
    assert [int(row[1]) for row in rows] == LABELS


@pytest.mark.parametrize("command", ["classify", "local"])
def test_a_missing_network_is_one_sentence_before_the_first_recording(
    run: Run, call: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, stdout, stderr = run(
        command, *([call] if command == "classify" else []), "--speakers", "2", SPEAKERS_MODEL="missing.onnx"
    )
    assert (status, stdout) == (1, "")
    assert "SPEAKERS=2 needs missing.onnx, which does not exist. Run `make speakers`" in stderr
    assert "Traceback" not in stderr


def test_the_local_stack_gets_the_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{CLI_PREFIX}SPEAKERS", "2")
    given = function_settings("auto")
    assert given["SPEAKERS"] == "auto"
    assert given["SPEAKERS_MODEL"] == str(tmp_path / "build/speakers/speakers.onnx")
    assert function_settings()["SPEAKERS"] == "2"


# -------------------------------------------------------------------------------------------------------- function


@pytest.mark.parametrize("entry_point", ["s3_upload", "batch_operations", "api.on_lambda"])
@pytest.mark.parametrize("mode", ["off", "auto"])
def test_a_function_without_the_network_says_so_when_it_starts(
    package: Path, tmp_path: Path, entry_point: str, mode: str
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "MODEL_DIR": str(package),
        "RESULTS_BUCKET": "results",
        "UPLOADS_BUCKET": "uploads",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3008",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "TMPDIR": str(tmp_path),
        "SPEAKERS": mode,
        "SPEAKERS_MODEL": "/opt/model/speakers.onnx",
    }
    command = [sys.executable, "-c", f"import handlers.{entry_point}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)

    assert (done.returncode == 0) == (mode == "off"), done.stderr
    if mode != "off":
        message = "SPEAKERS=auto needs /opt/model/speakers.onnx, which does not exist. Run `make speakers`"
        assert message in done.stderr.splitlines()[-1]


# ---------------------------------------------------------------------------------------------------------- report


def test_the_report_has_a_lane_for_each_speaker(result: Result, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(result), encoding="utf-8")
    with running_browser() as browser:
        browser.get(page.as_uri())
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
        names = [heading.text for heading in browser.find_elements(By.CSS_SELECTOR, ".lanes h3")]
        assert names == ["Channel 0, speaker 0", "Channel 0, speaker 1"]
        lanes = browser.find_elements(By.CSS_SELECTOR, ".lanes .lane")
        counts = [len(lane.find_elements(By.CLASS_NAME, "utterance")) for lane in lanes]
        assert counts == [LABELS.count(0), LABELS.count(1)]
        # Each bar finds its own row.
        ids = [bar.get_attribute("data-utterance") for bar in browser.find_elements(By.CLASS_NAME, "utterance")]
        rows = [row.get_attribute("data-utterance") for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr")]
        assert len(set(ids)) == len(ids) == TURNS
        assert sorted(map(str, ids)) == sorted(map(str, rows))
        cells = [
            row.text.partition("\n")[0] for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr .name:first-child")
        ]
        assert cells == [f"Channel 0, speaker {label}" for label in LABELS]
        label = browser.find_elements(By.CLASS_NAME, "utterance")[0].get_attribute("aria-label")
        assert str(label).startswith("Channel 0, speaker 0, 0:0")


def test_a_report_without_speakers_does_not_mention_them(classifier: EmotionClassifier, call: Path) -> None:
    plain = Pipeline(classifier, MediaLimits(), SegmentationSettings()).run(call, Source(key="call.wav"))
    assert "peaker" not in render(plain).partition("<body>")[2].partition('"use strict"')[0]


# ------------------------------------------------------------------------------------------------------------- API


@pytest.fixture(scope="module")
def service(package: Path, network: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    return folder_service(package, tmp_path_factory.mktemp("results"), speakers=SpeakerSettings(speakers_model=network))


@pytest.fixture(scope="module")
def client_without(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server on which the speaker network is not installed."""
    service = folder_service(
        package,
        tmp_path_factory.mktemp("results"),
        speakers=SpeakerSettings(speakers_model=Path("missing.onnx")),
    )
    with serving(service) as address, httpx2.Client(base_url=address, timeout=600) as client:
        yield client


def voices(document: dict[str, Any]) -> dict[str, Any]:
    [channel] = document["channels"]
    found: dict[str, Any] = channel.get("voices", {})
    return found


def wait_for(client: httpx2.Client, path: str) -> dict[str, Any]:
    for _ in range(600):
        answer = client.get(path)
        if answer.status_code == 200:
            document: dict[str, Any] = answer.json()
            return document
        time.sleep(0.1)
    raise AssertionError("the upload was not classified")


@pytest.mark.parametrize(("fields", "found"), [({}, None), ({"speakers": ""}, None), ({"speakers": "2"}, 2)])
def test_a_request_can_choose(client: httpx2.Client, call: Path, fields: dict[str, str], found: int | None) -> None:
    answer = client.post("/recognize/", data=fields, files={"file": call.read_bytes()})
    assert answer.status_code == 200, answer.text
    assert voices(answer.json()["result"]).get("found") == found


@pytest.mark.parametrize("query", [{}, {"speakers": "auto"}])
def test_an_upload_can_choose(client: httpx2.Client, call: Path, query: dict[str, str]) -> None:
    form = client.post("/uploads", params=query).json()
    sent = client.post("/uploads/here", data=form["fields"], files={"file": call.read_bytes()})
    assert sent.status_code == 204, sent.text
    assert voices(wait_for(client, form["result"])).get("requested") == query.get("speakers")


def test_an_unknown_choice_is_refused_before_anything_is_stored(client: httpx2.Client, call: Path) -> None:
    answers = [
        client.post("/recognize/", data={"speakers": "3"}, files={"file": call.read_bytes()}),
        client.post("/uploads", params={"speakers": "3"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), answer.text
        assert "speakers" in answer.json()["detail"]


def test_a_server_without_the_network_says_so(client_without: httpx2.Client, client: httpx2.Client, call: Path) -> None:
    recording = {"file": call.read_bytes()}
    answers = [
        client_without.post("/recognize/", data={"speakers": "2"}, files=recording),
        client_without.post("/uploads", params={"speakers": "2"}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (422, "speakers_unavailable"), answer.text
    assert client_without.post("/recognize/", data={"speakers": "off"}, files=recording).status_code == 200
    available = [each.get("/health").json()["speakers_available"] for each in (client_without, client)]
    assert available == [False, True]
    assert client.get("/health").json()["speakers"] == "off"


def test_a_form_for_s3_carries_the_choice_and_cannot_be_changed(
    aws_server: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_stack(endpoint=aws_server) as stack:
        for name, value in stack.environment(package).items():
            monkeypatch.setenv(name, value)
        storage = Storage(stack.s3)
        store = S3ResultStore(storage, presigning_s3_client(), read(ApiSettings), 1_000_000)
        field = f"x-amz-meta-{SPEAKERS_KEY}"
        for mode in ("2", None):
            form = store.create_upload("", mode)
            assert form.fields.get(field) == mode
            sent = httpx2.post(form.url, data=dict(form.fields), files={"file": b"recording"})
            assert sent.status_code == 204
            uploaded = storage.head(UPLOADS_BUCKET, store.key_for(form.id))
            assert uploaded is not None
            assert requested_speakers(uploaded) == mode


# ------------------------------------------------------------------------------------------------------------ page


def test_the_page_offers_the_choice_and_sends_it(address: str, call: Path, tmp_path: Path) -> None:
    """Also for a recording that is too large for one request."""
    large = tmp_path / "large.wav"
    samples = two_voices(TURNS)[0]
    soundfile.write(large, np.repeat(samples, 12), 12 * SAMPLE_RATE_HZ)
    assert large.stat().st_size > 4_500_000
    with running_browser() as browser:
        browser.get(address)
        wait = WebDriverWait(browser, 120)
        option = browser.find_element(By.ID, "speakers-option")
        wait.until(lambda _: option.is_displayed())
        choice = Select(browser.find_element(By.ID, "speakers"))
        assert choice.first_selected_option.get_attribute("value") == "off"
        choice.select_by_value("2")
        for count, file in enumerate((call, large), start=1):
            browser.find_element(By.ID, "file").send_keys(str(file))
            while len(browser.find_elements(By.CSS_SELECTOR, ".item .open:enabled")) < count:
                time.sleep(0.1)
            browser.find_element(By.CSS_SELECTOR, ".item button").click()
            frame = browser.find_element(By.ID, "report")
            browser.switch_to.frame(frame)
            wait.until(lambda _: browser.find_elements(By.CSS_SELECTOR, ".lanes h3"))
            names = [heading.text for heading in browser.find_elements(By.CSS_SELECTOR, ".lanes h3")]
            browser.switch_to.default_content()
            assert names == ["Channel 0, speaker 0", "Channel 0, speaker 1"]


def test_the_page_of_a_server_without_the_network_offers_no_choice(client_without: httpx2.Client) -> None:
    with running_browser() as browser:
        browser.get(str(client_without.base_url))
        about = browser.find_element(By.ID, "about")
        WebDriverWait(browser, 60).until(lambda _: about.text)
        assert not browser.find_element(By.ID, "speakers-option").is_displayed()
