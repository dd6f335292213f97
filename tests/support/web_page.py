"""The page at `/` in a browser: wait, drop files on it, and find its recordings."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from handlers.api.service import Service
from tests.support.browser import running_browser

_EXPECTED_ERRORS = ("status of 422", "status of 404")

# Dropping a file: WebDriver can only fill in a file input, so a temporary input passes the file to the drop events.
_DROP = """
const source = document.createElement("input");
source.type = "file"; source.id = "dropped"; document.body.append(source);
"""
_RELEASE = """
const source = document.getElementById("dropped"), carried = new DataTransfer();
for (const file of source.files) carried.items.add(new File([file], arguments[1] || file.name, {type: file.type}));
source.remove();
for (const kind of ["dragenter", "dragover", "drop"])
  arguments[0].dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
"""


def until(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """Wait until a condition returns a true value, and return the value."""
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return found


def open_page(browser: webdriver.Chrome, address: str) -> None:
    """Open the page with an empty list."""
    browser.get(f"{address}/static/icon.svg")
    browser.execute_script("localStorage.clear()")
    browser.get(f"{address}/")
    until(lambda: browser.find_element(By.ID, "about").text)


def drop(page: webdriver.Chrome, file: Path, name: str | None = None) -> None:
    """Drop a file on the page, under another name if one is given."""
    page.execute_script(_DROP)
    page.find_element(By.ID, "dropped").send_keys(str(file))
    page.execute_script(_RELEASE, page.find_element(By.ID, "drop"), name)


def finished(page: webdriver.Chrome, count: int = 1) -> list[WebElement]:
    """Wait until a number of recordings is finished, and return the list."""
    until(lambda: len(page.find_elements(By.CSS_SELECTOR, ".item progress[hidden]")) == count)
    return page.find_elements(By.CSS_SELECTOR, ".item")


def set_view(page: webdriver.Chrome, *, scheme: str = "light", width_px: int | None = None) -> None:
    """Set the colour scheme, and the width of a phone or, without one, that of the window."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    if width_px is None:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    else:
        phone = {"width": width_px, "height": 800, "deviceScaleFactor": 2, "mobile": width_px < 600}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)


@contextmanager
def downloading_browser(downloads: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser that saves downloads in a folder."""
    with running_browser() as running:
        behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
        running.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        yield running


@contextmanager
def checked_page(browser: webdriver.Chrome, address: str) -> Iterator[webdriver.Chrome]:
    """Open the page with an empty list; fail on any error in the console, such as a violation of the policy."""
    open_page(browser, address)
    yield browser
    browser.switch_to.default_content()
    set_view(browser)
    assert unexpected_errors(browser) == []


def unexpected_errors(browser: webdriver.Chrome) -> list[Any]:
    """Return the entries of the console, without those of answers that tests expect."""
    entries = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry for entry in entries if not any(known in entry["message"] for known in _EXPECTED_ERRORS)]


def choose(page: webdriver.Chrome, *files: Path) -> None:
    """Choose files in the page's file input."""
    page.find_element(By.ID, "file").send_keys("\n".join(map(str, files)))


def reload(page: webdriver.Chrome) -> None:
    """Reload the page."""
    page.refresh()
    until(lambda: page.find_element(By.ID, "about").text)


def names(page: webdriver.Chrome) -> list[str]:
    """Return the names of the recordings that the list shows, in its order."""
    shown = page.find_elements(By.CSS_SELECTOR, ".item:not([hidden]) .name")
    return [name.text for name in shown]


def item(page: webdriver.Chrome, name: str) -> WebElement:
    """Return the row of the only recording whose row contains a text."""
    [found] = [each for each in page.find_elements(By.CLASS_NAME, "item") if name in each.text]
    return found


def stored_entries(page: webdriver.Chrome) -> int:
    """Return the number of entries in the browser's storage."""
    return int(page.execute_script("return localStorage.length"))


def downloaded(downloads: Path, name: str) -> Path:
    """Wait for a download, and return it."""
    file = downloads / name
    until(file.exists)
    return file


def result_files(service: Service) -> list[Path]:
    """Return the result documents of a service, oldest first."""
    folder = service.settings.results_folder
    return sorted(folder.rglob("*.json"), key=lambda file: file.stat().st_mtime)
