"""The player of the report page and what plays, in a real browser."""

import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from core.cli.sound import small_sound
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.report import Sound
from core.results import Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.support.report_page import CONVERSATION, Show, call, hour, position, utterances, wait_for, wait_for_sound


def test_a_click_plays_the_utterance_and_highlights_it(show: Show, result: Result) -> None:
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
    show: Show, classifier: EmotionClassifier, tmp_path: Path
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


def test_enter_plays_the_utterance_and_a_click_into_a_gap_seeks(
    show: Show, result: Result, quiet: Callable[[float], Sound]
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


def test_a_moment_plays_and_is_enlarged(show: Show, result: Result, quiet: Callable[[float], Sound]) -> None:
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


def test_a_moment_is_shown_if_there_is_no_sound(show: Show, result: Result) -> None:
    page = show(hour(result))
    moment = page.find_elements(By.CSS_SELECTOR, ".moment")[-1]

    moment.click()

    assert page.switch_to.active_element.get_attribute("data-utterance") == moment.get_attribute("data-utterance")


def test_the_chart_follows_playback_unless_the_user_scrolls_away(
    show: Show, result: Result, quiet: Callable[[float], Sound]
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
