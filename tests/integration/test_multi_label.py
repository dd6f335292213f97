"""A model whose scores are probabilities on their own, from its checkpoint to the terminal and the report page."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from core.checkpoints.loading import load_classifier
from core.cli.classify import classify_files
from core.cli.parallel import PipelineOptions
from core.emotions import label_styles
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.report import render
from core.results import EmotionScores, Output, Result, Source, json_schema
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT
from tests.support.browser import running_browser
from tests.support.outputs import MULTI_LABEL, write_package
from tests.support.serving import folder_service, serving

CONVERSATION = ROOT / "samples" / "conversation.ogg"
ANY_TEXT = (*MULTI_LABEL[:5], 'a "b"', "生气/angry", "\\back\nslash")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(Output.SIGMOID, MULTI_LABEL, tmp_path_factory.mktemp("sigmoid"))


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def result(package: Path) -> Result:
    pipeline = Pipeline(EmotionClassifier.load(package), MediaLimits(), SegmentationSettings())
    return pipeline.run(CONVERSATION, Source(key=CONVERSATION.name))


def test_each_score_is_the_probability_of_its_label(package: Path) -> None:
    clip = np.random.default_rng(9).normal(0, 0.1, 24_000).astype(np.float32)
    classifier = EmotionClassifier.load(package)

    scores = classifier.classify(clip)

    assert scores == pytest.approx(dict(zip(MULTI_LABEL, 1 / (1 + np.exp(-classifier.logits(clip))), strict=True)))
    assert sum(scores.values()) > 1.5
    assert scores == pytest.approx(dict(load_classifier(package.parent / "checkpoint", 1).classify(clip)), abs=1e-4)


def test_a_result_has_independent_scores_and_the_highest_of_their_means(result: Result) -> None:
    document = json.loads(result.to_json())

    jsonschema.validate(document, json.loads(json_schema()))
    assert (document["model"]["output"], document["model"]["labels"]) == ("sigmoid", list(MULTI_LABEL))
    assert "dimensions" not in document
    parts = [part for channel in document["channels"] for part in channel["utterances"]]
    for entry in (document, *document["channels"], *parts):
        assert entry["score"] == max(entry["scores"].values()) == entry["scores"][entry["emotion"]]
    weights = [part["end_s"] - part["start_s"] for part in parts]
    for label in MULTI_LABEL:
        mean = np.average([part["scores"][label] for part in parts], weights=weights)
        assert document["scores"][label] == pytest.approx(mean, abs=1e-5)


def test_the_terminal_and_the_report_show_them(
    package: Path, result: Result, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")

    assert classify_files([CONVERSATION], PipelineOptions(package), form="table") == 0

    shown = capsys.readouterr().out
    assert f"{result.emotion} throughout" in shown
    assert all(f"{part.score:.1%}" in shown for part in result.utterances)
    assert "Each score is a probability on its own." in render(result)


def test_labels_of_any_text_have_a_colour_and_a_letter_on_both_pages(
    browser: webdriver.Chrome, result: Result, tmp_path: Path
) -> None:
    package = write_package(Output.SIGMOID, ANY_TEXT, tmp_path / "model")
    styles = label_styles(ANY_TEXT)
    assert result.channels
    parts = tuple(
        part.model_copy(update=dict(EmotionScores.of({other: 0.8 if other == label else 0.4 for other in ANY_TEXT})))
        for label, part in zip(ANY_TEXT, (*result.channels[0].utterances * 2,), strict=False)
    )
    model = result.model.model_copy(update={"labels": ANY_TEXT})
    channel = result.channels[0].model_copy(update={"utterances": parts})
    page = tmp_path / "report.html"
    page.write_text(render(result.model_copy(update={"model": model, "channels": (channel,)})), encoding="utf-8")

    browser.get(page.as_uri())
    swatches = browser.find_elements(By.CSS_SELECTOR, ".legend:not(.mix) .swatch")[: len(ANY_TEXT)]
    assert [swatch.text for swatch in swatches] == [style.letter.upper() for style in styles.values()]
    for swatch, style in zip(swatches, styles.values(), strict=True):
        assert _hexadecimal(swatch.value_of_css_property("background-color")) == style.colour.lower()
        assert _hexadecimal(swatch.value_of_css_property("color")) == ("#ffffff" if style.is_dark else "#111111")

    with serving(folder_service(package, tmp_path / "results")) as address:
        browser.get(f"{address}/")
        WebDriverWait(browser, 30).until(lambda page: page.find_element(By.ID, "about").text)
        for label, style in styles.items():
            shown = browser.execute_script(
                "const item = document.createElement('li'); item.className = 'item';"
                "const outcome = document.createElement('span'); outcome.className = 'outcome';"
                "const swatch = document.createElement('i'); swatch.dataset.emotion = arguments[0];"
                "outcome.append(swatch); item.append(outcome); document.getElementById('items').append(item);"
                "return [getComputedStyle(swatch).backgroundColor, getComputedStyle(swatch, '::before').content];",
                label,
            )
            assert (_hexadecimal(shown[0]), shown[1]) == (style.colour.lower(), f'"{style.letter.upper()}"')
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []  # type: ignore[no-untyped-call]


def _hexadecimal(colour: str) -> str:
    red, green, blue = (int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"
