"""The files that the page saves in a real browser: the CSV of its list, and reports with their audio."""

import csv
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from handlers.api.service import Service
from tests.conftest import ROOT, MakeMedia
from tests.support.browser import running_browser
from tests.support.web_page import (
    checked_page,
    choose,
    downloaded,
    downloading_browser,
    drop,
    finished,
    item,
    result_files,
    unexpected_errors,
    until,
)

SAMPLES = ROOT / "samples"
ANGER = SAMPLES / "anger.wav"
CONVERSATION = SAMPLES / "conversation.ogg"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads: Path) -> Iterator[webdriver.Chrome]:
    with downloading_browser(downloads) as running:
        yield running


@pytest.fixture
def page(browser: webdriver.Chrome, address: str, downloads: Path) -> Iterator[webdriver.Chrome]:
    for file in downloads.iterdir():
        file.unlink()
    with checked_page(browser, address) as page:
        yield page


# --------------------------------------------------------------------------------------------------------------- CSV


def test_the_csv_has_the_shown_recordings_in_their_order(page: webdriver.Chrome, downloads: Path) -> None:
    drop(page, ANGER, "=1+1.wav")
    drop(page, CONVERSATION, "b 高兴.ogg")
    drop(page, SAMPLES / "happy.mp3", "c.mp3")
    finished(page, 3)
    page.find_element(By.ID, "of-name").send_keys(".")
    Select(page.find_element(By.ID, "order")).select_by_visible_text("oldest first")
    Select(page.find_element(By.ID, "of-emotion")).select_by_visible_text("anger")

    page.find_element(By.ID, "csv").click()

    content = downloaded(downloads, "audio-emotion.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf"), "spreadsheets would read UTF-8 in another encoding"
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert [row["recording"] for row in rows] == ["'=1+1.wav", *["b 高兴.ogg"] * 7]
    assert {"start_s", "emotion", "score", "duration_s", "error_code"} <= rows[0].keys()


def test_the_csv_leaves_out_results_that_have_expired(
    page: webdriver.Chrome, service: Service, downloads: Path
) -> None:
    choose(page, ANGER, CONVERSATION)
    finished(page, 2)
    result_files(service)[-1].unlink()
    Select(page.find_element(By.ID, "per")).select_by_visible_text("recording")

    page.find_element(By.ID, "csv").click()

    rows = list(csv.DictReader(io.StringIO(downloaded(downloads, "audio-emotion.csv").read_text("utf-8-sig"))))
    assert [row["recording"] for row in rows] == ["anger.wav"]
    assert "no longer has this result" in item(page, "conversation.ogg").text


def test_a_csv_of_too_many_recordings_is_refused_in_words(page: webdriver.Chrome, downloads: Path) -> None:
    choose(page, ANGER)
    finished(page)
    page.execute_async_script(
        """
        const done = arguments[0];
        import("/static/list.js").then((list) => {
          const [first] = list.all();
          for (let copy = 0; copy < 500; copy++) {
            list.all().push(Object.assign(Object.create(first), { row: first.row.cloneNode(true) }));
          }
          list.update();
          done();
        });
        """
    )

    page.find_element(By.ID, "csv").click()

    expected = "A CSV file has at most 500 recordings, and the list shows 501. Filter the list."
    assert page.find_element(By.ID, "list-error").text == expected
    page.find_element(By.ID, "of-name").send_keys("other")
    until(lambda: not page.find_element(By.ID, "csv").is_enabled())
    assert list(downloads.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ saved report


@contextmanager
def opened(file: Path, duration_s: float) -> Iterator[webdriver.Chrome]:
    """Open a saved report, and play its audio. In the page's browser, Chromium would request the page's icon for it."""
    with running_browser() as report:
        report.get(file.as_uri())
        ready = "const player = document.getElementById('player'); return player?.readyState && player.duration"
        assert until(lambda: report.execute_script(ready)) == pytest.approx(duration_s, abs=0.1)
        report.find_element(By.CSS_SELECTOR, "button[data-utterance]").click()
        until(lambda: report.execute_script("return !document.getElementById('player').paused"))
        yield report
        assert unexpected_errors(report) == []


def test_a_saved_report_plays_its_audio_under_its_own_policy(page: webdriver.Chrome, downloads: Path) -> None:
    drop(page, CONVERSATION, "call 1 & co.ogg")
    finished(page)
    until(lambda: page.find_element(By.ID, "report").rect["height"] > 600)

    page.find_element(By.ID, "save").click()

    report = downloaded(downloads, "call 1 & co.ogg.html")
    with opened(report, 17.83) as shown:
        assert shown.title == "call 1 & co.ogg: emotions"
        assert shown.find_element(By.TAG_NAME, "h1").text == "call 1 & co.ogg"
        assert len(shown.find_elements(By.CSS_SELECTOR, ".utterance")) == 7
    assert "script-src 'sha256-" in report.read_text("utf-8")


def test_a_saved_report_links_audio_above_20_mb(page: webdriver.Chrome, downloads: Path, make_media: MakeMedia) -> None:
    options = ("-af", "apad=whole_dur=60", "-ac", "2")
    large = make_media("large #1.wav", *options, sample_rate_hz=96_000, source=f"amovie={ANGER}")
    assert large.stat().st_size > 20_000_000
    choose(page, large)
    finished(page)
    note = page.find_element(By.ID, "sound-note")
    until(lambda: "A saved report plays the recording from its own folder" in note.text)

    page.find_element(By.ID, "save").click()

    report = downloaded(downloads, "large #1.wav.html")
    assert report.stat().st_size < 200_000
    shutil.copy(large, downloads)
    with opened(report, 60):
        pass


def test_a_format_that_the_browser_cannot_play_is_saved_without_audio(
    page: webdriver.Chrome, downloads: Path, make_media: MakeMedia
) -> None:
    choose(page, make_media("anger.au", source=f"amovie={ANGER}"))
    finished(page)
    note = page.find_element(By.ID, "sound-note")
    until(lambda: "The browser cannot play this format" in note.text)

    page.find_element(By.ID, "save").click()

    saved = downloaded(downloads, "anger.au.html").read_text("utf-8")
    assert "<h1>anger.au</h1>" in saved
    assert "<audio" not in saved
