"""The report page around its chart: summary, moments, appearance and safety, in a real browser."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from core.report import Sound, render
from core.report.lanes import lanes_of
from core.report.looks import looks_of, styles_of
from core.report.moments import buttons, moments_of
from core.results import EmotionScores, Error, Result, Source, Utterance
from tests.support.browser import accessibility_violations, running_browser
from tests.support.report_page import Show, call, hour, scores_of_all_labels, utterances

DEFAULT_REPO = "xmj2002/hubert-base-ch-speech-emotion-recognition"
NASTY = (
    "a</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">&\"'\u202e.wav"
)


def test_a_sentence_begins_with_a_capital_letter_of_the_name(result: Result) -> None:
    one, even = call(result, 40, [(1, 3)], [(4, 7.5), (11, 13)]), call(result, 40, [(1, 3)], [(4, 6)])

    assert "Customer talks most: " in render(one, names=("agent", "customer"))
    assert "Agent and customer talk about equally long." in render(even, names=("agent", "customer"))


def test_the_summary_says_who_talks_most_and_where_to_listen(show: Show, result: Result) -> None:
    page = show(call(result, 40, [(1, 3), (8, 10), (14, 16)], [(4, 7.5), (11, 13), (18, 24), (24, 30)]))

    words = page.find_element(By.CSS_SELECTOR, ".verdict p").text
    assert words.startswith("Channel 1 talks most: 74% of the speech. Listen first at 0:24: Channel 1, sad 75%.")
    names = [name.text for name in page.find_elements(By.CSS_SELECTOR, ".tile h3")]
    assert names == ["Channel 0", "Channel 1"]
    figures = page.find_elements(By.CSS_SELECTOR, ".tile")[1].find_elements(By.CSS_SELECTOR, ".figures div")
    assert [figure.text.split("\n") for figure in figures] == [
        ["Talk share", "74%"],
        ["Speech", "0:18"],
        ["Longest turn", "0:12"],
        ["Turns", "3"],
        ["Interruptions", "0"],
    ]


def test_the_moments_are_the_strongest_stretches_that_are_not_neutral(result: Result) -> None:
    def part(start_s: float, end_s: float, emotion: str, score: float) -> Utterance:
        rest = (1 - score) / (len(result.model.labels) - 1)
        scores = {label: score if label == emotion else rest for label in result.model.labels}
        return Utterance(start_s=start_s, end_s=end_s, **dict(EmotionScores.of(scores)))

    parts = (
        part(0, 6, "neutral", 0.99),
        part(6, 7, "anger", 0.99),  # short
        part(10, 13, "sad", 0.6),
        part(14, 17, "sad", 0.8),  # one stretch with the last
        part(21, 24, "sad", 0.5),  # after more than three seconds
        part(24, 30, "happy", 0.9),
    )
    (channel,) = call(result, 30, [(0, 1)]).channels or ()
    one = call(result, 30, [(0, 1)]).model_copy(
        update={"channels": (channel.model_copy(update={"utterances": parts, "speech_s": 22.0}),)}
    )
    (lane,) = lanes_of(one.with_figures())

    strongest = moments_of(lane, 1)
    shown = buttons(lane, strongest, looks_of(styles_of(one)), has_sound=True)

    found = [(moment.start_s, moment.end_s, moment.words) for moment in strongest]
    assert found == [(24, 30, "happy 90%"), (10, 17, "sad 70%"), (21, 24, "sad 50%"), (6, 7, "anger 99%")]
    assert re.findall(r"<b>(.*?)</b>", shown) == ["0:06", "0:10", "0:21", "0:24"]


def test_without_javascript_the_summary_and_the_overview_read(result: Result, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(hour(result)), encoding="utf-8")
    with running_browser("--blink-settings=scriptEnabled=false") as browser:
        browser.get(page.as_uri())

        assert browser.find_element(By.CSS_SELECTOR, ".overview").rect["height"] > 80
        assert "need JavaScript" in browser.find_element(By.TAG_NAME, "noscript").text
        assert len(browser.find_elements(By.CSS_SELECTOR, ".tile")) == 2
        assert not browser.find_element(By.ID, "controls").is_displayed()
        assert not browser.find_element(By.ID, "utterances").is_displayed()


def test_a_long_recording_is_printed_without_its_lanes(show: Show, result: Result) -> None:
    for one, is_printed in ((hour(result), False), (result, True)):
        page = show(one)
        try:
            page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
            assert page.find_element(By.ID, "lanes").is_displayed() is is_printed
            assert page.find_element(By.ID, "utterances").is_displayed() is is_printed
            assert page.find_element(By.CSS_SELECTOR, ".overview").is_displayed()
            swatch = page.find_element(By.CSS_SELECTOR, ".legend .swatch")
            assert swatch.value_of_css_property("print-color-adjust") == "exact"
            assert not page.find_element(By.ID, "controls").is_displayed()
        finally:
            page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_every_report_says_what_the_model_learned_from_and_what_a_score_is_not(show: Show, result: Result) -> None:
    nothing: dict[str, Any] = {"status": "no_speech", "channels": (), "scores": None, "emotion": None, "score": None}
    failed = {"status": "failed", "channels": None, "error": Error(code="damaged", message="It is damaged.")}
    learned = {"model": result.model.model_copy(update={"id": DEFAULT_REPO, "demo": None})}
    for update in ({}, nothing, nothing | failed):
        footer = show(result.model_copy(update=update)).find_element(By.TAG_NAME, "footer").text
        assert "trained on synthetic speech" in footer
        assert "It does not measure what a person feels" in footer
    assert "acted Mandarin of four speakers" in render(result.model_copy(update=learned))


def test_the_page_has_no_accessibility_violation(show: Show, result: Result, quiet: Callable[[float], Sound]) -> None:
    silent: dict[str, Any] = {"status": "no_speech", "channels": (), "scores": None, "emotion": None, "score": None}
    sixteen = [[(at + side, at + side + 2) for at in range(0, 280, 17)] for side in range(16)]
    for one, sound in (
        (call(result, 60, [(1, 3), (8, 10)], [(4, 6), (11, 13)]), quiet(60)),
        (hour(result), None),
        (call(result, 300, *sixteen), None),
        (call(result, 2, [(0.2, 1.8)]), quiet(2)),
        (result.model_copy(update=silent), None),
    ):
        for scheme in ("light", "dark"):
            browser_scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            page = show(one, sound)
            try:
                page.execute_cdp_cmd("Emulation.setEmulatedMedia", browser_scheme)
                if page.find_elements(By.ID, "all-scores"):
                    scores_of_all_labels(page)
                assert accessibility_violations(page) == []
                assert page.execute_script("return document.querySelectorAll('*').length") < 3000
            finally:
                page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_text_from_outside_is_escaped(show: Show, result: Result) -> None:
    nasty = {"source": Source(key=NASTY)}
    page = show(result.model_copy(update=nasty))
    assert page.title != "broken"
    assert page.find_elements(By.CSS_SELECTOR, "img, h1 script") == []
    # The title is the name of the file, and the key is below it.
    assert page.find_element(By.TAG_NAME, "h1").text.startswith("script><img src=x onerror=")
    key = page.find_elements(By.CSS_SELECTOR, "header .facts")[1].text
    assert key.startswith("a</script><script>document.title='broken'</script>")

    failed = {"status": "failed", "channels": None, "scores": None, "error": Error(code="damaged", message=NASTY)}
    page = show(result.model_copy(update=nasty | failed))
    assert page.title != "broken"
    assert "could not be classified" in page.find_element(By.TAG_NAME, "main").text
    assert utterances(page) == []


def test_the_page_of_a_silent_recording_says_that_it_has_no_speech(show: Show, result: Result) -> None:
    silent: dict[str, Any] = {"status": "no_speech", "channels": (), "scores": None, "emotion": None, "score": None}

    page = show(result.model_copy(update=silent))

    assert "no speech" in page.find_element(By.TAG_NAME, "main").text


def test_the_page_has_a_dark_scheme_and_fits_a_phone(show: Show, result: Result) -> None:
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


def test_the_page_refers_to_no_other_address(result: Result) -> None:
    page = render(result, Sound("audio/mp4", b"sound"))

    assert base64.b64encode(b"sound").decode() in page
    assert re.findall(r"(?:https?:)?//[a-z]", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert "default-src 'none'" in page
    data = re.search(r'id="data">(.*?)</script>', page)
    assert data
    assert json.loads(data[1])["duration"] == pytest.approx(17.84, abs=0.01)
