"""The second pass gets exactly the samples of each utterance, however the recording is cut into blocks."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audio.channels import mix
from core.audio.waveform import SAMPLE_RATE_HZ, Block
from core.speakers.separation import Times, utterance_samples

RANDOM = np.random.default_rng(0)


def blocks_of(recording: Block, sizes: list[int]) -> Iterator[Block]:
    """Yield the recording in blocks, with the sizes in turn."""
    position, number = 0, 0
    while position < recording.shape[1]:
        size = sizes[number % len(sizes)]
        yield recording[:, position : position + size]
        position, number = position + size, number + 1


@settings(deadline=None)
@given(
    gaps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 70)), min_size=1, max_size=8),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=4),
)
def test_every_utterance_has_its_samples(gaps: list[tuple[int, int]], sizes: list[int]) -> None:
    """Utterances may touch, span several blocks, or share one."""
    times: list[Times] = []
    at_ms = 0
    for pause_ms, duration_ms in gaps:
        times.append(((at_ms + pause_ms) / 1000, (at_ms + pause_ms + duration_ms) / 1000))
        at_ms += pause_ms + duration_ms
    recording = RANDOM.standard_normal((3, at_ms * SAMPLE_RATE_HZ // 1000 + 5)).astype(np.float32)
    lanes = {(0, 2): times, (1,): times[:1]}

    found = list(utterance_samples(blocks_of(recording, sizes), lanes))

    for group, expected in lanes.items():
        waveforms = [samples for lane, samples in found if lane == group]
        assert len(waveforms) == len(expected)
        for samples, (start_s, end_s) in zip(waveforms, expected, strict=True):
            whole = mix(recording, group)[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
            np.testing.assert_array_equal(samples, whole)


@pytest.mark.parametrize("rounded_end_s", [0.999, 1.0, 1.001])
def test_the_last_utterance_may_end_after_the_recording(rounded_end_s: float) -> None:
    recording = RANDOM.standard_normal((1, SAMPLE_RATE_HZ - 3)).astype(np.float32)

    [(_, samples)] = utterance_samples(blocks_of(recording, [500]), {(0,): [(0.5, rounded_end_s)]})

    end = min(round(rounded_end_s * SAMPLE_RATE_HZ), recording.shape[1])
    np.testing.assert_array_equal(samples, recording[0, SAMPLE_RATE_HZ // 2 : end])


def test_an_utterance_beyond_the_recording_is_missing() -> None:
    recording = np.zeros((1, SAMPLE_RATE_HZ), np.float32)
    found = utterance_samples(blocks_of(recording, [SAMPLE_RATE_HZ]), {(0,): [(0.1, 0.9), (1.5, 2.0)]})
    assert len(list(found)) == 1


def test_three_hours_take_the_memory_of_an_utterance() -> None:
    seconds = 3 * 3600
    times = [(float(start), start + 5.5) for start in range(0, seconds, 6)]

    def blocks() -> Iterator[Block]:
        for _ in range(seconds):
            yield np.zeros((2, SAMPLE_RATE_HZ), np.float32)

    tracemalloc.start()
    try:
        count = sum(1 for _ in utterance_samples(blocks(), {(0, 1): times}))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == len(times)
    assert peak < 3e6  # 5.5 s of samples are 0.35 MB
