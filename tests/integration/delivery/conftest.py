"""A stack with a delivery, on moto's S3."""

from collections.abc import Iterator

import pytest

from core.local.stack import running_stack
from core.model.classifier import EmotionClassifier
from tests.support.delivery import World


@pytest.fixture
def world(aws_server: str, classifier: EmotionClassifier) -> Iterator[World]:
    with running_stack(endpoint=aws_server) as stack:
        yield World(stack, classifier)
