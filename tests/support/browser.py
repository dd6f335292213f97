"""Headless Chromium without background requests."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1100,1400",
]


@contextmanager
def running_browser(*switches: str) -> Iterator[webdriver.Chrome]:
    """Start the browser; skip the test where it is not installed."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("Chromium and its driver are not installed. Run `make system-browser`.")
    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = chromium
        for switch in (*SWITCHES, *switches, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        with webdriver.Chrome(options=options, service=Service(driver)) as running:
            yield running
