"""A stack with recordings and results: moto plays S3, SQS and CloudWatch."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.operations.deployed_stack import DeployedStack, find_stack
from tests.support.cloudformation import STACK
from tests.support.operations import cloudformation, described_by_cloudformation, fill


@pytest.fixture(scope="module")
def world(aws_server: str) -> Iterator[Stack]:
    with running_stack(endpoint=aws_server) as running, pytest.MonkeyPatch.context() as patched:
        for name, value in running.environment(Path()).items():
            patched.setenv(name, value)
        fill(running)
        yield running


@pytest.fixture
def deployed(world: Stack) -> DeployedStack:
    with cloudformation(described_by_cloudformation()) as client:
        found = find_stack(STACK, client)
    return replace(
        found,
        uploads_bucket=UPLOADS_BUCKET,
        results_bucket=RESULTS_BUCKET,
        queue_url=world.queue_url,
        dead_letter_queue_url=world.dead_letter_queue_url,
    )
