"""What a soak is judged by finds what it is there to find."""

import json
from collections.abc import Iterable
from typing import Any

from tests.support.soak.account import Growth, Log, Pass, Sample, differences, done_twice, growth, passes, percentiles


def note(what: str, at_s: float, request_id: str, key: str = "a", pid: int = 1) -> bytes:
    return json.dumps({"what": what, "at_s": at_s, "pid": pid, "request_id": request_id, "key": key}).encode()


def log_line(status: str, request_id: str, **more: Any) -> bytes:
    line = {"message": "recording", "timestamp": "2026-01-01 00:00:01,500+0000", "key": "a", "total_ms": 12}
    return json.dumps({**line, "status": status, "function_request_id": request_id, **more}).encode()


def done_pass(begun_s: float, ended_s: float | None, outcome: str | None = "classified") -> Pass:
    return Pass(1, begun_s, ended_s, outcome)


def watched(memory_mb: Iterable[float], heard: int = 500, warm_after: int = 200) -> Growth | None:
    """The growth of a worker that hears a recording a second, and whose memory is this from the 200th on."""
    samples = [Sample(0, 40.0), *(Sample(200 + number, rss_mb) for number, rss_mb in enumerate(memory_mb))]
    return growth(samples, range(1, heard + 1), warm_after)


def test_the_first_word_that_a_result_is_there_is_the_one_that_counts() -> None:
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


def test_passes_are_told_apart_by_what_became_of_them() -> None:
    notes = [note("begun", 1, "r1"), note("begun", 2, "r2", pid=2), note("ended", 3, "r2"), note("begun", 4, "r3", "b")]
    found = passes(notes, {"r2": "classified"})
    assert [(one.outcome, one.ended_s) for one in found["a"]] == [(None, None), ("classified", 3)]
    assert not found["a"][0].counts
    assert found["b"][0].ended_s is None


def test_a_pass_after_one_that_counted_is_one_too_many() -> None:
    assert done_twice([done_pass(0, 1), done_pass(2, 3)])
    assert done_twice([done_pass(0, 1), done_pass(2, 3, "retry")])
    assert done_twice([done_pass(0, 1), done_pass(2, None, None)])


def test_two_passes_at_once_are_one_too_many() -> None:
    assert done_twice([done_pass(0, 2, "retry"), done_pass(1, 3)])


def test_a_pass_again_after_a_crash_or_a_result_that_could_not_be_stored_is_as_it_should_be() -> None:
    assert not done_twice([done_pass(0, None, None), done_pass(1, 2)])
    assert not done_twice([done_pass(0, 1, "retry"), done_pass(2, 3, "duplicate")])
    assert not done_twice([done_pass(0, 1)])


def test_a_result_is_compared_by_everything_but_where_it_came_from_and_when_it_was_made() -> None:
    expected = {"status": "classified", "emotion": "sad", "source": 1, "processing": 1}
    assert differences(expected, {**expected, "source": 2, "processing": 2}) == []
    assert differences(expected, {"status": "classified", "emotion": "anger", "error": {}}) == ["emotion", "error"]


def test_memory_that_grows_is_found_and_memory_that_swings_is_not() -> None:
    leaking = watched(150 + 0.1 * number for number in range(300))
    slowly = watched(150 + 0.04 * number + 3 * (number % 2) for number in range(250))
    swinging = watched(150 + 8 * (number % 2) for number in range(300))
    assert leaking is not None
    assert slowly is not None
    assert swinging is not None
    assert not leaking.flat
    assert (leaking.recordings, round(leaking.per_recording_kb)) == (299, 102)
    assert not slowly.flat, "ten megabytes in all, but no end"
    assert swinging.flat


def test_memory_is_judged_by_what_the_worker_itself_has_heard() -> None:
    assert watched([150.0] * 10) is None
    assert watched([150.0] * 300, warm_after=5000) is None
    assert watched([40.0 + number for number in range(300)], heard=150) is None, "others heard the rest"


def test_percentiles_end_with_the_greatest() -> None:
    assert percentiles(list(range(100, 0, -1)), (50, 99)) == [51, 100, 100]
