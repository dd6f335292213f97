"""The analysis of a soak finds lost results, repeated inference and growing memory."""

import json
from collections.abc import Iterable
from typing import Any

from tests.support.soak.account import Growth, Log, Pass, Sample, differences, growth, is_repeated, passes, percentiles


def note(what: str, at_s: float, request_id: str, key: str = "a", pid: int = 1) -> bytes:
    return json.dumps({"what": what, "at_s": at_s, "pid": pid, "request_id": request_id, "key": key}).encode()


def log_line(status: str, request_id: str, **more: Any) -> bytes:
    line = {"message": "recording", "timestamp": "2026-01-01 00:00:01,500+0000", "key": "a", "total_ms": 12}
    return json.dumps({**line, "status": status, "function_request_id": request_id, **more}).encode()


def done_pass(begun_s: float, ended_s: float | None, outcome: str | None = "classified") -> Pass:
    return Pass(1, begun_s, ended_s, outcome)


def measured_growth(memory_mb: Iterable[float], classified: int = 500, warm_after: int = 200) -> Growth | None:
    """Return the growth of a worker that classifies a recording a second and has this memory from the 200th on."""
    samples = [Sample(0, 40.0), *(Sample(200 + number, rss_mb) for number, rss_mb in enumerate(memory_mb))]
    return growth(samples, range(1, classified + 1), warm_after)


def test_the_first_log_line_of_a_stored_result_sets_its_time() -> None:
    log = Log()
    for line in (
        b"no JSON",
        b"[1]",
        b'{"message": "something else"}',
        log_line("retry", "1", error="StorageUnavailable"),
        log_line("duplicate", "2"),
        log_line("classified", "3", timestamp="2026-01-01 00:00:09,000+0000"),
        log_line("superseded", "4"),
    ):
        log.read(line)
    assert log.done_at_s == {"a": 1767225601.5}
    assert (log.duplicates, log.superseded, log.retries["StorageUnavailable"]) == (1, 1, 1)
    assert log.service_ms == [12]


def test_a_pass_has_the_outcome_of_its_delivery() -> None:
    notes = [note("begun", 1, "r1"), note("begun", 2, "r2", pid=2), note("ended", 3, "r2"), note("begun", 4, "r3", "b")]
    found = passes(notes, {"r2": "classified"})
    assert [(one.outcome, one.ended_s) for one in found["a"]] == [(None, None), ("classified", 3)]
    assert not found["a"][0].counts
    assert found["b"][0].ended_s is None


def test_a_pass_after_a_stored_result_is_a_repetition() -> None:
    assert is_repeated([done_pass(0, 1), done_pass(2, 3)])
    assert is_repeated([done_pass(0, 1), done_pass(2, 3, "retry")])
    assert is_repeated([done_pass(0, 1), done_pass(2, None, None)])


def test_two_passes_at_the_same_time_are_a_repetition() -> None:
    assert is_repeated([done_pass(0, 2, "retry"), done_pass(1, 3)])


def test_a_pass_after_a_crash_or_a_lost_result_is_not_a_repetition() -> None:
    assert not is_repeated([done_pass(0, None, None), done_pass(1, 2)])
    assert not is_repeated([done_pass(0, 1, "retry"), done_pass(2, 3, "duplicate")])
    assert not is_repeated([done_pass(0, 1)])


def test_results_are_compared_without_source_and_processing() -> None:
    expected = {"status": "classified", "emotion": "sad", "source": 1, "processing": 1}
    assert differences(expected, {**expected, "source": 2, "processing": 2}) == []
    assert differences(expected, {"status": "classified", "emotion": "anger", "error": {}}) == ["emotion", "error"]


def test_growing_memory_is_found_and_swinging_memory_is_not() -> None:
    leaking = measured_growth(150 + 0.1 * number for number in range(300))
    slowly = measured_growth(150 + 0.04 * number + 3 * (number % 2) for number in range(250))
    swinging = measured_growth(150 + 8 * (number % 2) for number in range(300))
    assert leaking is not None
    assert slowly is not None
    assert swinging is not None
    assert not leaking.flat
    assert (leaking.recordings, round(leaking.per_recording_kb)) == (299, 102)
    assert not slowly.flat, "ten megabytes in total, without an end"
    assert swinging.flat


def test_growth_counts_the_recordings_of_the_one_worker() -> None:
    assert measured_growth([150.0] * 10) is None
    assert measured_growth([150.0] * 300, warm_after=5000) is None
    assert measured_growth([40.0 + number for number in range(300)], classified=150) is None, (
        "others classified the rest"
    )


def test_percentiles_end_with_the_maximum() -> None:
    assert percentiles(list(range(100, 0, -1)), (50, 99)) == [51, 100, 100]
