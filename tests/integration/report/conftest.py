"""The browser, the results and the sounds of the report's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.report import Sound, render
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import MakeMedia
from tests.support.browser import running_browser
from tests.support.report_page import CONVERSATION, Show


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def result(classifier: EmotionClassifier) -> Result:
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
    return pipeline.run(CONVERSATION, Source(key=CONVERSATION.name))


@pytest.fixture
def show(browser: webdriver.Chrome, tmp_path: Path) -> Show:
    """Return a function that opens the page of a result, and fails on an error in the browser's log."""

    def open_page(result: Result, sound: Sound | None = None) -> webdriver.Chrome:
        page = tmp_path / "report.html"
        page.write_text(render(result, sound), encoding="utf-8")
        browser.get(page.as_uri())
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
        return browser

    return open_page


@pytest.fixture
def quiet(make_media: MakeMedia) -> Callable[[float], Sound]:
    """Return a function that makes silence of any duration in a format that browsers play."""

    def make(duration_s: float) -> Sound:
        file = make_media("quiet.m4a", "-c:a", "aac", "-b:a", "8k", source=f"anullsrc=r=16000:cl=mono:d={duration_s}")
        return Sound("audio/mp4", file.read_bytes())

    return make
