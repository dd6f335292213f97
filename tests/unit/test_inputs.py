"""The rows and tokens for a clip of a given length; test_serving_graph.py compares the logits with the reference."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.errors import EmptyRecording
from core.model.clip_inputs import ClipGeometry
from core.model.preprocessing import normalise
from core.model.window_inputs import WindowGeometry

SpeechLike = Callable[[int, int], Waveform]

PUBLISHED = WindowGeometry(WINDOW_SAMPLES, (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), 128)
GEOMETRIES = [
    PUBLISHED,
    WindowGeometry(WINDOW_SAMPLES, (10, 3, 3, 2), (5, 2, 2, 2), 16),
    WindowGeometry(WINDOW_SAMPLES, (16, 5, 3, 4), (16, 3, 2, 3), 31),
    WindowGeometry(WINDOW_SAMPLES, (10, 1, 3, 1, 2), (20, 2, 2, 2, 2), 512),
    replace(PUBLISHED, end_group_tokens=16),
    replace(PUBLISHED, end_group_tokens=7),
    replace(PUBLISHED, clip_group_tokens=5),
    replace(PUBLISHED, end_group_tokens=16, clip_group_tokens=8),
]


def test_the_published_network_has_the_published_sizes() -> None:
    assert PUBLISHED.stride_samples == 320
    assert PUBLISHED.first_layer_frames == 19_199
    assert PUBLISHED.window_frames == 299


@pytest.mark.parametrize(("samples", "frames", "tokens"), [(16_000, 50, 178), (32_000, 100, 228), (96_000, 300, 299)])
def test_a_short_clip_needs_fewer_rows_and_tokens_than_the_window(samples: int, frames: int, tokens: int) -> None:
    plan = PUBLISHED.plan(samples)

    # The clip and one frame of padding; after the clip, the 128 tokens that depend on speech or on the window's end.
    assert plan.first_layer_rows == (frames + 1) * 64
    assert len(plan.token_frames) == tokens


@settings(deadline=None)  # a busy machine is slow
@given(samples=st.integers(1, WINDOW_SAMPLES), geometry=st.sampled_from(GEOMETRIES))
def test_the_tokens_count_every_frame_of_the_window_once(samples: int, geometry: WindowGeometry) -> None:
    plan = geometry.plan(samples)

    assert plan.token_weights.sum() == geometry.window_frames
    assert plan.token_weights.min() >= 1
    assert plan.token_shares.shape == (len(plan.token_weights), len(plan.token_frames))
    # Seven sevenths are 1 up to float32's rounding.
    np.testing.assert_allclose(plan.token_shares.sum(axis=1), 1, rtol=1e-6)
    assert (np.diff(plan.token_frames) >= 0).all()
    assert plan.token_frames.max() < plan.first_layer_rows * geometry.strides[0] / geometry.stride_samples


@pytest.mark.parametrize(
    ("samples", "tokens", "groups"),
    [(16_000, 178, 77), (32_000, 228, 127), (80_000, 299, 271), (90_000, 299, 299)],
)
def test_only_tokens_of_padding_are_replaced_by_their_mean(samples: int, tokens: int, groups: int) -> None:
    plan = replace(PUBLISHED, end_group_tokens=16, clip_group_tokens=8).plan(samples)

    # After 16 tokens, groups of 8 until the token that represents all equal ones. 63 tokens follow it, 16 in a group.
    # After a long clip there are none.
    assert plan.token_shares.shape == (groups, tokens)
    together = (plan.token_shares > 0).sum(axis=1)
    first_padding = -(-samples // 320)
    assert (together[: first_padding + 16] == 1).all()
    assert set(together[first_padding + 16 :]) <= {1, 7, 8, 15, 16}
    assert (together.max() == 1) == (groups == tokens)
    assert np.dot(plan.token_weights, plan.token_shares @ plan.token_frames) == pytest.approx(
        np.minimum(np.arange(299), first_padding).sum()
    )


def test_the_token_that_represents_all_equal_ones_is_not_averaged() -> None:
    plan = replace(PUBLISHED, end_group_tokens=16, clip_group_tokens=8).plan(16_000)

    shared = plan.token_weights.argmax()
    assert plan.token_weights[shared] == 299 - 178 + 1
    assert (plan.token_shares[shared] > 0).nonzero()[0].tolist() == [50 + 64]


@settings(deadline=None)  # a busy machine is slow
@given(samples=st.integers(1, WINDOW_SAMPLES + 1_000), geometry=st.sampled_from(GEOMETRIES))
def test_the_row_statistics_are_those_of_the_whole_window(samples: int, geometry: WindowGeometry) -> None:
    waveform = np.random.default_rng(samples).normal(0.01, 0.1, samples).astype(np.float32)
    kernel, stride = geometry.kernels[0], geometry.strides[0]
    all_rows = np.lib.stride_tricks.sliding_window_view(geometry.network_input(waveform), kernel)[::stride].astype(
        np.float64
    )

    inputs = geometry.graph_inputs(waveform)

    mean, covariance = (inputs[name].astype(np.float64) for name in ("row_mean", "row_covariance"))
    np.testing.assert_allclose(mean[0], all_rows.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(covariance, np.cov(all_rows.T, bias=True), rtol=1e-4, atol=1e-4)


def test_an_offset_is_removed_before_the_padding_makes_a_step_of_it(speech_like: SpeechLike) -> None:
    clean = speech_like(32_000, 1)
    clean -= clean.mean()

    window = PUBLISHED.network_input(clean + np.float32(0.02))

    np.testing.assert_allclose(window, normalise(clean), atol=1e-4)
    rows, expected = (PUBLISHED.graph_inputs(x)["rows"].astype(np.float64) for x in (clean + np.float32(0.02), clean))
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_a_recording_without_an_offset_is_normalised_as_published(speech_like: SpeechLike) -> None:
    waveform = speech_like(120_000, 1) + np.float32(0.005)

    np.testing.assert_array_equal(PUBLISHED.network_input(waveform), normalise(waveform))


def test_a_clip_that_is_normalised_over_itself_keeps_no_offset(speech_like: SpeechLike) -> None:
    geometry = ClipGeometry("clip", WINDOW_SAMPLES, PUBLISHED.kernels, PUBLISHED.strides)
    waveform = speech_like(32_000, 1)

    shifted, expected = (geometry.network_input(x) for x in (waveform + np.float32(0.3), waveform))

    np.testing.assert_allclose(shifted, expected, atol=1e-4)


def test_no_samples_are_refused() -> None:
    with pytest.raises(EmptyRecording):
        PUBLISHED.graph_inputs(np.empty(0, np.float32))
