"""The normalisation equals the published program's."""

import numpy as np
import pytest
from transformers import Wav2Vec2FeatureExtractor

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.errors import EmptyRecording
from core.model.preprocessing import normalise, window_statistics


def published(waveform: Waveform) -> Waveform:
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=16_000,
        padding_value=0.0,
        padding_side="right",
        do_normalize=True,
        return_attention_mask=False,
    )
    features = extractor(
        waveform, sampling_rate=16_000, padding="max_length", truncation=True, max_length=WINDOW_SAMPLES
    )
    return np.asarray(features["input_values"][0], np.float32)


@pytest.mark.parametrize("samples", [1, 2, 399, 400, 401, 15_999, 48_000, 95_999, 96_000, 96_001, 200_000])
@pytest.mark.parametrize(("offset", "loudness"), [(0.0, 0.1), (0.02, 0.3), (-0.4, 0.05), (0.0, 1e-4), (0.0, 0.0)])
def test_normalisation_equals_the_published_feature_extractor_s(samples: int, offset: float, loudness: float) -> None:
    noise = np.random.default_rng(samples).standard_normal(samples)
    waveform = (offset + loudness * noise).astype(np.float32)

    normalised, expected = normalise(waveform), published(waveform)

    assert normalised.shape == (WINDOW_SAMPLES,)
    assert normalised.dtype == np.float32
    # The extractor sums in float32 and `normalise` in float64: the last digits of values up to 300 differ.
    np.testing.assert_allclose(normalised, expected, rtol=1e-5, atol=1e-5)


def test_the_statistics_include_the_padding() -> None:
    window = normalise(np.full(48_000, 0.5, np.float32))

    # Half of the window is 0.5 and half is 0. Values other than ±1 would come from statistics of the clip alone.
    np.testing.assert_allclose(window[:48_000], 1.0, atol=1e-5)
    np.testing.assert_allclose(window[48_000:], -1.0, atol=1e-5)


def test_a_large_constant_offset_loses_no_digits() -> None:
    quiet = np.random.default_rng(0).normal(0, 1e-4, WINDOW_SAMPLES)

    _, scale = window_statistics((0.9 + quiet).astype(np.float32))

    # 0.9 in float32 has steps of 6e-8. The square root of the variance's minimum, 1e-7, is 3e-4.
    assert scale == pytest.approx(np.sqrt(quiet.var() + 1e-7), rel=1e-4)


def test_digital_silence_is_normalised_to_zeros() -> None:
    assert not normalise(np.zeros(1_000, np.float32)).any()


def test_no_samples_are_refused() -> None:
    with pytest.raises(EmptyRecording, match="no samples"):
        normalise(np.empty(0, np.float32))
