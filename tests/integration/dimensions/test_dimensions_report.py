"""The report of a result with dimensions."""

import re
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from core.report import IndexRow, index_page, render
from core.report.lanes import lanes_of
from core.report.moments import moments_of
from core.results import Error, Result
from tests.support.browser import accessibility_violations
from tests.support.outputs import DIMENSIONS, MADE_UP, dimensional_result

CALL = [
    [(0.5, 2.5, (0.61, 0.5, 0.25)), (4.0, 8.0, (0.9, 0.55, -0.1)), (9.0, 9.5, (0.3, 0.6, 0.4))],
    [(2.6, 3.8, (0.4, 0.5, 0.8))],
]


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
