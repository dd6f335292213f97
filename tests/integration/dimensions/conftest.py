"""A package of a model that returns dimensions, and a result of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Output, Result, Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT
from tests.support.browser import running_browser
from tests.support.outputs import DIMENSIONS, write_package

CONVERSATION = ROOT / "samples" / "conversation.ogg"


@pytest.fixture(scope="module")
def linear_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_package(Output.LINEAR, DIMENSIONS, tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def pipeline(linear_package: Path) -> Pipeline:
    return Pipeline(EmotionClassifier.load(linear_package), MediaLimits(), SegmentationSettings())


@pytest.fixture(scope="module")
def result(pipeline: Pipeline) -> Result:
    return pipeline.run(CONVERSATION, Source(key=CONVERSATION.name))


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with running_browser() as running:
        yield running
