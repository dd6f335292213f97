"""The page's list of recordings in a real browser: reload, removal, filter, progress and layout."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from core.online.folder_store import FolderResultStore
from core.pipeline import Pipeline
from core.results import Result
from handlers.api.service import Service
from tests.conftest import ROOT, MakeMedia
from tests.support.browser import accessibility_violations, running_browser
from tests.support.web_page import (
    checked_page,
    choose,
    drop,
    finished,
    item,
    names,
    reload,
    result_files,
    set_view,
    stored_entries,
    until,
)

SAMPLES = ROOT / "samples"
ANGER = SAMPLES / "anger.wav"
CONVERSATION = SAMPLES / "conversation.ogg"
NASTY = "<img src=x onerror=\"document.title='broken'\">.wav"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with running_browser() as running:
        yield running


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Iterator[webdriver.Chrome]:
    with checked_page(browser, address) as page:
        yield page


# ------------------------------------------------------------------------------------------------------------ reload


def test_results_survive_a_reload_and_a_report_gets_its_audio_back(page: webdriver.Chrome) -> None:
    drop(page, ANGER, NASTY)
    drop(page, CONVERSATION)
    drop(page, SAMPLES / "README.md")
    before = [each.text for each in finished(page, 3)]

    reload(page)

    assert [each.text for each in finished(page, 3)] == before
    assert page.title == "Audio Emotion"
    assert not page.find_element(By.ID, "shown").is_displayed()
    item(page, NASTY).find_element(By.CLASS_NAME, "open").click()
    note = page.find_element(By.ID, "sound")
    until(lambda: "no audio, because the page keeps no recordings after a reload" in note.text)
    page.switch_to.frame("report")
    until(lambda: page.find_elements(By.TAG_NAME, "h2"))
    assert not page.find_elements(By.TAG_NAME, "audio")
    page.switch_to.default_content()

    again = page.find_element(By.ID, "again-file")
    again.send_keys(str(CONVERSATION))
    until(lambda: "another file: conversation.ogg has 51,726 bytes" in note.text)
    again.send_keys(str(ANGER))
    until(lambda: not note.is_displayed())
    page.switch_to.frame("report")
    duration_s = "const player = document.getElementById('player'); return player?.readyState && player.duration"
    assert until(lambda: page.execute_script(duration_s)) == pytest.approx(2.04, abs=0.1)


def test_an_expired_result_is_named_and_can_be_removed(page: webdriver.Chrome, service: Service) -> None:
    choose(page, ANGER, CONVERSATION)
    finished(page, 2)
    result_files(service)[-2].unlink()

    reload(page)

    finished(page, 2)
    gone = item(page, "anger.wav")
    assert "The server no longer has this result: it was deleted, or it has expired. Remove it" in gone.text
    assert not gone.find_element(By.CLASS_NAME, "open").is_enabled()
    assert Select(page.find_element(By.ID, "of-state")).options[-1].text == "No longer on the server"
    gone.find_element(By.CLASS_NAME, "remove").click()
    assert names(page) == ["conversation.ogg"]
    assert stored_entries(page) == 1

    # The page is open when this one expires.
    result_files(service)[-1].unlink()
    item(page, "conversation.ogg").find_element(By.CLASS_NAME, "open").click()
    until(lambda: "no longer has this result" in item(page, "conversation.ogg").text)
    assert not page.find_element(By.ID, "shown").is_displayed()


def test_removing_and_clearing_leave_the_results_on_the_server(page: webdriver.Chrome, service: Service) -> None:
    choose(page, ANGER, CONVERSATION, SAMPLES / "happy.mp3")
    finished(page, 3)
    stored = result_files(service)

    first = item(page, "conversation.ogg").find_element(By.CLASS_NAME, "remove")
    assert first.get_attribute("aria-label") == "Remove conversation.ogg from the list"
    first.click()

    assert names(page) == ["happy.mp3", "anger.wav"]
    status = page.find_element(By.ID, "status")
    assert "was removed from the list. The server keeps its result." in str(status.get_attribute("textContent"))
    assert page.switch_to.active_element.get_attribute("aria-label") == "Remove anger.wav from the list"
    clear = page.find_element(By.ID, "clear")
    clear.click()
    page.switch_to.alert.dismiss()
    assert len(names(page)) == 2
    clear.click()
    assert "The server keeps the results" in page.switch_to.alert.text
    page.switch_to.alert.accept()
    assert names(page) == []
    assert not page.find_element(By.ID, "shown").is_displayed()
    assert stored_entries(page) == 0
    assert result_files(service) == stored


@pytest.mark.parametrize("storage", ["disabled", "full", "damaged"])
def test_the_page_works_without_storage(page: webdriver.Chrome, address: str, storage: str) -> None:
    script = {
        "disabled": "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no'); }})",
        "full": "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }",
        "damaged": "for (const [key, value] of [['audio-emotion/x', '{}'], ['other', '1'], "
        "['audio-emotion/0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a4c11', '{\"name\": 1}']]) localStorage.setItem(key, value)",
    }
    added = page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script[storage]})
    try:
        reload(page)
        choose(page, ANGER)
        finished(page)
    finally:
        page.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    assert names(page) == ["anger.wav"]
    assert page.find_element(By.ID, "not-kept").is_displayed() is (storage != "damaged")
    page.find_element(By.CLASS_NAME, "remove").click()
    assert names(page) == []


# ------------------------------------------------------------------------------------------------- filter and order


def test_the_list_can_be_filtered_and_sorted(page: webdriver.Chrome) -> None:
    choose(page, ANGER)
    drop(page, CONVERSATION, "Call 10.ogg")
    drop(page, SAMPLES / "happy.mp3", "call 9.mp3")
    drop(page, SAMPLES / "README.md")
    finished(page, 4)

    def select(name: str, value: str) -> None:
        Select(page.find_element(By.ID, name)).select_by_visible_text(value)

    assert names(page) == ["README.md", "call 9.mp3", "Call 10.ogg", "anger.wav"]
    orders = {
        "oldest first": ["anger.wav", "Call 10.ogg", "call 9.mp3", "README.md"],
        "name": ["anger.wav", "call 9.mp3", "Call 10.ogg", "README.md"],
        "emotion": ["Call 10.ogg", "anger.wav", "call 9.mp3", "README.md"],
        "longest first": ["Call 10.ogg", "call 9.mp3", "anger.wav", "README.md"],
        "shortest first": ["README.md", "anger.wav", "call 9.mp3", "Call 10.ogg"],
        "state": ["call 9.mp3", "Call 10.ogg", "anger.wav", "README.md"],
    }
    for order, expected in orders.items():
        select("order", order)
        assert names(page) == expected, order

    select("of-emotion", "anger")
    assert sorted(names(page)) == ["Call 10.ogg", "anger.wav"]
    assert page.find_element(By.ID, "count").text == "2 of 4 recordings"
    page.find_element(By.ID, "of-name").send_keys("CALL")
    assert names(page) == ["Call 10.ogg"]
    select("of-emotion", "all")
    assert sorted(names(page)) == ["Call 10.ogg", "call 9.mp3"]
    select("of-state", "Not classified")
    assert names(page) == []
    assert page.find_element(By.ID, "nothing").is_displayed()
    assert not page.find_element(By.ID, "csv").is_enabled()
    page.find_element(By.ID, "of-name").send_keys(4 * Keys.BACKSPACE)
    assert names(page) == ["README.md"]


# ---------------------------------------------------------------------------------------------------------- progress


@pytest.fixture
def halted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Stop the pipeline at its first step; the function reports a share and keeps it there until the test ends."""
    run = Pipeline.run
    reported: list[Callable[[float], None]] = []
    go = threading.Event()

    def halting_run(*args: Any, advance: Callable[[float], None], **kwargs: Any) -> Result:
        reported.append(advance)
        assert go.wait(120)
        return run(*args, **kwargs)

    def report(share: float) -> None:
        until(lambda: reported)
        reported[-1](share)

    monkeypatch.setattr(Pipeline, "run", halting_run)
    report.end = go.set  # type: ignore[attr-defined]
    yield report
    go.set()


def test_a_long_recording_shows_what_is_classified_also_after_a_reload(
    page: webdriver.Chrome, make_media: MakeMedia, halted: Any, service: Service
) -> None:
    longer = make_media("longer.wav", "-af", "apad=whole_dur=20", source=f"amovie={ANGER}")
    assert longer.stat().st_size > 500_000
    choose(page, longer)
    until(lambda: "Classifying for" in page.find_element(By.CLASS_NAME, "detail").text)

    def bar() -> Any:
        return page.find_element(By.TAG_NAME, "progress").get_property("value")

    def percent() -> str:
        return page.find_element(By.CLASS_NAME, "outcome").text

    halted(0.25)
    until(lambda: percent() == "25%")
    assert bar() == pytest.approx(0.25)
    halted(0.5)
    until(lambda: percent() == "50%")
    assert bar() == pytest.approx(0.5)
    assert page.find_element(By.ID, "count").text == "1 recording, 1 in progress"

    reload(page)

    until(lambda: percent() == "50%")
    halted.end()
    [done] = finished(page)
    assert "anger" in done.text
    assert "0:20" in done.text


def test_leaving_the_page_warns_while_files_are_not_sent(page: webdriver.Chrome) -> None:
    leave = (
        "const event = new Event('beforeunload', {cancelable: true}); dispatchEvent(event); "
        "return event.defaultPrevented"
    )
    choose(page, ANGER, CONVERSATION)
    warned = page.execute_script(leave)
    finished(page, 2)

    assert warned is True
    assert page.execute_script(leave) is False


def test_a_recording_that_is_removed_while_it_waits_is_not_sent(page: webdriver.Chrome, service: Service) -> None:
    before = set(result_files(service))
    others = ("neutral.flac", "sad.m4a", "fear.webm", "anger loud+clear.mp3")
    # The page sends one after another, so the last one still waits.
    choose(page, ANGER, CONVERSATION, *(SAMPLES / name for name in others), SAMPLES / "happy.mp3")
    item(page, "happy.mp3").find_element(By.CLASS_NAME, "remove").click()
    choose(page, SAMPLES / "surprise.ogg")

    finished(page, 7)

    assert set(names(page)) == {"surprise.ogg", "conversation.ogg", "anger.wav", *others}
    # Other tests' recordings may still be finished meanwhile.
    documents = [json.loads(file.read_bytes()) for file in set(result_files(service)) - before]
    sizes = {document["source"]["size_bytes"] for document in documents}
    assert (SAMPLES / "surprise.ogg").stat().st_size in sizes
    assert (SAMPLES / "happy.mp3").stat().st_size not in sizes


# ------------------------------------------------------------------------------------------------- sample and layout


def test_the_sample_is_classified_and_the_drop_zone_becomes_smaller(page: webdriver.Chrome) -> None:
    zone = page.find_element(By.ID, "drop")
    height = zone.rect["height"]
    assert "synthetic speech that this project made (Apache License 2.0)" in zone.text
    assert not page.find_element(By.ID, "sample-note").is_displayed()  # the demo model was made for such speech

    page.find_element(By.ID, "sample").click()

    [done] = finished(page)
    assert "sample conversation.ogg" in done.text
    assert "7 utterances" in done.text
    assert zone.rect["height"] < height / 2


def test_several_results_do_not_replace_the_report_that_is_read(page: webdriver.Chrome) -> None:
    choose(page, ANGER, CONVERSATION)
    finished(page, 2)

    assert page.find_element(By.ID, "shown-name").text == "anger.wav"


@pytest.mark.parametrize("width_px", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_no_accessibility_violation(
    page: webdriver.Chrome, service: Service, scheme: str, width_px: int
) -> None:
    set_view(page, scheme=scheme, width_px=width_px)
    assert accessibility_violations(page) == []
    choose(page, ANGER, CONVERSATION, SAMPLES / "README.md", SAMPLES / "happy.mp3")
    finished(page, 4)
    result_files(service)[-1].unlink()
    reload(page)
    finished(page, 4)
    item(page, "conversation.ogg").find_element(By.CLASS_NAME, "open").click()
    until(lambda: page.find_element(By.ID, "report").rect["height"] > 600)

    assert accessibility_violations(page) == []
    assert page.execute_script("return document.documentElement.scrollWidth") <= width_px


def test_a_long_list_leaves_the_report_on_the_screen(page: webdriver.Chrome, service: Service) -> None:
    choose(page, ANGER)
    finished(page)
    store, [original] = service.store, result_files(service)[-1:]
    assert isinstance(store, FolderResultStore)
    for number in range(50):
        copy = original.with_name(f"0b9f7c0e-6a5c-4b58-9d35-6f6a1c7a{number:04}.json")
        shutil.copy(original, copy)
        entry = json.dumps({"name": f"call {number}.wav", "added": number})
        page.execute_script("localStorage.setItem(...arguments)", f"audio-emotion/{copy.stem}", entry)

    reload(page)

    finished(page, 51)
    page.find_element(By.CSS_SELECTOR, ".item:last-child .open").click()
    until(lambda: page.find_element(By.ID, "report").rect["height"] > 300)
    assert page.find_element(By.ID, "items").rect["height"] < 450
    top = "return document.getElementById('shown').getBoundingClientRect().top"
    assert 0 <= page.execute_script(top) < page.execute_script("return innerHeight") - 100
