"""The page of a result, in a real browser."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from core.cli.report import small_sound
from core.emotions import COLOURS
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.report import Sound, render
from core.results import Error, Result, Source
from core.settings import MediaLimits
from tests.browser import running_browser
from tests.conftest import ROOT

CONVERSATION = ROOT / "samples" / "conversation.ogg"
NASTY = (
    "a</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">&\"'\u202e.wav"
)
Open = Callable[..., webdriver.Chrome]


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def result(package: Path) -> Result:
    pipeline = Pipeline(EmotionClassifier.load(package), MediaLimits())
    return pipeline.run(CONVERSATION, Source(key=CONVERSATION.name))


@pytest.fixture
def show(browser: webdriver.Chrome, tmp_path: Path) -> Open:
    """Open the page of a result; nothing may go wrong in it."""

    def open_page(result: Result, sound: Sound | None = None) -> webdriver.Chrome:
        page = tmp_path / "report.html"
        page.write_text(render(result, sound), encoding="utf-8")
        browser.get(page.as_uri())
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
        return browser

    return open_page


def utterances(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, ".utterance")


def details(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.ID, "details").text


def test_each_utterance_has_its_place_its_colour_and_its_row(show: Open, result: Result) -> None:
    page = show(result)
    assert result.channels
    assert result.audio
    parts = result.channels[0].utterances

    bars = utterances(page)
    assert len(bars) == len(parts) == len(page.find_elements(By.CSS_SELECTOR, "tbody tr"))
    lane = page.find_element(By.CSS_SELECTOR, ".lane").rect
    for bar, part in zip(bars, parts, strict=True):
        box = bar.find_element(By.CSS_SELECTOR, ".bar")
        start = (box.rect["x"] - lane["x"]) / lane["width"] * result.audio.duration_s
        assert abs(start - part.start_s) < 0.1
        red, green, blue = (int(COLOURS[part.emotion][at : at + 2], 16) for at in (1, 3, 5))
        assert box.value_of_css_property("fill") == f"rgb({red}, {green}, {blue})"
        assert float(box.get_attribute("fill-opacity") or 0) == pytest.approx(0.25 + 0.75 * part.score, abs=0.01)
        assert part.emotion in (bar.get_attribute("aria-label") or "")
    assert len(page.find_elements(By.CSS_SELECTOR, ".curve")) == 6
    assert page.find_elements(By.CSS_SELECTOR, ".share .bar")


def test_hovering_shows_times_and_scores(show: Open, result: Result) -> None:
    page = show(result)
    assert result.channels
    first = result.channels[0].utterances[0]

    ActionChains(page).move_to_element(utterances(page)[0].find_element(By.CSS_SELECTOR, ".bar")).perform()

    assert f"{first.emotion} {first.score:.1%}" in details(page)
    assert "Channel 0, 0:0" in details(page)


def test_hovering_over_the_scores_shows_the_utterance_above(show: Open, result: Result) -> None:
    page = show(result)
    assert result.channels
    assert result.audio
    last = result.channels[0].utterances[-1]
    chart = page.find_element(By.CSS_SELECTOR, ".curves")
    middle = (last.start_s + last.end_s) / 2 / result.audio.duration_s

    # Counted from the chart's middle.
    ActionChains(page).move_to_element_with_offset(chart, round(chart.rect["width"] * (middle - 0.5)), 0).perform()

    assert f"{last.emotion} {last.score:.1%}" in details(page)


def test_the_keyboard_goes_from_one_utterance_to_the_next(show: Open, result: Result) -> None:
    page = show(result)
    body = page.find_element(By.TAG_NAME, "body")

    body.send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("data-utterance") == "0-0"
    first = details(page)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.get_attribute("data-utterance") == "0-1"
    assert details(page) != first
    page.switch_to.active_element.send_keys(Keys.END)
    assert page.switch_to.active_element.get_attribute("data-utterance") == f"0-{len(utterances(page)) - 1}"


def test_a_click_plays_from_there_and_the_player_is_followed(show: Open, result: Result) -> None:
    page = show(result, small_sound(CONVERSATION))
    assert result.channels
    second = result.channels[0].utterances[1]
    page.set_script_timeout(20)
    page.execute_async_script(
        "const done = arguments[0], player = document.getElementById('player');"
        "player.readyState ? done() : player.addEventListener('loadedmetadata', () => done());"
    )

    ActionChains(page).click(utterances(page)[1].find_element(By.CSS_SELECTOR, ".bar")).perform()
    page.execute_async_script(
        "const done = arguments[0]; const wait = () => document.querySelector('.utterance.now') ? done() : "
        "setTimeout(wait, 50); wait();"
    )

    now: float = page.execute_script("return document.getElementById('player').currentTime")
    assert second.start_s <= now < second.end_s
    assert [bar.get_attribute("data-utterance") for bar in page.find_elements(By.CSS_SELECTOR, ".now")] == ["0-1"] * 2
    assert page.find_element(By.ID, "cursor").is_displayed()


def test_nothing_from_the_recording_becomes_part_of_the_page(show: Open, result: Result) -> None:
    nasty = {"source": Source(key=NASTY)}
    page = show(result.model_copy(update=nasty))
    assert page.title != "broken"
    assert page.find_elements(By.CSS_SELECTOR, "img, h1 script") == []
    shown = page.find_element(By.TAG_NAME, "h1").text
    assert shown.startswith("a</script><script>document.title='broken'</script>")

    failed = {"status": "failed", "channels": None, "scores": None, "error": Error(code="damaged", message=NASTY)}
    page = show(result.model_copy(update=nasty | failed))
    assert page.title != "broken"
    assert "could not be classified" in page.find_element(By.TAG_NAME, "main").text
    assert utterances(page) == []


def test_silence_gets_a_page_that_says_so(show: Open, result: Result) -> None:
    silent: dict[str, Any] = {"status": "no_speech", "channels": (), "scores": None, "emotion": None, "score": None}

    page = show(result.model_copy(update=silent))

    assert "Nobody speaks" in page.find_element(By.TAG_NAME, "main").text


def test_it_is_dark_where_the_reader_likes_it_dark_and_fits_a_phone(show: Open, result: Result) -> None:
    page = show(result)
    light = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    try:
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        phone = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)

        assert page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color") != light
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_names_no_other_address(result: Result) -> None:
    page = render(result, Sound("audio/mp4", b"sound"))

    assert base64.b64encode(b"sound").decode() in page
    assert re.findall(r"(?:https?:)?//[a-z]", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert "default-src 'none'" in page
    data = re.search(r'id="data">(.*?)</script>', page)
    assert data
    assert json.loads(data[1])["duration"] == pytest.approx(17.84, abs=0.01)
