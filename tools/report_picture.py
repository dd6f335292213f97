"""Draw the pictures of a report that README.md shows: `python -m tools.report_picture`.

The recording is a call composed of samples, with a channel for each of two speakers. The demo model classifies the
call, and Chromium draws its report, without the table, in a light and in a dark colour scheme.
"""

import base64
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import SAMPLE_RATE_HZ
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.report import render
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings

_ROOT = Path(__file__).parents[1]
_SAMPLES = _ROOT / "samples"
_PACKAGE = _ROOT / "models" / "demo" / "package"
_IMAGES = _ROOT / "docs" / "images"

_TURNS = (
    (0, "neutral.flac"),
    (1, "happy.mp3"),
    (0, "surprise.ogg"),
    (1, "neutral 平静.ogg"),
    (0, "fear.webm"),
    (1, "sad.m4a"),
    (0, "anger.wav"),
    (1, "surprise stereo 48kHz.m4a"),
    (0, "anger loud+clear.mp3"),
    (1, "happy 高兴.flac"),
)
"""Channel and sample of each turn of the call."""
_PAUSE_S = 0.2
_SHOWN = "1-3"
"""The utterance whose scores the picture shows: channel and number."""

_NAMES = ("Agent", "Customer")

_WIDTH_PX = 1000
_MARGIN_PX = 16
_PIXELS_PER_PX = 2


def main() -> None:
    """Write one picture for each colour scheme."""
    limits = MediaLimits()
    with tempfile.TemporaryDirectory() as folder, _running_browser(Path(folder) / "profile") as browser:
        call = Path(folder) / "call.wav"
        _write_call(call, limits)
        page = Path(folder) / "report.html"
        pipeline = Pipeline(EmotionClassifier.load(_PACKAGE), limits, SegmentationSettings())
        result = pipeline.run(call, Source(key=call.name))
        page.write_text(render(result, player=True, names=_NAMES), encoding="utf-8")
        for scheme in ("light", "dark"):
            picture = Path(folder) / f"{scheme}.png"
            picture.write_bytes(_report(browser, page, scheme))
            _reduce_colours(picture, _IMAGES / f"report-{scheme}.png")


def _write_call(file: Path, limits: MediaLimits) -> None:
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    channels: tuple[list[np.ndarray], list[np.ndarray]] = ([pause], [pause])
    for channel, name in _TURNS:
        path = _SAMPLES / name
        turn = np.concatenate(list(decode(path, probe(path, limits), limits)), axis=1)[0]
        channels[channel].extend((turn, pause))
        channels[1 - channel].extend((np.zeros_like(turn), pause))
    soundfile.write(file, np.stack([np.concatenate(parts) for parts in channels], axis=1), SAMPLE_RATE_HZ)


@contextmanager
def _running_browser(profile: Path) -> Iterator[webdriver.Chrome]:
    options = Options()
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.add_argument(f"--window-size={_WIDTH_PX},1200")
    options.binary_location = shutil.which("chromium") or ""
    with webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))) as browser:
        yield browser


def _report(browser: webdriver.Chrome, page: Path, scheme: str) -> bytes:
    """Return a PNG of the report from its title to the enlarged lanes."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page.as_uri())
    box = browser.execute_script(
        "document.querySelector('.utterance[data-utterance=\"' + arguments[0] + '\"]').focus();"
        "const { top } = document.querySelector('h1').getBoundingClientRect();"
        "const { bottom } = document.getElementById('timeline').getBoundingClientRect();"
        "return { top: top + window.scrollY, height: bottom - top };",
        _SHOWN,
    )
    clip = {
        "x": 0,
        "y": box["top"] - _MARGIN_PX,
        "width": _WIDTH_PX,
        "height": box["height"] + 2 * _MARGIN_PX,
        "scale": _PIXELS_PER_PX,
    }
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": clip}
    )
    return base64.b64decode(shot["data"])


def _reduce_colours(picture: Path, out: Path) -> None:
    """Keep 128 colours, which makes the file a third as large."""
    palette = "split[a][b];[a]palettegen=max_colors=128:stats_mode=full[p];[b][p]paletteuse=dither=none"
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", picture, "-filter_complex", palette, out], check=True)


if __name__ == "__main__":
    main()
