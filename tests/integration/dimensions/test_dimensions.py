"""A model that returns dimensions, from its checkpoint to the terminal, the function, the API and the page."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import jsonschema
import numpy as np
import pytest
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from typer.testing import CliRunner

from core.checkpoints.loading import load_classifier
from core.cli.app import app
from core.cli.classify import classify_files
from core.cli.local import _compare
from core.cli.parallel import PipelineOptions
from core.cli.tables import timelines
from core.delivery import Outcome
from core.delivery.eventbridge import event_detail
from core.delivery.report_pages import refresh_report
from core.delivery.storage import Storage
from core.local.stack import RESULTS_BUCKET, running_stack
from core.model.classifier import EmotionClassifier
from core.model.package import read_manifest
from core.online.result_store import new_id
from core.pipeline import Pipeline
from core.results import Output, Result, Source, json_schema
from core.settings import MediaLimits, SegmentationSettings
from handlers.batch_operations import _describe
from tests.conftest import ROOT, MakeMedia
from tests.support.outputs import DIMENSIONS, MADE_UP, dimensional_result
from tests.support.serving import folder_service, serving
from tests.support.workers import function_result

CONVERSATION = ROOT / "samples" / "conversation.ogg"
ANGER = ROOT / "samples" / "anger.wav"
CALL = [
    [(0.5, 2.5, (0.61, 0.5, 0.25)), (4.0, 8.0, (0.9, 0.55, -0.1)), (9.0, 9.5, (0.3, 0.6, 0.4))],
    [(2.6, 3.8, (0.4, 0.5, 0.8))],
]


def test_the_package_has_the_checkpoint_s_output_and_values(linear_package: Path) -> None:
    manifest = read_manifest(linear_package)
    reference = load_classifier(linear_package.parent / "checkpoint", 1)
    package = EmotionClassifier.load(linear_package)
    clip = np.random.default_rng(9).normal(0, 0.1, 24_000).astype(np.float32)

    assert (manifest.output, manifest.labels, manifest.dimensions_range) == (Output.LINEAR, DIMENSIONS, (0.0, 1.0))
    assert manifest.parity.agreement is None
    assert manifest.parity.concordance == pytest.approx(1.0, abs=1e-6)
    for model in (reference.identity, package.identity):
        assert (model.labels, model.dimensions, model.dimensions_range) == ((), DIMENSIONS, (0.0, 1.0))
    values = package.classify(clip)
    assert list(values) == list(DIMENSIONS)
    assert values == pytest.approx(dict(zip(DIMENSIONS, package.logits(clip).tolist(), strict=True)))
    assert values == pytest.approx(dict(reference.classify(clip)), abs=1e-4)


def test_a_result_has_means_and_extremes_and_nothing_made_up(result: Result) -> None:
    document = json.loads(result.to_json())

    jsonschema.validate(document, json.loads(json_schema()))
    assert Result.model_validate_json(result.to_json()) == result
    assert (document["schema_version"], document["status"]) == ("1.1", "classified")
    assert document["model"].items() >= {"labels": [], "output": "linear", "dimensions_range": [0.0, 1.0]}.items()
    channels = document["channels"]
    parts = [part for channel in channels for part in channel["utterances"]]
    assert len(parts) > 3
    for entry in (document, *channels, *parts):
        assert {"emotion", "score", "scores"}.isdisjoint(entry)
        assert list(entry["dimensions"]) == list(DIMENSIONS)
    for entry, own in [(document, parts), *((channel, channel["utterances"]) for channel in channels)]:
        weights = [part["end_s"] - part["start_s"] for part in own]
        for name in DIMENSIONS:
            values = [part["dimensions"][name] for part in own]
            assert entry["dimensions"][name] == pytest.approx(np.average(values, weights=weights), abs=1e-5)
            assert (entry["dimensions_min"][name], entry["dimensions_max"][name]) == (min(values), max(values))
    # The values of a random network exceed the range, and are not clipped.
    assert any(not 0 <= value <= 1 for part in parts for value in part["dimensions"].values())


def test_the_terminal_shows_a_line_for_each_dimension(
    linear_package: Path, result: Result, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")

    assert classify_files([CONVERSATION], PipelineOptions(linear_package), form="table") == 0

    shown = capsys.readouterr().out
    header, row, *rest = shown.splitlines()
    assert header.split() == ["recording", "duration", "dimensions", "time"]
    assert result.dimensions
    assert ", ".join(f"{name} {value:.2f}" for name, value in result.dimensions.items()) in row
    for name in DIMENSIONS:
        (line,) = (line for line in rest if line.startswith(f"  {name} "))
        assert set(line.split()[1]) <= set("·▁▂▃▄▅▆▇█")
    assert any(line.split() == ["channel", "from", "to", *DIMENSIONS] for line in rest)
    assert not MADE_UP.search(shown)


def test_a_bar_is_as_high_as_the_value(tmp_path: Path) -> None:
    values = [(0.0, 0.5, 1.0), (0.124, 0.126, -3.0), (0.99, 0.24, 5.0)]
    one = dimensional_result([[(2 * n, 2 * n + 2, value) for n, value in enumerate(values)]])
    console = Console(width=120, file=io.StringIO(), record=True)
    for timeline in timelines([one], console.width):
        console.print(timeline)

    lines = {line.split()[0]: line.split()[1] for line in console.export_text().splitlines() if line.startswith("  ")}
    squeezed = {name: re.sub(r"(.)\1+", r"\1", lines[name]).strip("·") for name in DIMENSIONS}
    assert squeezed == {"arousal": "▁█", "dominance": "▅▂", "valence": "█▁█"}


def test_csv_has_a_column_for_each_dimension(linear_package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify_files([ANGER, ROOT / "samples" / "README.md"], PipelineOptions(linear_package), form="csv") == 1

    row, failed = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert list(row)[7:10] == list(DIMENSIONS)
    assert (row["emotion"], row["score"], row["status"]) == ("", "", "classified")
    assert all(float(row[name]) for name in DIMENSIONS)
    assert [failed[name] for name in DIMENSIONS] == ["", "", ""]


def test_stored_results_of_models_with_and_without_emotions_are_shown_together(
    result: Result, classifier: EmotionClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    emotions = Pipeline(classifier, MediaLimits(), SegmentationSettings()).run(ANGER, Source(key="anger.wav"))
    (tmp_path / "a.json").write_text(result.to_json())
    # As release 1.0 stored it.
    (tmp_path / "b.json").write_text(emotions.to_json().replace('"schema_version":"1.1"', '"schema_version":"1.0"'))

    def run(*options: str) -> str:
        done = CliRunner().invoke(app, ["results", "--folder", str(tmp_path), *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    table = run().splitlines()
    assert table[0].split() == ["recording", "duration", "emotion", "dimensions", "time"]
    assert table[-1] == "2 results: classified 1, anger 1"
    rows = list(csv.DictReader(io.StringIO(run("--csv"))))
    (by_emotion,) = (row for row in rows if row["recording"] == "anger.wav")
    assert (by_emotion["emotion"], by_emotion["arousal"]) == ("anger", "")
    assert {row["emotion"] for row in rows if row["recording"] == CONVERSATION.name} == {""}
    assert json.loads(run("--json", "--emotion", "anger"))["schema_version"] == "1.0"
    assert run("--json", "--emotion", "arousal") == ""


def test_a_document_of_release_1_0_has_a_report_in_every_place(
    classifier: EmotionClassifier, aws_server: str, package: Path, tmp_path: Path
) -> None:
    emotions = Pipeline(classifier, MediaLimits(), SegmentationSettings()).run(ANGER, Source(key="anger.wav"))
    document = emotions.to_json().replace('"schema_version":"1.1"', '"schema_version":"1.0"')
    recording_id = new_id()
    stored = tmp_path / "api" / f"{recording_id}.json"
    stored.parent.mkdir()
    stored.write_text(document)

    with serving(folder_service(package, tmp_path)) as address, httpx2.Client(base_url=address) as client:
        assert client.get(f"/results/{recording_id}").text == document
        assert "<h2>Anger (score " in client.get(f"/results/{recording_id}/report").text
    done = CliRunner().invoke(app, ["report", str(stored), "--out", str(tmp_path / "report.html")])
    assert done.exit_code == 0
    assert "<h2>Anger (score " in (tmp_path / "report.html").read_text(encoding="utf-8")
    with running_stack(endpoint=aws_server) as stack:
        stack.s3.put_object(Bucket=RESULTS_BUCKET, Key="results/a.json", Body=document.encode())
        refresh_report(Storage(stack.s3), RESULTS_BUCKET, "results/a.json")
        page = stack.s3.get_object(Bucket=RESULTS_BUCKET, Key="results/a.html")["Body"].read().decode()
    assert "<h2>Anger (score " in page


def test_the_demo_compares_emotions_only(result: Result, tmp_path: Path) -> None:
    expectations = tmp_path / "expected.json"
    expectations.write_text(json.dumps({result.source.key: {"emotion": "anger"}}))
    console = Console(file=io.StringIO(), record=True)

    assert _compare([result], expectations, console) == 0
    assert console.export_text() == ""


def test_the_function_stores_dimensions(aws_server: str, linear_package: Path, tmp_path: Path) -> None:
    log = tmp_path / "function.log"
    document = json.loads(function_result(aws_server, linear_package, ANGER, tmp_path))

    assert list(document["dimensions"]) == list(DIMENSIONS)
    line = next(line for line in map(json.loads, _json_lines(log)) if line.get("message") == "recording")
    assert line["dimensions"] == document["dimensions"]
    assert line["status"] == "classified"
    assert {"emotion", "score"}.isdisjoint(line)
    metrics = next(line for line in map(json.loads, _json_lines(log)) if "_aws" in line and "Classified" in line)
    assert metrics["Classified"] == [1.0]


def _json_lines(log: Path) -> Iterator[str]:
    return (line for line in log.read_text().splitlines() if line.startswith("{"))


def test_an_event_and_the_report_of_a_backfill_have_the_means(result: Result) -> None:
    detail = event_detail(result, "bucket", "key")

    assert detail["dimensions"] == result.dimensions
    assert {"emotion", "score"}.isdisjoint(detail)
    text = _describe(Outcome("stored", "key", result))
    assert re.fullmatch(r"classified: arousal -?\d+\.\d\d, dominance -?\d+\.\d\d, valence -?\d+\.\d\d", text)


@pytest.fixture(scope="module")
def address(linear_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(folder_service(linear_package, tmp_path_factory.mktemp("results"))) as address:
        yield address


def test_the_api_answers_with_dimensions(address: str, make_media: MakeMedia) -> None:
    silence = make_media("silence.wav", source="anullsrc=d=1")
    with httpx2.Client(base_url=address) as client:
        answer = client.post("/recognize/", files={"file": ANGER.read_bytes()})
        stored = client.get(answer.headers["content-location"]).json()
        model = client.get("/health").json()["model"]
        without_speech = client.post("/recognize/", files={"file": silence.read_bytes()})

    body = answer.json()
    assert answer.status_code == 200
    assert list(body) == ["predict", "score", "dimensions", "result"]
    assert (body["predict"], body["score"], body["dimensions"]) == (None, None, stored["dimensions"])
    assert body["result"] == stored
    assert (model["labels"], model["dimensions"]) == ([], list(DIMENSIONS))
    assert without_speech.status_code == 422
    assert without_speech.json()["detail"] == "The recording contains no speech, so there are no values to report."


def test_the_page_shows_values_by_name(browser: webdriver.Chrome, address: str) -> None:
    browser.get(f"{address}/")
    WebDriverWait(browser, 30).until(lambda page: page.find_element(By.ID, "about").text)
    assert "arousal, dominance, valence" in browser.find_element(By.ID, "lead").text
    browser.find_element(By.ID, "file").send_keys(str(CONVERSATION))
    WebDriverWait(browser, 60).until(lambda page: page.find_elements(By.CSS_SELECTOR, ".item progress[hidden]"))

    item = browser.find_element(By.CSS_SELECTOR, ".item").text
    assert re.search(r"arousal -?\d+\.\d\d, dominance -?\d+\.\d\d, valence -?\d+\.\d\d", item)
    assert not MADE_UP.search(item)
    WebDriverWait(browser, 30).until(lambda page: page.find_element(By.ID, "report").rect["height"] > 600)
    browser.switch_to.frame("report")
    try:
        assert "Dimensions over time" in browser.find_element(By.TAG_NAME, "main").text
    finally:
        browser.switch_to.default_content()
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []  # type: ignore[no-untyped-call]
