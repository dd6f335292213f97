"""The API's pages in a real browser, whose fake microphone plays a recording."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from core.audio.waveform import SAMPLE_RATE_HZ
from core.local.stack import UPLOADS_BUCKET, running_stack
from core.local.workers import running_workers
from core.results import Result
from tests.conftest import ROOT, MakeMedia
from tests.support.browser import running_browser
from tests.support.serving import folder_service, service_from_environment, serving
from tests.support.web_page import drop, finished, open_page, set_view, until

ANGER = ROOT / "samples" / "anger.wav"
CONVERSATION = ROOT / "samples" / "conversation.ogg"
NASTY = "<img src=x onerror=\"document.title='broken'\">.wav"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with running_browser(*microphone, f"--use-file-for-fake-audio-capture={ANGER}") as running:
        downloads = str(tmp_path_factory.mktemp("downloads"))
        running.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": downloads})
        running.set_script_timeout(120)
        running.capabilities["downloads"] = downloads
        yield running


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> Iterator[webdriver.Chrome]:
    """Open the page; fail on any error in the console, such as a violation of the policy."""
    open_page(browser, address)
    yield browser
    errors = [entry for entry in browser.get_log("browser") if "status of 422" not in entry["message"]]  # type: ignore[no-untyped-call]
    assert errors == []


def test_a_dropped_file_is_classified_and_its_report_shown(page: webdriver.Chrome) -> None:
    drop(page, CONVERSATION)

    (item,) = finished(page)

    assert "conversation.ogg" in item.text
    assert "mostly anger (65% of the time)" in item.text
    assert "7 utterances" in item.text
    assert "conversation.ogg: " in page.find_element(By.ID, "status").get_attribute("textContent")  # type: ignore[operator]
    until(lambda: page.find_element(By.ID, "report").rect["height"] > 600)
    page.switch_to.frame("report")
    try:
        assert len(page.find_elements(By.CSS_SELECTOR, ".utterance")) == 7
        assert page.find_element(By.TAG_NAME, "h2").text == "Mostly anger (65% of the time), neutral 35%"
        assert page.execute_script("return document.documentElement.scrollHeight <= innerHeight + 1")
        # The report can play the dropped recording.
        duration_s = "const player = document.getElementById('player'); return player.readyState && player.duration"
        assert until(lambda: page.execute_script(duration_s)) == pytest.approx(17.83, abs=0.1)
    finally:
        page.switch_to.default_content()


def test_a_recording_without_a_main_emotion_is_mixed(page: webdriver.Chrome, tmp_path: Path) -> None:
    pause = np.zeros(SAMPLE_RATE_HZ, np.float32)
    clips = [
        soundfile.read(ROOT / "samples" / f"{name}.ogg", dtype="float32")[0] for name in ("surprise", "neutral 平静")
    ]
    anger = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")[0]
    file = tmp_path / "mixed.wav"
    soundfile.write(file, np.concatenate([clips[0], pause, clips[1], pause, anger]), SAMPLE_RATE_HZ)
    drop(page, file)

    (item,) = finished(page)

    assert item.find_element(By.CLASS_NAME, "outcome").text == "mixed"
    assert not item.find_elements(By.CSS_SELECTOR, "[data-emotion]")
    until(lambda: page.find_element(By.ID, "report").rect["height"] > 600)
    page.switch_to.frame("report")
    try:
        assert page.find_element(By.TAG_NAME, "h2").text.startswith("Mixed (")
    finally:
        page.switch_to.default_content()


def test_the_result_can_be_downloaded(page: webdriver.Chrome) -> None:
    drop(page, ANGER)
    finished(page)

    page.find_element(By.ID, "download").click()

    file = Path(page.capabilities["downloads"]) / "anger.wav.json"
    until(file.exists)
    result = Result.model_validate_json(file.read_bytes())
    assert (result.emotion, result.model.demo) == ("anger", True)


def test_the_microphone_is_recorded_and_classified(page: webdriver.Chrome) -> None:
    record = page.find_element(By.ID, "record")
    record.click()
    until(lambda: record.get_attribute("aria-pressed") == "true")
    # The fake microphone repeats the sentence. Record it once in full.
    until(lambda: page.find_element(By.ID, "clock").text >= "0:03")
    assert page.find_element(By.ID, "level").is_displayed()
    record.click()

    (item,) = finished(page)

    assert item.text.startswith("microphone ")
    assert ".webm" in item.text
    assert "anger" in item.text
    assert record.text == "Record"


def test_a_second_click_during_the_permission_prompt_is_ignored(page: webdriver.Chrome) -> None:
    # The browser of the test allows the microphone at once, so delay its answer.
    page.execute_script("""
        const devices = navigator.mediaDevices, own = devices.getUserMedia.bind(devices);
        window.asked = 0;
        window.allow = null;
        const allowed = new Promise((resolve) => { window.allow = resolve; });
        devices.getUserMedia = async (wanted) => { window.asked++; await allowed; return own(wanted); };
    """)
    record = page.find_element(By.ID, "record")
    record.click()
    record.click()
    page.execute_script("window.allow()")
    until(lambda: record.get_attribute("aria-pressed") == "true")
    until(lambda: page.find_element(By.ID, "clock").text >= "0:02")
    record.click()

    finished(page)

    assert page.execute_script("return window.asked") == 1
    assert record.text == "Record"


def test_a_failed_recording_shows_the_reason_and_the_next_one_is_classified(page: webdriver.Chrome) -> None:
    drop(page, ROOT / "samples" / "README.md", NASTY)
    drop(page, ANGER)

    good, bad = finished(page, 2)

    assert "anger" in good.text
    assert NASTY in bad.text
    assert "not classified" in bad.text
    assert page.title == "Audio Emotion"
    bad.find_element(By.TAG_NAME, "button").click()
    assert page.find_element(By.ID, "shown-name").text == NASTY


def test_the_page_works_with_the_keyboard(page: webdriver.Chrome) -> None:
    page.find_element(By.ID, "file").send_keys(f"{ANGER}\n{ROOT / 'samples' / 'happy.mp3'}")
    finished(page, 2)

    reached = []
    for _ in range(20):
        page.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(page.switch_to.active_element.get_attribute("id") or page.switch_to.active_element.text)
        if "anger.wav" in reached[-1]:
            break
    page.switch_to.active_element.send_keys(Keys.ENTER)

    choices = ["speakers"] if page.find_element(By.ID, "speakers").is_displayed() else []
    tools = ["of-name", "of-emotion", "of-state", "order", "per", "csv", "clear"]
    order = ["choose", "record", "sample", *choices, *tools, "happy.mp3", "\u00d7", "anger.wav"]
    assert [name.partition("\n")[0] for name in reached][2:] == order
    assert page.find_element(By.ID, "shown-name").text == "anger.wav"
    assert page.switch_to.active_element.get_attribute("id") == "shown-name"


def test_the_page_warns_about_the_demo_model(page: webdriver.Chrome) -> None:
    assert "Its results for real people are meaningless" in " ".join(page.find_element(By.ID, "demo").text.split())
    assert "audio-emotion-demo" in page.find_element(By.ID, "about").text


def test_the_page_has_a_dark_theme_and_fits_a_phone(page: webdriver.Chrome) -> None:
    body = page.find_element(By.TAG_NAME, "body")
    light = body.value_of_css_property("background-color")
    drop(page, CONVERSATION)
    finished(page)
    try:
        set_view(page, scheme="dark", width_px=390)

        assert body.value_of_css_property("background-color") != light
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        for button in page.find_elements(By.CSS_SELECTOR, ".drop button, .item button, .shown .button"):
            assert button.rect["height"] >= 44, "too small for a finger"
    finally:
        set_view(page)


def test_the_policy_blocks_inline_scripts(page: webdriver.Chrome) -> None:
    page.execute_script(
        "const own = document.createElement('script'); own.textContent = \"document.title = 'broken'\";"
        "document.body.append(own);"
    )

    assert page.title == "Audio Emotion"
    (error,) = page.get_log("browser")  # type: ignore[no-untyped-call]
    assert "Content Security Policy" in error["message"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_api_reference_works_under_its_policy(browser: webdriver.Chrome, address: str, theme: str) -> None:
    set_view(browser, scheme=theme)
    try:
        browser.get("about:blank")  # a page that is open already would only change its anchor
        browser.get(f"{address}/docs#problems")
        until(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".opblock")) == 6)
        until(lambda: browser.find_element(By.ID, "problems").get_property("open"))
        assert "request_too_large" in browser.find_element(By.ID, "problems").text
        is_dark = "return getComputedStyle(document.documentElement).backgroundColor !== 'rgba(0, 0, 0, 0)'"
        assert browser.execute_script(is_dark) is (theme == "dark")

        browser.find_element(By.CSS_SELECTOR, ".opblock-summary-control").click()
        until(lambda: browser.find_elements(By.CSS_SELECTOR, ".opblock input[type=file]"))[0].send_keys(str(ANGER))
        browser.execute_script("document.querySelector('button.execute').click()")
        answer = until(lambda: browser.find_elements(By.CSS_SELECTOR, ".live-responses-table"))[0]
        assert '"predict": "anger"' in answer.text
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    finally:
        set_view(browser)


class Throttled:
    """Refuse the first requests of each kind, as API Gateway does when it throttles and while a server restarts."""

    KINDS = ("health", "recognize", "results", "uploads")

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._left = {kind: [429, 502] for kind in self.KINDS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "/"))
        left = [] if path.endswith("/report") else self._left.get(path.split("/")[1], [])
        if not left:
            await self._app(scope, receive, send)
            return
        status = left.pop(0)
        text = '{"message":"Too Many Requests"}' if status == 429 else "<h1>Not now</h1>"
        await Response(text, status)(scope, receive, send)

    @property
    def done(self) -> bool:
        return not any(self._left.values())


def test_the_page_retries_after_throttling_and_a_short_outage(
    browser: webdriver.Chrome, package: Path, tmp_path: Path
) -> None:
    throttled: list[Throttled] = []

    def behind(app: ASGIApp) -> ASGIApp:
        throttled.append(Throttled(app))
        return throttled[0]

    happy = ROOT / "samples" / "happy.mp3"
    # ANGER exceeds the limit, so the page uploads it; the other file fits.
    small = folder_service(package, tmp_path, api_max_request_bytes=happy.stat().st_size + 4000)
    with serving(small, behind=behind) as address:
        open_page(browser, address)
        drop(browser, ANGER)
        finished(browser)
        drop(browser, happy)
        by_request, by_upload = finished(browser, 2)

    assert "anger" in by_upload.text
    # The server may have classified the recording before the 502, so the page does not send it again.
    assert "The server answered 502." in by_request.text
    assert throttled[0].done
    browser.get_log("browser")  # type: ignore[no-untyped-call]


def test_an_answer_without_a_body_still_shows_a_message(
    browser: webdriver.Chrome, package: Path, tmp_path: Path
) -> None:
    small = folder_service(package, tmp_path, api_max_request_bytes=ANGER.stat().st_size)

    def behind(app: ASGIApp) -> ASGIApp:
        async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
            refused = scope["type"] == "http" and scope["method"] == "POST"
            await (Response("", 403) if refused else app)(scope, receive, send)

        return refuse

    with serving(small, behind=behind) as address:
        open_page(browser, address)
        drop(browser, ANGER)
        drop(browser, ROOT / "samples" / "happy.mp3")
        items = finished(browser, 2)

    assert [item.find_element(By.CLASS_NAME, "detail").text for item in items] == 2 * ["The server answered 403."]
    browser.get_log("browser")  # type: ignore[no-untyped-call]


def test_a_large_recording_is_uploaded_to_the_bucket_and_its_result_shown(
    browser: webdriver.Chrome,
    aws_server: str,
    package: Path,
    make_media: MakeMedia,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = make_media("large.wav", "-af", "apad=whole_dur=30", sample_rate_hz=96_000, source=f"amovie={ANGER}")
    assert large.stat().st_size > 4_500_000
    with running_stack(endpoint=aws_server) as stack, running_workers(stack, package, tmp_path / "log"):
        for name, value in stack.environment(package).items():
            monkeypatch.setenv(name, value)
        with serving(service_from_environment(package)) as address:
            open_page(browser, address)

            drop(browser, large)
            (item,) = finished(browser)

            assert "anger" in item.text
            (key,) = stack.results()
            result = Result.model_validate_json(stack.result(key))
            assert (result.source.bucket, key) == (UPLOADS_BUCKET, f"results/{result.source.key}.json")
            until(lambda: browser.find_element(By.ID, "report").rect["height"] > 600)
            drop(browser, ANGER)
            finished(browser, 2)
            assert len(stack.results()) == 2
            assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []  # type: ignore[no-untyped-call]
