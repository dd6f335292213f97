"""A small soak, and the number of S3 requests that costs and backfills assume."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from core import settings
from core.delivery import Delivery, Upload
from core.delivery.storage import Storage, s3_client
from core.local.stack import UPLOADS_BUCKET, running_stack
from core.model.classifier import EmotionClassifier
from core.operations import prices
from core.pipeline import Pipeline
from core.settings import FunctionSettings, MediaLimits, SegmentationSettings, StorageSettings
from tests.support.faults.fault_proxy import faulty
from tests.support.soak.run import Settings, soak


def test_a_recording_makes_the_s3_requests_that_costs_and_backfills_assume(
    aws_server: str, package: Path, classifier: EmotionClassifier, tone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_stack(endpoint=aws_server) as stack, faulty(stack.endpoint) as proxy:
        for name, value in replace(stack, endpoint=proxy.endpoint).environment(package).items():
            monkeypatch.setenv(name, value)
        pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
        storage = Storage(s3_client(settings.read(StorageSettings)))
        delivery = Delivery(storage, pipeline, settings.read(FunctionSettings))
        stack.upload(tone, "a.wav")

        assert delivery.deliver(Upload(UPLOADS_BUCKET, "a.wav")).kind == "stored"
        calls = Counter((call.method, call.path.split("/")[2]) for call in proxy.calls)
        proxy.calls.clear()
        assert delivery.deliver(Upload(UPLOADS_BUCKET, "a.wav")).kind == "duplicate"
        calls_if_done = Counter(call.method for call in proxy.calls)

    assert calls == {
        ("HEAD", "a.wav"): 1,
        ("GET", "a.wav"): prices.UPLOAD_READS - 1,
        ("HEAD", "results"): prices.RESULT_READS,
        ("PUT", "results"): prices.RESULT_PUTS,
        ("PUT", "claims"): prices.LEASE_PUTS,
        ("DELETE", "claims"): prices.LEASE_DELETES,
    }
    assert calls_if_done == {"HEAD": prices.READS_IF_DONE}


def test_a_small_soak_loses_nothing_and_repeats_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = Settings(count=12, workers=2, seed=3, fault_rate=0.02, kills=1, bad_share=0.2, timeout_s=12)

    status = soak(chosen, tmp_path)

    output = capsys.readouterr().out
    assert status == 0, output
    assert "No result lost, no inference repeated" in output
    assert "| recordings | 12 |" in output
