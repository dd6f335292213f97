"""Silence for leaps of time stamps: where it goes, how much, and when a leap is closed instead."""

import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest

from core.audio.timeline import Leap, Timeline
from core.audio.waveform import SAMPLE_RATE_HZ, Block

HOUR_S = 3600.0


def timeline(claimed_s: float | None = None, max_duration_s: float = HOUR_S) -> Timeline:
    return Timeline(claimed_s, max_duration_s)


def sound(seconds: float, channels: int = 1) -> Block:
    return np.ones((channels, round(seconds * SAMPLE_RATE_HZ)), np.float32)


def placed(line: Timeline, *parts: tuple[float, Iterable[float]]) -> list[float]:
    """Place seconds of sound with the numbers that ffmpeg printed, and return where sound and silence alternate."""
    blocks = [block for seconds, numbers in parts for block in line.place(sound(seconds), numbers)]
    is_sound = np.concatenate([[False], *[block[0] > 0 for block in blocks], [False]])
    return [float(edge) / SAMPLE_RATE_HZ for edge in np.flatnonzero(np.diff(is_sound))]


def silence_of(*leaps: list[float]) -> list[float]:
    line = timeline()
    return [line.silence_before(Leap(*leap)) for leap in leaps]


def test_without_leaps_the_blocks_stay_as_they_are() -> None:
    blocks = [sound(1), sound(0.3)]
    line = timeline()

    assert [list(line.place(block, [])) for block in blocks] == [[blocks[0]], [blocks[1]]]


def test_a_late_start_and_a_gap_within_a_block_become_silence() -> None:
    line = timeline()

    # 5 s before the sound; after 1.25 s of sound the time stamps are 7 s ahead of it.
    assert placed(line, (1, [0.0, 5.0]), (1, [1.25, 7.0])) == [5.0, 6.25, 8.25, 9.0]


def test_silence_is_inserted_into_all_channels() -> None:
    blocks = list(timeline().place(sound(0.5, channels=3), [0.25, 1.5]))

    assert [block.shape[0] for block in blocks] == [3] * len(blocks)
    assert sum(block.shape[1] for block in blocks) == 2 * SAMPLE_RATE_HZ


def test_numbers_may_arrive_early_and_one_by_one() -> None:
    line = timeline()

    assert placed(line, (1, [0.0]), (1, [0.0, 2.5]), (1, [10.0])) == [0.0, 2.5, 12.5, 13.0]


def test_a_leap_at_the_end_adds_nothing() -> None:
    assert placed(timeline(), (1, [1.0, 30.0])) == [0.0, 1.0]


@pytest.mark.parametrize("ahead_s", [0.0, 0.007, 0.128, -0.9])
def test_jitter_and_the_delay_of_a_decoder_change_nothing(ahead_s: float) -> None:
    assert placed(timeline(), (1, [0.0, ahead_s]), (1, [1.5, 0.0])) == [0.0, 2.0]


def test_a_gap_after_time_stamps_that_went_back_starts_at_the_sound() -> None:
    """Sound is not moved back, so the next gap is as much shorter as the sound is late."""
    assert silence_of([0, 10.0], [5, 7.0], [6, 12.0]) == [10.0, 0.0, 2.0]


def test_an_appended_recording_counts_anew() -> None:
    """Its time stamps start at 0 again. A gap within it is as long as its own time stamps say."""
    assert silence_of([0, 0.0], [60, -60.0], [70, -55.0]) == [0.0, 0.0, 5.0]


def test_time_stamps_that_swing_do_not_add_up() -> None:
    leaps = [[float(second), 0.5 * (-1) ** second] for second in range(100)]

    assert sum(silence_of(*leaps)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("claimed_s", "ahead_s", "silence_s"),
    [
        (30.0, 20.0, 20.0),
        (30.0, 20.9, 20.9),
        (30.0, 22.0, 0.0),
        (None, 600.0, 600.0),
        (None, 601.0, 0.0),
        (2 * HOUR_S, 0.9 * HOUR_S, 0.9 * HOUR_S),
        (2 * HOUR_S, HOUR_S, 0.0),
        (5.0, 100.0, 100.0),
    ],
    ids=[
        "within the claimed duration",
        "rounded",
        "beyond the claimed duration",
        "10 minutes without a claim",
        "more without a claim",
        "long, but claimed",
        "beyond the limit on the duration",
        "a claim that was wrong before",
    ],
)
def test_a_leap_is_closed_if_it_is_not_plausible(claimed_s: float | None, ahead_s: float, silence_s: float) -> None:
    line = timeline(claimed_s)

    assert line.silence_before(Leap(10.0, ahead_s)) == silence_s
    assert line.silence_before(Leap(11.0, ahead_s)) == 0.0


def test_after_a_closed_leap_the_next_gap_is_as_long_as_it_was() -> None:
    line = timeline()

    assert [line.silence_before(leap) for leap in (Leap(1, 1e6), Leap(2, 1e6 + 4))] == [0.0, 4.0]


def test_broken_time_stamps_add_no_more_than_the_limit() -> None:
    line = timeline(max_duration_s=HOUR_S)

    assert sum(line.silence_before(Leap(second, second * 599.0)) for second in range(1000)) <= HOUR_S


def test_leaps_are_closed_where_ffmpeg_counts_from_zero_again() -> None:
    assert placed(timeline(), (4, [0.0, 1.0, 2.0, 3.0, 0.0, 3.0, 1.0, 60.0])) == [1.0, 3.0, 5.0, 7.0]


def test_silence_of_hours_takes_the_memory_of_a_block() -> None:
    line = timeline(claimed_s=10 * HOUR_S, max_duration_s=10 * HOUR_S)
    tracemalloc.start()

    samples = sum(block.shape[1] for block in line.place(sound(1), [0.0, 9 * HOUR_S]))

    assert samples == round((9 * HOUR_S + 1) * SAMPLE_RATE_HZ)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
