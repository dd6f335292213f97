"""Paths, settings and assertions for the tests of the HTTP API."""

import json
import time
from dataclasses import replace
from typing import Any

import httpx2

from core.settings import ApiSettings
from handlers.api.problems import Problem
from handlers.api.service import Service
from tests.conftest import ROOT

SAMPLES = ROOT / "samples"
EXPECTED = {
    name: about["emotion"]
    for name, about in json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8")).items()
}
ANGER = SAMPLES / "anger.wav"


def problem(answer: httpx2.Response, status: int, code: str) -> Any:
    """Assert that an answer is a problem document, and return the document."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document = answer.json()
    assert Problem.model_validate(document).code == code
    assert document["status"] == status
    assert document["detail"].endswith((".", "`"))
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return document


def other_settings(service: Service, **changes: object) -> Service:
    """Return the same service with other settings of the API."""
    return replace(service, settings=ApiSettings.model_validate(service.settings.model_dump() | changes))


def wait_for(client: httpx2.Client, where: str) -> httpx2.Response:
    """Wait for the result at a path, and return the answer that has it."""
    give_up = time.monotonic() + 60
    while (answer := client.get(where)).status_code == 202:
        assert answer.json()["status"] == "on_its_way"
        assert time.monotonic() < give_up
        time.sleep(0.1)
    return answer
