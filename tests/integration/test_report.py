"""The report page in a real browser."""

import base64
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from core.cli.sound import small_sound
from core.emotions import COLOURS
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.report import Sound, render
from core.report.lanes import lanes_of
from core.report.looks import looks_of, styles_of
from core.report.moments import buttons, moments_of
from core.results import Audio, Channel, EmotionScores, Error, Result, Source, Utterance
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT, MakeMedia
from tests.support.browser import accessibility_violations, running_browser

DEFAULT_REPO = "xmj2002/hubert-base-ch-speech-emotion-recognition"
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
def result(classifier: EmotionClassifier) -> Result:
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
    return pipeline.run(CONVERSATION, Source(key=CONVERSATION.name))


@pytest.fixture
def show(browser: webdriver.Chrome, tmp_path: Path) -> Open:
    """Return a function that opens the page of a result, and fails on an error in the browser's log."""

    def open_page(result: Result, sound: Sound | None = None) -> webdriver.Chrome:
        page = tmp_path / "report.html"
        page.write_text(render(result, sound), encoding="utf-8")
        browser.get(page.as_uri())
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
        return browser

    return open_page


def call(result: Result, duration_s: float, *spans: Sequence[tuple[float, float]]) -> Result:
    """Return the result of a call with an utterance in each span, one list of spans for each channel."""
    labels = result.model.labels
    channels = []
    for number, times in enumerate(spans):
        parts = []
        for index, (start_s, end_s) in enumerate(times):
            emotion = labels[(index + number) % len(labels)]
            scores = {label: 0.75 if label == emotion else 0.05 for label in labels}
            parts.append(Utterance(start_s=start_s, end_s=end_s, **dict(EmotionScores.of(scores))))
        speech_s = sum(part.duration_s for part in parts)
        overall = dict(EmotionScores.of(parts[0].values))
        channels.append(Channel(channel=number, speech_s=speech_s, utterances=tuple(parts), **overall))
    audio = Audio(container="wav", codec="pcm_mulaw", sample_rate_hz=8000, channels=len(spans), duration_s=duration_s)
    return result.model_copy(update={"audio": audio, "channels": tuple(channels)})


@pytest.fixture
def quiet(make_media: MakeMedia) -> Callable[[float], Sound]:
    """Return a function that makes silence of any duration in a format that browsers play."""

    def make(duration_s: float) -> Sound:
        file = make_media("quiet.m4a", "-c:a", "aac", "-b:a", "8k", source=f"anullsrc=r=16000:cl=mono:d={duration_s}")
        return Sound("audio/mp4", file.read_bytes())

    return make


def utterances(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, ".utterance")


def wait_for(browser: webdriver.Chrome, condition: str) -> None:
    WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda page: page.execute_script(f"return {condition}"))


def wait_for_sound(browser: webdriver.Chrome) -> None:
    wait_for(browser, "document.getElementById('player').readyState > 0")


def position(browser: webdriver.Chrome) -> float:
    """Return the playback position in seconds."""
    now: float = browser.execute_script("return document.getElementById('player').currentTime")
    return now


def edges(browser: webdriver.Chrome, selector: str) -> list[tuple[float, float]]:
    """Return the left and right edges of all elements on the screen."""
    boxes = "[...document.querySelectorAll(arguments[0])].map((element) => element.getBoundingClientRect())"
    found = browser.execute_script(f"return {boxes}.map((box) => [box.left, box.right])", selector)
    return [(left, right) for left, right in found]


def details(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.ID, "details").text


def test_each_utterance_has_a_bar_at_its_time_and_a_row(show: Open, result: Result) -> None:
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
        red, green, blue = (int(COLOURS[part.best[0]][at : at + 2], 16) for at in (1, 3, 5))
        assert box.value_of_css_property("fill") == f"rgb({red}, {green}, {blue})"
        assert float(box.get_attribute("fill-opacity") or 0) == pytest.approx(0.25 + 0.75 * part.best[1], abs=0.01)
        assert part.best[0] in (bar.get_attribute("aria-label") or "")
    assert page.find_elements(By.CSS_SELECTOR, ".share .bar")
    assert page.find_elements(By.CSS_SELECTOR, ".curve") == []


def scores_of_all_labels(page: webdriver.Chrome) -> None:
    """Unfold the scores of all labels."""
    page.find_element(By.ID, "all-scores").click()


def test_the_scores_of_all_labels_are_folded(show: Open, result: Result) -> None:
    page = show(result)
    assert result.channels
    first, labels = result.channels[0].utterances[0], result.model.labels
    cells = page.find_elements(By.CSS_SELECTOR, "#rows tr:first-child .score")
    assert not any(cell.is_displayed() for cell in cells)

    scores_of_all_labels(page)

    assert len(page.find_elements(By.CSS_SELECTOR, ".curve")) == len(labels)
    assert [cell.text for cell in cells] == [f"{first.values[label]:.0%}" for label in labels]
    names = [name.text for name in page.find_elements(By.CSS_SELECTOR, ".names span")]
    assert names == list(labels) == [head.text for head in page.find_elements(By.CSS_SELECTOR, "th.score")]


def test_hovering_shows_times_and_scores(show: Open, result: Result) -> None:
    page = show(result)
    assert result.channels
    first = result.channels[0].utterances[0]

    ActionChains(page).move_to_element(utterances(page)[0].find_element(By.CSS_SELECTOR, ".bar")).perform()

    assert f"{first.emotion} {first.score:.0%}" in details(page)
    assert details(page).startswith("Channel 0, 0:0")
    bar, shown = utterances(page)[0].rect, page.find_element(By.ID, "details").rect
    assert 0 < shown["y"] - (bar["y"] + bar["height"]) < 10


def test_hovering_over_the_scores_shows_their_utterance(show: Open, result: Result) -> None:
    page = show(result)
    scores_of_all_labels(page)
    assert result.channels
    assert result.audio
    last = result.channels[0].utterances[-1]
    chart = page.find_element(By.CSS_SELECTOR, ".curves")
    middle = (last.start_s + last.end_s) / 2 / result.audio.duration_s

    # The offset is relative to the chart's centre.
    ActionChains(page).move_to_element_with_offset(chart, round(chart.rect["width"] * (middle - 0.5)), 0).perform()

    assert f"{last.emotion} {last.score:.0%}" in details(page)


def test_arrow_keys_move_between_utterances(show: Open, result: Result) -> None:
    page = show(result)

    page.execute_script("document.getElementById('all-scores').focus()")
    page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element.get_attribute("data-utterance") == "0-0"
    first = details(page)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.switch_to.active_element.get_attribute("data-utterance") == "0-1"
    assert details(page) != first
    page.switch_to.active_element.send_keys(Keys.END)
    assert page.switch_to.active_element.get_attribute("data-utterance") == f"0-{len(utterances(page)) - 1}"


def test_a_click_plays_the_utterance_and_highlights_it(show: Open, result: Result) -> None:
    page = show(result, small_sound(CONVERSATION, MediaLimits()))
    assert result.channels
    second = result.channels[0].utterances[1]
    wait_for_sound(page)

    ActionChains(page).click(utterances(page)[1].find_element(By.CSS_SELECTOR, ".bar")).perform()
    wait_for(page, "document.querySelector('.utterance.now')")

    assert second.start_s <= position(page) < second.end_s
    assert [bar.get_attribute("data-utterance") for bar in page.find_elements(By.CSS_SELECTOR, ".now")] == ["0-1"] * 2
    assert page.find_element(By.ID, "cursor").is_displayed()


_LEVELS = """
const [first, second, done] = arguments;
const bytes = Uint8Array.from(atob(document.getElementById("player").src.split(",")[1]), (c) => c.charCodeAt(0));
new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer).then((sound) => {
  const level = ([start, end]) =>
    Math.max(...sound.getChannelData(0).slice(start * 16000, end * 16000).map(Math.abs));
  done([level(first), level(second)]);
});
"""


def test_a_click_plays_the_utterance_after_a_gap_and_a_late_start(
    show: Open, classifier: EmotionClassifier, tmp_path: Path
) -> None:
    """Pictures start 2 s before the sound, and packets are missing for 4 s."""
    sound, film = tmp_path / "sound.webm", tmp_path / "film.webm"
    start = ["ffmpeg", "-nostdin", "-v", "error"]
    subprocess.run([*start, "-i", CONVERSATION, "-c:a", "libopus", sound], check=True, timeout=60)
    pictures = ["-f", "lavfi", "-i", "color=red:size=64x64:rate=5:duration=24", "-itsoffset", "2"]
    missing = ["-c:a", "copy", "-bsf:a", "setts=ts='TS+gte(TS*TB,7.7)*4/TB'"]
    subprocess.run([*start, *pictures, "-i", sound, "-map", "0", "-map", "1", *missing, film], check=True, timeout=60)
    result = Pipeline(classifier, MediaLimits(), SegmentationSettings()).run(film, Source(key=film.name))
    assert result.channels
    before, after = next((a, b) for a, b in pairwise(result.channels[0].utterances) if b.start_s - a.end_s > 4)

    page = show(result, small_sound(film, MediaLimits()))
    wait_for_sound(page)
    utterances(page)[result.channels[0].utterances.index(after)].click()
    wait_for(page, f"document.getElementById('player').currentTime >= {after.start_s}")
    silent, loud = page.execute_async_script(
        _LEVELS, [before.end_s + 0.5, after.start_s - 0.3], [after.start_s, after.start_s + 0.5]
    )

    assert position(page) < after.start_s + 2
    assert before.start_s > 2
    assert silent < 0.01
    assert loud > 0.05


def test_up_and_down_move_to_the_nearest_utterance_of_the_other_channel(show: Open, result: Result) -> None:
    page = show(call(result, 20, [(1, 3), (8, 10), (15, 16)], [(4, 6), (11, 13)]))

    def press(key: str) -> str | None:
        page.switch_to.active_element.send_keys(key)
        return page.switch_to.active_element.get_attribute("data-utterance")

    page.execute_script("document.getElementById('all-scores').focus()")
    assert press(Keys.TAB) == "0-0"
    assert press(Keys.ARROW_RIGHT) == "0-1"
    assert press(Keys.ARROW_DOWN) == "1-1"
    assert "Channel 1, 0:11 to 0:13" in details(page)
    assert press(Keys.ARROW_DOWN) == "1-1"
    assert press(Keys.HOME) == "1-0"
    assert press(Keys.ARROW_UP) == "0-0"
    assert press(Keys.END) == "0-2"
    # The tab key stops once in each lane, at the last focused utterance.
    stops = page.find_elements(By.CSS_SELECTOR, '.utterance[tabindex="0"]')
    assert [stop.get_attribute("data-utterance") for stop in stops] == ["0-2", "1-0"]


def test_enter_plays_the_utterance_and_a_click_into_a_gap_seeks(
    show: Open, result: Result, quiet: Callable[[float], Sound]
) -> None:
    page = show(call(result, 20, [(1, 3), (8, 10)], [(4, 6), (11, 13)]), quiet(20))
    wait_for_sound(page)

    page.execute_script("document.querySelector('[data-utterance=\"1-1\"]').focus()")
    page.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(page, "document.querySelector('.utterance.now')")
    assert 11 <= position(page) < 13
    assert not page.execute_script("return document.getElementById('player').paused")
    assert [e.get_attribute("data-utterance") for e in page.find_elements(By.CSS_SELECTOR, ".now")] == ["1-1"] * 2

    page.execute_script("document.getElementById('player').pause()")
    lane = page.find_element(By.CSS_SELECTOR, ".lane")
    ActionChains(page).move_to_element_with_offset(lane, round(lane.rect["width"] * 0.4), 0).click().perform()
    assert position(page) == pytest.approx(18, abs=0.1)
    wait_for(page, "!document.querySelector('.now')")


def hour(result: Result) -> Result:
    """Return the result of an hour with 1,026 utterances."""
    spans = [[(at + 3 * side, at + 3 * side + 0.5 + at % 5 / 2) for at in range(1, 3590, 7)] for side in (0, 1)]
    return call(result, 3600, *spans)


def test_an_hour_is_on_the_first_screen_and_stays_small(show: Open, result: Result) -> None:
    page = show(hour(result))

    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    strips = page.find_elements(By.CSS_SELECTOR, ".strip svg[viewBox]")
    assert len(strips) == 2
    assert max(strip.rect["y"] + strip.rect["height"] for strip in strips) < 900
    assert len(render(hour(result)).encode()) < 2_000_000
    assert page.execute_script("return document.querySelectorAll('*').length") < 3000
    ticks = [text.text for text in page.find_elements(By.CSS_SELECTOR, ".overview .axis text")]
    assert ticks == ["0:00", "10:00", "20:00", "30:00", "40:00", "50:00", "1:00:00"]


def test_the_lanes_enlarge_the_part_that_the_overview_marks(show: Open, result: Result) -> None:
    page = show(hour(result))
    strips, window = page.find_element(By.ID, "strips").rect, page.find_element(By.ID, "window")

    bars = edges(page, '[data-utterance^="0-"] .ground')
    assert min(right - left for left, right in bars) >= 4.9
    assert all(before[1] < after[0] for before, after in pairwise(bars))
    assert page.find_elements(By.CSS_SELECTOR, '[data-utterance="0-300"]') == []

    # A click into the middle of the overview shows half past.
    ActionChains(page).move_to_element_with_offset(page.find_element(By.ID, "strips"), 0, 20).click().perform()
    assert window.rect["x"] + window.rect["width"] / 2 == pytest.approx(strips["x"] + strips["width"] / 2, abs=3)
    middle = [bar.get_attribute("data-utterance") for bar in utterances(page)]
    assert {"0-257", "1-256"} <= set(middle)
    assert "29:" in page.find_element(By.ID, "span").text

    page.find_element(By.ID, "in").click()
    assert 0 < len(utterances(page)) < len(middle)
    page.find_element(By.ID, "out").click()
    page.find_element(By.ID, "at").send_keys(Keys.END)
    assert "0-512" in [bar.get_attribute("data-utterance") for bar in utterances(page)]

    # The arrow keys move beyond the edge of the enlarged part.
    page.execute_script("document.querySelector('.utterance').focus()")
    ((left, right),) = edges(page, "#lanes")
    for key in (Keys.HOME, *[Keys.ARROW_RIGHT] * 20, Keys.END, *[Keys.ARROW_LEFT] * 20):
        page.switch_to.active_element.send_keys(key)
        ((begins, ends),) = edges(page, ".utterance:focus .ground")
        assert left <= begins < ends <= right + 1
        assert page.find_element(By.ID, "details").is_displayed()


def test_utterances_are_paged_and_filtered(show: Open, result: Result) -> None:
    page = show(hour(result))

    def shown() -> list[str | None]:
        return [row.get_attribute("data-utterance") for row in page.find_elements(By.CSS_SELECTOR, "#rows tr")]

    def choose(field: str, words: str) -> None:
        page.find_element(By.XPATH, f"//select[@id='{field}']/option[.='{words}']").click()

    assert shown()[:2] == ["0-0", "1-0"]
    assert len(shown()) == 25
    assert page.find_element(By.ID, "shown").text == "1 to 25 of 1,026"
    page.find_element(By.ID, "after").click()
    assert shown()[0] == "1-12"
    choose("of-lane", "Channel 1")
    assert page.find_element(By.ID, "shown").text == "1 to 25 of 513"
    choose("of-emotion", result.model.labels[2])
    # The emotions take turns, and channel 1 begins with the second.
    assert shown()[:3] == ["1-1", "1-7", "1-13"]
    choose("of-lane", "all")
    choose("of-emotion", "all")
    assert page.find_element(By.ID, "shown").text == "1 to 25 of 1,026"
    assert not page.find_element(By.ID, "before").is_enabled()


def test_a_sentence_begins_with_a_capital_letter_of_the_name(result: Result) -> None:
    one, even = call(result, 40, [(1, 3)], [(4, 7.5), (11, 13)]), call(result, 40, [(1, 3)], [(4, 6)])

    assert "Customer talks most: " in render(one, names=("agent", "customer"))
    assert "Agent and customer talk about equally long." in render(even, names=("agent", "customer"))


def test_the_summary_says_who_talks_most_and_where_to_listen(show: Open, result: Result) -> None:
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


def test_a_moment_plays_and_is_enlarged(show: Open, result: Result, quiet: Callable[[float], Sound]) -> None:
    spans = [[(at, at + 2) for at in range(1, 590, 6)]]
    page = show(call(result, 600, *spans), quiet(600))
    wait_for_sound(page)
    moments = page.find_elements(By.CSS_SELECTOR, ".moment")
    assert len(moments) == 5
    last = max(moments, key=lambda moment: int(str(moment.get_attribute("data-utterance")).partition("-")[2]))
    number = str(last.get_attribute("data-utterance"))
    start_s = spans[0][int(number.partition("-")[2])][0]
    page.find_element(By.ID, "at").send_keys(Keys.END)

    last.click()
    wait_for(page, "document.querySelector('.utterance.now')")

    assert start_s <= position(page) < start_s + 2
    assert page.find_element(By.CSS_SELECTOR, ".utterance.now").get_attribute("data-utterance") == number
    # Space pauses, wherever the focus is, except on other buttons.
    page.execute_script("document.activeElement.blur()")
    page.find_element(By.TAG_NAME, "body").send_keys(" ")
    wait_for(page, "document.getElementById('player').paused")
    bar = page.find_element(By.CSS_SELECTOR, f'.utterance[data-utterance="{number}"]')
    bar.send_keys(Keys.ENTER)
    wait_for(page, "!document.getElementById('player').paused")
    page.switch_to.active_element.send_keys(" ")
    wait_for(page, "document.getElementById('player').paused")


def test_a_moment_is_shown_if_there_is_no_sound(show: Open, result: Result) -> None:
    page = show(hour(result))
    moment = page.find_elements(By.CSS_SELECTOR, ".moment")[-1]

    moment.click()

    assert page.switch_to.active_element.get_attribute("data-utterance") == moment.get_attribute("data-utterance")


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


def test_a_single_utterance_has_plain_bars(show: Open, result: Result) -> None:
    page = show(call(result, 2, [(0.2, 1.8)]))

    assert [bar.text.split("\n")[-1] for bar in page.find_elements(By.CSS_SELECTOR, ".plain-bars li")] == [
        "75%",
        *["5%"] * 5,
    ]
    assert page.find_elements(By.CSS_SELECTOR, ".lanes, .overview, .tile") == []


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


def test_a_long_recording_is_printed_without_its_lanes(show: Open, result: Result) -> None:
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


def test_every_report_says_what_the_model_learned_from_and_what_a_score_is_not(show: Open, result: Result) -> None:
    nothing: dict[str, Any] = {"status": "no_speech", "channels": (), "scores": None, "emotion": None, "score": None}
    failed = {"status": "failed", "channels": None, "error": Error(code="damaged", message="It is damaged.")}
    learned = {"model": result.model.model_copy(update={"id": DEFAULT_REPO, "demo": None})}
    for update in ({}, nothing, nothing | failed):
        footer = show(result.model_copy(update=update)).find_element(By.TAG_NAME, "footer").text
        assert "trained on synthetic speech" in footer
        assert "It does not measure what a person feels" in footer
    assert "acted Mandarin of four speakers" in render(result.model_copy(update=learned))


def test_the_page_has_no_accessibility_violation(show: Open, result: Result, quiet: Callable[[float], Sound]) -> None:
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


def test_the_chart_follows_playback_unless_the_user_scrolls_away(
    show: Open, result: Result, quiet: Callable[[float], Sound]
) -> None:
    page = show(call(result, 600, [(at, at + 2) for at in range(0, 590, 4)]), quiet(600))
    wait_for_sound(page)
    # A browser plays sound only after a click.
    ActionChains(page).click(page.find_element(By.CSS_SELECTOR, '[data-utterance="0-1"] .bar')).perform()
    page.execute_script(
        "window.asked = 0; window.at = document.getElementById('at'); window.lanes = document.getElementById('lanes');"
        "window.player = document.getElementById('player'); window.cursor = document.getElementById('cursor');"
        "window.go = (value) => { at.value = value; at.dispatchEvent(new Event('input')); };"
        "for (const kind of [Document, Element]) for (const name of ['querySelector', 'querySelectorAll'])"
        "  kind.prototype[name] = function () { window.asked += 1; return null; };"
    )
    is_visible = "!cursor.hidden && parseFloat(cursor.style.left) <= 100"
    page.execute_script("player.pause(); player.currentTime = 401")
    wait_for(page, "document.getElementsByClassName('utterance now')[0]?.dataset.utterance === '0-100'")
    wait_for(page, is_visible)

    # Playback reaches the right edge.
    page.execute_script("go(599); player.playbackRate = 4; player.play()")
    wait_for(page, "at.value > 700")
    wait_for(page, is_visible)

    page.execute_script("go(0); window.left_at = player.currentTime")
    wait_for(page, "player.currentTime > left_at + 4")
    assert page.execute_script("return [at.value, cursor.hidden, window.asked]") == ["0", True, 0]


def test_text_from_outside_is_escaped(show: Open, result: Result) -> None:
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


def test_the_page_of_a_silent_recording_says_that_it_has_no_speech(show: Open, result: Result) -> None:
    silent: dict[str, Any] = {"status": "no_speech", "channels": (), "scores": None, "emotion": None, "score": None}

    page = show(result.model_copy(update=silent))

    assert "no speech" in page.find_element(By.TAG_NAME, "main").text


def test_the_page_has_a_dark_scheme_and_fits_a_phone(show: Open, result: Result) -> None:
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
