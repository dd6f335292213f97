"""The chart of the report page and its list of utterances, in a real browser."""

from itertools import pairwise

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from core.emotions import COLOURS
from core.report import render
from core.results import Result
from tests.support.report_page import Show, call, details, edges, hour, scores_of_all_labels, utterances


def test_each_utterance_has_a_bar_at_its_time_and_a_row(show: Show, result: Result) -> None:
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


def test_the_scores_of_all_labels_are_folded(show: Show, result: Result) -> None:
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


def test_hovering_shows_times_and_scores(show: Show, result: Result) -> None:
    page = show(result)
    assert result.channels
    first = result.channels[0].utterances[0]

    ActionChains(page).move_to_element(utterances(page)[0].find_element(By.CSS_SELECTOR, ".bar")).perform()

    assert f"{first.emotion} {first.score:.0%}" in details(page)
    assert details(page).startswith("Channel 0, 0:0")
    bar, shown = utterances(page)[0].rect, page.find_element(By.ID, "details").rect
    assert 0 < shown["y"] - (bar["y"] + bar["height"]) < 10


def test_hovering_over_the_scores_shows_their_utterance(show: Show, result: Result) -> None:
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


def test_arrow_keys_move_between_utterances(show: Show, result: Result) -> None:
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


def test_up_and_down_move_to_the_nearest_utterance_of_the_other_channel(show: Show, result: Result) -> None:
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


def test_an_hour_is_on_the_first_screen_and_stays_small(show: Show, result: Result) -> None:
    page = show(hour(result))

    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    strips = page.find_elements(By.CSS_SELECTOR, ".strip svg[viewBox]")
    assert len(strips) == 2
    assert max(strip.rect["y"] + strip.rect["height"] for strip in strips) < 900
    assert len(render(hour(result)).encode()) < 2_000_000
    assert page.execute_script("return document.querySelectorAll('*').length") < 3000
    ticks = [text.text for text in page.find_elements(By.CSS_SELECTOR, ".overview .axis text")]
    assert ticks == ["0:00", "10:00", "20:00", "30:00", "40:00", "50:00", "1:00:00"]


def test_the_lanes_enlarge_the_part_that_the_overview_marks(show: Show, result: Result) -> None:
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


def test_utterances_are_paged_and_filtered(show: Show, result: Result) -> None:
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


def test_a_single_utterance_has_plain_bars(show: Show, result: Result) -> None:
    page = show(call(result, 2, [(0.2, 1.8)]))

    assert [bar.text.split("\n")[-1] for bar in page.find_elements(By.CSS_SELECTOR, ".plain-bars li")] == [
        "75%",
        *["5%"] * 5,
    ]
    assert page.find_elements(By.CSS_SELECTOR, ".lanes, .overview, .tile") == []
