"""The report page in a browser: results to show, and what the page shows."""

from collections.abc import Callable, Sequence

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from core.results import Audio, Channel, EmotionScores, Result, Utterance
from tests.conftest import ROOT

CONVERSATION = ROOT / "samples" / "conversation.ogg"
Show = Callable[..., webdriver.Chrome]
"""Opens the page of a result, with its sound if it is given."""


def call(result: Result, duration_s: float, *spans: Sequence[tuple[float, float]]) -> Result:
    """Return the result of a call with an utterance in each span, one list of spans for each channel."""
    labels = result.model.labels
    channels = []
    for number, times in enumerate(spans):
        parts = []
        for index, (start_s, end_s) in enumerate(times):
            emotion = labels[(index + number) % len(labels)]
            scores = {label: 0.75 if label == emotion else 0.05 for label in labels}
            parts.append(Utterance(start_s=start_s, end_s=end_s, **dict(EmotionScores.of(scores))))
        speech_s = sum(part.duration_s for part in parts)
        overall = dict(EmotionScores.of(parts[0].values))
        channels.append(Channel(channel=number, speech_s=speech_s, utterances=tuple(parts), **overall))
    audio = Audio(container="wav", codec="pcm_mulaw", sample_rate_hz=8000, channels=len(spans), duration_s=duration_s)
    return result.model_copy(update={"audio": audio, "channels": tuple(channels)})


def hour(result: Result) -> Result:
    """Return the result of an hour with 1,026 utterances."""
    spans = [[(at + 3 * side, at + 3 * side + 0.5 + at % 5 / 2) for at in range(1, 3590, 7)] for side in (0, 1)]
    return call(result, 3600, *spans)


def utterances(browser: webdriver.Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, ".utterance")


def wait_for(browser: webdriver.Chrome, condition: str) -> None:
    WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda page: page.execute_script(f"return {condition}"))


def wait_for_sound(browser: webdriver.Chrome) -> None:
    wait_for(browser, "document.getElementById('player').readyState > 0")


def position(browser: webdriver.Chrome) -> float:
    """Return the playback position in seconds."""
    now: float = browser.execute_script("return document.getElementById('player').currentTime")
    return now


def edges(browser: webdriver.Chrome, selector: str) -> list[tuple[float, float]]:
    """Return the left and right edges of all elements on the screen."""
    boxes = "[...document.querySelectorAll(arguments[0])].map((element) => element.getBoundingClientRect())"
    found = browser.execute_script(f"return {boxes}.map((box) => [box.left, box.right])", selector)
    return [(left, right) for left, right in found]


def details(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.ID, "details").text


def scores_of_all_labels(page: webdriver.Chrome) -> None:
    """Unfold the scores of all labels."""
    page.find_element(By.ID, "all-scores").click()
