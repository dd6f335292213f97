"""A model that returns dimensions, from its checkpoint to the terminal, the function, the API and the report page."""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import jsonschema
import numpy as np
import pytest
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
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
from core.report import IndexRow, index_page, render
from core.report.lanes import lanes_of
from core.report.moments import moments_of
from core.results import Error, Output, Result, Source, json_schema
from core.settings import MediaLimits, SegmentationSettings
from handlers.batch_operations import _describe
from tests.conftest import ROOT, MakeMedia
from tests.support.browser import accessibility_violations, running_browser
from tests.support.outputs import DIMENSIONS, dimensional_result, write_package
from tests.support.serving import folder_service, serving
from tests.support.workers import function_result

CONVERSATION = ROOT / "samples" / "conversation.ogg"
ANGER = ROOT / "samples" / "anger.wav"
MADE_UP = re.compile(r"emotion|score|%(?! of the speech|</dd>)|anger|neutral", re.IGNORECASE)
"""Text that a model without emotions must not cause."""
CALL = [
    [(0.5, 2.5, (0.61, 0.5, 0.25)), (4.0, 8.0, (0.9, 0.55, -0.1)), (9.0, 9.5, (0.3, 0.6, 0.4))],
    [(2.6, 3.8, (0.4, 0.5, 0.8))],
]


@pytest.fixture(scope="module")
def linear_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(Output.LINEAR, DIMENSIONS, tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def pipeline(linear_package: Path) -> Pipeline:
    return Pipeline(EmotionClassifier.load(linear_package), MediaLimits(), SegmentationSettings())


@pytest.fixture(scope="module")
def result(pipeline: Pipeline) -> Result:
    return pipeline.run(CONVERSATION, Source(key=CONVERSATION.name))


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


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with running_browser() as running:
        yield running


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


def words_of(page: str) -> str:
    """Return the text of a page and of its attributes, without the coordinates of the charts."""
    body = page.partition("<body>")[2].partition("<script")[0]
    return re.sub(r' (?:(?:x|x1|x2|width)="[-.\d]+%"|style="[^"]*")', "", body)


def open_report(browser: webdriver.Chrome, result: Result, folder: Path) -> webdriver.Chrome:
    page = folder / "report.html"
    page.write_text(render(result), encoding="utf-8")
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    return browser


def test_the_report_draws_a_line_for_each_dimension_in_each_lane(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = open_report(browser, dimensional_result(CALL), tmp_path)

    text = page.find_element(By.TAG_NAME, "body").text
    assert accessibility_violations(page) == []
    assert "On average: arousal 0.71, dominance 0.53, valence 0.16" in text
    assert "The training data has values from 0 to 1. The model can exceed them." in text
    assert not MADE_UP.search(words_of(page.page_source))
    assert page.title == "call.wav: arousal, dominance, valence"
    lanes = page.find_elements(By.CSS_SELECTOR, "svg.lines")
    assert [len(lane.find_elements(By.CSS_SELECTOR, ".line")) for lane in lanes] == [3, 3]
    # Each line is on the height of its value: arousal 0.9 is as far below 1 as 0.1 is above 0.
    box = "return arguments[0].getBBox()"
    grid = [page.execute_script(box, line)["y"] for line in lanes[0].find_elements(By.CSS_SELECTOR, ".grid")]
    (high, low), path = (min(grid[:2]), max(grid[:2])), lanes[0].find_element(By.CSS_SELECTOR, ".line")
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)H", path.get_attribute("d") or "")]
    assert heights == pytest.approx([low - value * (low - high) for value in (0.61, 0.9, 0.3)], abs=0.1)
    # The axis of valence goes down to its lowest value, and its numbers are those of the range.
    numbers = [text.text for text in page.find_elements(By.CSS_SELECTOR, ".scale text")]
    assert numbers == ["0", "1"] * 6
    last = max(
        float(y)
        for y in re.findall(r" ([\d.]+)H", lanes[0].find_elements(By.CSS_SELECTOR, ".line")[2].get_attribute("d") or "")
    )
    assert last > max(grid[4:6])
    cells = [cell.text for cell in page.find_elements(By.CSS_SELECTOR, ".means td")]
    assert cells[:5] == ["Channel 0", "arousal", "0.76", "0.30", "0.90"]
    assert cells[-5:] == ["All channels", "valence", "0.16", "-0.10", "0.80"]


def test_the_report_s_utterances_are_reached_with_the_keyboard(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = open_report(browser, dimensional_result(CALL), tmp_path)

    page.execute_script("document.querySelector('.utterance').focus()")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)

    details = page.find_element(By.ID, "details").text
    assert details == "Channel 0, 0:04 to 0:08: arousal 0.90, dominance 0.55, valence -0.10"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_s_lines_stand_out_in_both_schemes_and_fit_a_phone(
    browser: webdriver.Chrome, scheme: str, tmp_path: Path
) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        page = open_report(browser, dimensional_result(CALL), tmp_path)

        line = page.find_element(By.CSS_SELECTOR, ".line").value_of_css_property("stroke")
        paper = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        shades = [int(re.findall(r"\d+", colour)[0]) for colour in (line, paper)]
        assert (shades[0] < shades[1]) is (scheme == "light")
        assert abs(shades[0] - shades[1]) > 150
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        names = page.find_elements(By.CSS_SELECTOR, ".axes span")
        assert [name.text for name in names] == [*DIMENSIONS, *DIMENSIONS]
        fits = "return arguments[0].scrollWidth <= arguments[0].clientWidth"
        assert all(page.execute_script(fits, name) for name in names)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize(
    ("values", "limits", "numbers"),
    [
        ([(0.2,), (0.7,)], None, ["0.2", "0.7"]),
        ([(0.2,), (0.2,)], None, ["-0.3", "0.7"]),
        ([(-14.2,), (40.0,)], (0.0, 1.0), ["-14.2", "40"]),
        ([(1.5,), (6.5,)], (1.0, 7.0), ["1", "7"]),
    ],
    ids=["no range", "constant", "far beyond the range", "another range"],
)
def test_an_axis_covers_every_value(
    values: list[tuple[float]], limits: tuple[float, float] | None, numbers: list[str]
) -> None:
    page = render(
        dimensional_result([[(n, n + 1, value) for n, value in enumerate(values)]], ("arousal & <b>",), limits)
    )

    assert (
        re.findall(r'y="[-\d.]+">([-\d.]+)</text>', page.partition('class="scale"')[2].partition("</svg>")[0])
        == numbers
    )
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([-\d.]+)H", page.partition("lines")[2])]
    assert heights
    assert all(0 <= y <= 64 for y in heights)
    assert "<span>arousal &amp; &lt;b&gt;</span>" in page


def test_the_moments_and_the_index_of_dimensions_use_their_values() -> None:
    (two, one) = lanes_of(dimensional_result(CALL).with_figures())
    words = [(moment.start_s, moment.words) for moment in moments_of(two, 2)]
    assert (4.0, "highest arousal 0.90") in words
    assert (4.0, "lowest valence -0.10") in words
    assert moments_of(one, 2) == []

    row = IndexRow.of(dimensional_result(CALL), "call.html")
    assert row.unpleasant_words == "valence 0.05, Channel 0"
    page = index_page(
        "calls", [row, IndexRow.of(dimensional_result(CALL[1:]), "other.html")], dimensional_result(CALL).model
    )
    assert page.index("call.html") < page.index("other.html")
    assert "the mean valence of the speaker with the lowest" in page


def test_a_report_without_values_names_no_emotion() -> None:
    call = dimensional_result(CALL)
    nothing = dict.fromkeys(("dimensions", "dimensions_min", "dimensions_max"))
    silent = call.model_copy(update={"status": "no_speech", "channels": (), **nothing})
    error = Error(code="damaged", message="The recording is damaged.")
    failed = call.model_copy(update={"status": "failed", "channels": None, "error": error, **nothing})

    for one, text in ((silent, "so there are no values to show"), (failed, "The recording is damaged.")):
        body = words_of(render(one))
        assert text in body
        assert not MADE_UP.search(body)


def manifest_with(folder: Path, header: str, *rows: str) -> Path:
    for name in ("anger.wav", "happy.mp3", "neutral.flac"):
        shutil.copy(ROOT / "samples" / name, folder / name)
    file = folder / "manifest.csv"
    file.write_text("\n".join((header, *rows, "")), encoding="utf-8")
    return file


def evaluate(manifest: Path, package: Path, *options: str) -> tuple[int, str, str]:
    out = ["--out", str(manifest.parent / "out")]
    done = CliRunner().invoke(app, ["evaluate", str(manifest), "--model", str(package), *out, *options])
    message = str(done.exception) if done.exception and not isinstance(done.exception, SystemExit) else done.stderr
    return done.exit_code, done.stdout, message


def test_evaluation_measures_the_concordance_of_each_dimension(
    linear_package: Path, pipeline: Pipeline, tmp_path: Path, make_media: MakeMedia
) -> None:
    shutil.copy(make_media("silence.wav", source="anullsrc=d=1"), tmp_path / "quiet.wav")
    files = ("anger.wav", "happy.mp3", "neutral.flac")
    found = [pipeline.run(ROOT / "samples" / name, Source(key=name)).dimensions or {} for name in files]
    rows = [f"{name},{one['arousal'] + 0.1:.6f},{-one['valence']:.6f}" for name, one in zip(files, found, strict=True)]
    manifest = manifest_with(tmp_path, "path,Arousal,valence", *rows, "quiet.wav,0.5,")

    status, shown, _ = evaluate(manifest, linear_package, "--json")

    figures = json.loads(shown)
    assert status == 0
    assert (figures["recordings"], figures["without_values"]) == (4, 1)
    assert figures == json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    arousal, valence = (np.array([one[name] for one in found]) for name in ("arousal", "valence"))
    expected = 2 * arousal.var() / (2 * arousal.var() + 0.01)  # a shift by 0.1
    assert figures["dimensions"]["arousal"]["concordance"] == pytest.approx(expected, abs=1e-4)
    assert figures["dimensions"]["arousal"]["correlation"] == pytest.approx(1.0, abs=1e-6)
    opposite = -2 * valence.var() / (2 * valence.var() + (2 * valence.mean()) ** 2)
    assert figures["dimensions"]["valence"]["concordance"] == pytest.approx(opposite, abs=1e-4)
    assert "dominance" not in figures["dimensions"]

    status, shown, _ = evaluate(manifest, linear_package)  # from the predictions of the first run
    assert status == 0
    assert f"{expected:.3f}" in next(line for line in shown.splitlines() if line.startswith("arousal"))
    assert "4 recordings, 1 without values" in shown


@pytest.mark.parametrize(
    ("header", "row", "sentence"),
    [
        ("path,emotion", "anger.wav,anger", "at least one of arousal, dominance, valence"),
        ("path,arousal", "anger.wav,high", "Line 2 of .* has 'high' in the column arousal, not a number"),
        ("path,arousal", "anger.wav,nan", "Line 2 of .* has 'nan' in the column arousal, not a number"),
        ("path,arousal", "anger.wav,", "The columns arousal in .* have no values"),
    ],
)
def test_a_manifest_that_does_not_fit_the_model_is_refused_in_one_sentence(
    header: str, row: str, sentence: str, linear_package: Path, tmp_path: Path
) -> None:
    status, _, message = evaluate(manifest_with(tmp_path, header, row), linear_package)

    assert status == 1
    assert re.search(sentence, message)


def test_a_manifest_of_dimensions_does_not_fit_a_model_with_emotions(package: Path, tmp_path: Path) -> None:
    status, _, message = evaluate(manifest_with(tmp_path, "path,arousal", "anger.wav,0.5"), package)

    assert status == 1
    assert "the columns path and emotion, because the model returns emotions" in message


def test_a_manifest_with_emotions_too_is_evaluated_by_its_numbers(linear_package: Path, tmp_path: Path) -> None:
    manifest = manifest_with(tmp_path, "path,emotion,arousal", "anger.wav,anger,6.5", "happy.mp3,happy,5")

    status, shown, notes = evaluate(manifest, linear_package, "--json")

    assert status == 0
    assert json.loads(shown)["dimensions"].keys() == {"arousal"}
    notes = " ".join(notes.split())
    assert "The column emotion is ignored, because the model returns arousal, dominance, valence." in notes
    assert "The column arousal has values from 5 to 6.5, but the model's range is 0 to 1." in notes
    status, _, message = evaluate(manifest, linear_package, "--map", "mad=anger")
    assert status == 1
    assert "--map translates emotions, but the model returns values of dimensions." in message
