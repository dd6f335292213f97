"""The page at `/` in a browser: wait, drop files on it, and find its recordings."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

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
