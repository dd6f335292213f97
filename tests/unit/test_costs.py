"""The cost model: prices by architecture, and the time of workloads on processors."""

import pytest

from core.operations.backfill import Forecast
from core.operations.costs import CALL, CLIP, PROCESSORS, S3_WAIT_S, expected_usd, lambda_usd, speedup
from core.operations.prices import GB_S_USD, function_usd

VNNI, AVX2, GRAVITON = PROCESSORS


def test_arm64_costs_a_fifth_less_for_the_same_time() -> None:
    assert GB_S_USD["arm64"] / GB_S_USD["x86_64"] == pytest.approx(0.8, rel=1e-4)
    assert function_usd(3600, 1024, "arm64") == pytest.approx(3600 * 13.3334e-6)
    assert function_usd(3600, 1024, "x86_64", tmp_mb=1536) == pytest.approx(3600 * (16.6667e-6 + 0.0309e-6))


def test_a_backfill_on_arm64_is_estimated_at_its_price() -> None:
    a_million = Forecast(1_000_000, 1, 0, 200, 0.0, 1.0)
    x86_usd, arm_usd = (a_million.cost_usd(1024, architecture) or 0.0 for architecture in ("x86_64", "arm64"))
    assert x86_usd - arm_usd == pytest.approx(1_000_000 * (16.6667e-6 - 13.3334e-6))


def test_only_inference_is_faster_with_more_memory() -> None:
    around_s = VNNI.recording_s + 2 * VNNI.audio_second_s + S3_WAIT_S
    one_vcpu_s, two_vcpus_s = (CLIP.service_s(VNNI, mb) for mb in (1769, 2 * 1769))
    assert (one_vcpu_s - around_s) / (two_vcpus_s - around_s) == pytest.approx(1.7)
    assert speedup(1769) == 1.0


def test_each_processor_costs_what_its_architecture_does() -> None:
    for processor, architecture in ((VNNI, "x86_64"), (AVX2, "x86_64"), (GRAVITON, "arm64")):
        service_s = CALL.service_s(processor, 3008)
        assert expected_usd(CALL, processor, 3008) == lambda_usd(CALL, service_s, 3008, architecture)
    assert GRAVITON.label == "Graviton2 (modelled)"
    assert not VNNI.is_modelled
