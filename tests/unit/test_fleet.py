"""The simulated backlog: nothing is lost in it, and where the answer is known it is right."""

import json
import random
from pathlib import Path

import pytest

from benchmarks.fleet import RETENTION_S, Fleet, Limits, most_within, ramp_s, steady_s
from benchmarks.workload import Workload, longest_call_s, processors
from core.settings import MEMORY_MB_PER_VCPU
from tests.cloudformation import TEMPLATE

AT_ONCE = {"first_pollers": 1000, "pollers_per_minute": 0.0, "quota": 1000}


@pytest.mark.parametrize("batch_size", [1, 7, 10])
@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("count", [1, 9, 10, 5003])
def test_every_recording_is_served_once(count: int, coarse: bool, batch_size: int) -> None:
    chance = random.Random(count)
    limits = Limits(max_concurrency=40, batch_size=batch_size)

    drain = Fleet(count, limits, lambda taken: chance.gammavariate(taken, 0.5), start_s=1.5, coarse=coarse).run()

    assert sum(drain.served) == count
    assert drain.left[0] == (0.0, count)
    assert drain.left[-1] == (drain.drained_s, 0)
    assert [left for _, left in drain.left] == sorted((left for _, left in drain.left), reverse=True)
    assert len(drain.served) <= limits.ceiling


@pytest.mark.parametrize(("count", "environments"), [(1000, 10), (1001, 10), (7, 10), (12_345, 64)])
def test_with_equal_recordings_and_a_fixed_fleet_the_time_is_the_closed_form(count: int, environments: int) -> None:
    limits = Limits(max_concurrency=environments, **AT_ONCE)  # type: ignore[arg-type]

    drain = Fleet(count, limits, lambda taken: 0.5 * taken, coarse=False).run()

    assert drain.drained_s == pytest.approx(steady_s(count, environments, 0.5))


def test_while_pollers_multiply_the_time_is_the_fluid_one() -> None:
    for count in (2_000, 40_000):
        limits = Limits(max_concurrency=400)
        drain = Fleet(count, limits, lambda taken: 0.4 * taken, coarse=False).run()
        # Environments come by the whole one and by the second, so the fluid is ahead by about that.
        assert drain.drained_s == pytest.approx(ramp_s(count, limits, 0.4), rel=0.02, abs=1.5)


def test_large_shares_give_the_time_that_single_recordings_give() -> None:
    chance = random.Random(3)
    limits = Limits(max_concurrency=200)

    def service_s(taken: int) -> float:
        return sum(chance.uniform(0.2, 0.8) for _ in range(taken))

    fine = Fleet(20_000, limits, service_s, start_s=2.0, coarse=False).run()
    coarse = Fleet(20_000, limits, service_s, start_s=2.0).run()

    assert coarse.drained_s == pytest.approx(fine.drained_s, rel=0.02)
    assert coarse.busy_s == pytest.approx(fine.busy_s, rel=0.02)


def test_s3_is_the_limit_where_the_fleet_could_do_more() -> None:
    limits = Limits(max_concurrency=1000, **AT_ONCE)  # type: ignore[arg-type]

    drain = Fleet(200_000, limits, lambda taken: 0.1 * taken).run()

    assert drain.drained_s == pytest.approx(200_000 / (3500 / 3), rel=0.02)
    assert drain.longest_bottleneck == "S3: results bucket"


@pytest.mark.parametrize(
    ("limits", "recordings_per_s"),
    [
        (Limits(), 3500 / 3),  # a result's PUT, and a claim's PUT and DELETE
        (Limits(partitions=4), 4 * 3500 / 3),
        (Limits(claims=False), 5500 / 3),  # three looks at the result
    ],
)
def test_results_and_claims_share_what_their_bucket_bears(limits: Limits, recordings_per_s: float) -> None:
    bears, where = limits.recordings_per_s
    assert bears == pytest.approx(recordings_per_s)
    assert where == "S3: results bucket"


def test_the_bottleneck_moves_from_the_pollers_to_what_the_operator_has_set() -> None:
    limits = Limits(max_concurrency=300, quota=200)
    assert limits.allowed(0) == (5, "pollers")
    assert limits.allowed(600) == (200, "quota")
    assert Limits(max_concurrency=10).allowed(600) == (10, "MaxConcurrency")
    assert Limits(max_concurrency=20_000, quota=20_000, batch_size=10).allowed(9999)[1] == "in flight"


def test_a_hundred_million_recordings_need_few_steps_and_outlast_the_queue_at_the_default_concurrency() -> None:
    drain = Fleet(100_000_000, Limits(), lambda taken: 0.5 * taken).run()
    assert sum(drain.served) == 100_000_000
    assert drain.drained_s > RETENTION_S


def test_the_most_that_drains_in_time_is_what_the_fleet_can_do_by_then() -> None:
    most = most_within(RETENTION_S, lambda count: Fleet(count, Limits(), lambda taken: 0.5 * taken).run())
    assert most == pytest.approx(10 * RETENTION_S / 0.5, rel=0.001)


def test_the_longest_recording_that_is_accepted_is_finished_in_time_on_every_processor_that_was_measured() -> None:
    memory_mb, timeout_s, longest_s = (
        int(TEMPLATE["Parameters"][name]["Default"]) for name in ("MemorySizeMb", "TimeoutS", "MaxDurationS")
    )
    measured = [processor for processor in processors() if processor.name.startswith("int8")]
    assert len(measured) >= 2
    for processor in measured:
        assert longest_call_s(processor, memory_mb, timeout_s) > longest_s, processor.name


def test_the_lengths_in_the_documentation_are_those_that_are_reckoned() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    with_vnni, without = (
        longest_call_s(processor, 3538, 900) for processor in processors() if processor.name.startswith("int8")
    )
    assert f"**{with_vnni / 3600:.1f} h**" in text
    assert f"**{without / 60:.0f} min**" in text


def test_a_line_is_laid_through_what_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    times = {"int8_s": [0.3, 0.5, 0.9, 1.3], "int8_start_s": 2.0, "fp32_s": [1.0] * 4, "reference_window_s": 3.0}
    assumed = {"fp32_start_s": 2.5, "recording_s": 0.01, "audio_second_s": 0.005}
    file.write_text(json.dumps({"somewhere": {**times, "assumed": assumed}}), encoding="utf-8")
    int8, fp32 = processors(file)
    assert int8.utterance_s == pytest.approx(0.1)
    assert int8.per_second_s == pytest.approx(0.2)
    assert (fp32.start_s, fp32.recording_s) == (2.5, 0.01)
    # Two utterances at 1.7 times the speed, four seconds of audio, and S3.
    calls = Workload("two", 4.0, 2, 2.0)
    assert calls.service_s(int8, 2 * MEMORY_MB_PER_VCPU) == pytest.approx(2 * 0.5 / 1.7 + 0.01 + 0.02 + 0.15)
