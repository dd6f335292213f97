"""The serving graph for a clip alone has the logits of the reference on a padded and masked batch."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.export.graph import Precision, build_graph
from core.model.clip_inputs import ClipGeometry
from core.onnx_session import onnx_session
from tests.support.graphs import GraphPair
from tests.support.networks import random_network, small_wav2vec2_config

SpeechLike = Callable[[int, int], Waveform]

TOLERANCE = 2e-5
"""For logits between -2 and 2; rounding alone changes them by 1e-6."""

CONFIGS: dict[str, dict[str, Any]] = {
    "published": small_wav2vec2_config(),
    "no-bias": small_wav2vec2_config() | {"conv_bias": False},
    "kernel-4-stride-2": small_wav2vec2_config((50, 4, 3, 2), (40, 2, 2, 2), position_kernel=32),
    "kernel-5-stride-3": small_wav2vec2_config((16, 5, 3, 4), (16, 3, 2, 3), position_kernel=24),
    "kernel-1-stride-2": small_wav2vec2_config((10, 1, 3, 1, 2), (20, 2, 2, 2, 2), position_kernel=24),
    "odd-position-kernel": small_wav2vec2_config((20, 3, 3, 3, 2), (20, 2, 2, 2, 2), position_kernel=31),
}


class Pair(GraphPair):
    """A network that classifies the clip alone."""

    geometry: ClipGeometry

    def batch(self, waveforms: list[Waveform]) -> npt.NDArray[np.float32]:
        """Compute the reference's logits of a batch, which `Wav2Vec2FeatureExtractor` pads and masks."""
        features = extracted(waveforms, padding=True)
        with torch.inference_mode():
            return np.asarray(self.network(features["input_values"].float(), features["attention_mask"]).numpy())

    @property
    def boundary_lengths(self) -> list[int]:
        """The lengths at which the number of frames or the computation changes, and their neighbours."""
        field, stride = self.geometry.receptive_field, self.geometry.stride_samples
        kernel = small_wav2vec2_config()["num_conv_pos_embeddings"]
        places = {1, field, field + stride, field + 7 * stride, field + kernel // 2 * stride, 20_000, WINDOW_SAMPLES}
        return sorted({place + by for place in places for by in (-1, 0, 1) if place + by > 0})


def extracted(waveforms: list[Waveform], **padding: Any) -> Any:
    extractor = Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=16_000,
        padding_value=0.0,
        padding_side="right",
        do_normalize=True,
        return_attention_mask=True,
    )
    return extractor(waveforms, sampling_rate=16_000, return_tensors="pt", **padding)


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[str, Pair]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small products take less time than waking a second thread
    yield {name: Pair(random_network(config, seed)) for seed, (name, config) in enumerate(CONFIGS.items())}
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_equals_the_reference_where_the_computation_changes(
    name: str, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    pair = pairs[name]

    changes = {samples: pair.difference(speech_like(samples, samples)) for samples in pair.boundary_lengths}

    assert {samples: change for samples, change in changes.items() if change > TOLERANCE} == {}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_clip_alone_has_the_reference_s_logits_in_a_masked_batch(
    name: str, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    """Normalisation, attention and the mean use the clip's frames only, for any padding."""
    pair = pairs[name]
    field, stride = pair.geometry.receptive_field, pair.geometry.stride_samples
    lengths = [field, field + stride - 1, field + stride, 5_000, 16_000, 31_999, 60_000]
    waveforms = [speech_like(samples, samples) for samples in lengths]

    batch = pair.batch(waveforms)

    np.testing.assert_allclose([pair.served(waveform) for waveform in waveforms], batch, atol=TOLERANCE)


def test_the_mask_changes_the_logits(pairs: dict[str, Pair], speech_like: SpeechLike) -> None:
    """A control for the test above."""
    pair, clip = pairs["published"], speech_like(16_000, 1)
    padded = torch.from_numpy(np.pad(pair.geometry.network_input(clip), (0, 32_000)))[None]

    with torch.inference_mode():
        unmasked = pair.network(padded)[0].numpy()

    assert np.abs(unmasked - pair.served(clip)).max() > 0.05


@pytest.mark.parametrize("samples", [1, 2, 10, 200, 399])
def test_a_clip_shorter_than_a_frame_is_padded_with_zeros_to_one_frame(
    samples: int, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    """Without padding, the reference's first convolutions refuse the clip."""
    pair = pairs["published"]
    clip = speech_like(samples, samples)
    features = extracted([clip], padding="max_length", max_length=400)

    with torch.inference_mode():
        padded = pair.network(features["input_values"].float())[0].numpy()

    np.testing.assert_allclose(pair.served(clip), padded, atol=TOLERANCE)
    np.testing.assert_allclose(pair.reference(clip), padded, atol=TOLERANCE)


def test_the_reference_s_mask_leaves_a_clip_of_nearly_a_frame_one_frame_too(
    pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    """For much shorter clips transformers counts a negative number of frames and fails."""
    pair, clip = pairs["published"], speech_like(399, 3)

    batch = pair.batch([clip, speech_like(400, 1)])

    np.testing.assert_allclose(pair.served(clip), batch[0], atol=TOLERANCE)


def test_the_logits_of_the_random_networks_depend_on_the_clip(pairs: dict[str, Pair], speech_like: SpeechLike) -> None:
    """A control: constant logits would be equal in any case."""
    for pair in pairs.values():
        logits = [pair.served(speech_like(samples, 1)) for samples in (400, 30_000, 30_400)]

        assert np.abs(logits[0] - logits[1]).max() > 0.05
        assert np.abs(logits[1] - logits[2]).max() > 5 * TOLERANCE


@pytest.mark.parametrize("clip", ["silence", "one loud sample", "a constant", "clipped noise"])
def test_the_graph_equals_the_reference_on_extreme_clips(clip: str, pairs: dict[str, Pair]) -> None:
    waveform = {
        "silence": np.zeros(20_000),
        "one loud sample": np.eye(1, 20_000)[0],
        "a constant": np.full(20_000, 0.7),
        "clipped noise": np.sign(np.random.default_rng(0).standard_normal(20_000)),
    }[clip].astype(np.float32)

    # The layer norm of a silent frame divides by a tiny number, which increases rounding errors.
    assert pairs["published"].difference(waveform) < 10 * TOLERANCE


def test_a_clip_is_cut_at_six_seconds(pairs: dict[str, Pair], speech_like: SpeechLike) -> None:
    pair, long = pairs["published"], speech_like(WINDOW_SAMPLES + 50_000, 3)

    np.testing.assert_array_equal(pair.served(long), pair.served(long[:WINDOW_SAMPLES]))


@pytest.mark.parametrize(("precision", "most"), [(Precision.INT8, 0.3), (Precision.INT8_FFN, 0.15)])
def test_lower_precisions_stay_close_to_the_reference(
    precision: Precision, most: float, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    pair = pairs["published"]
    session = onnx_session(build_graph(pair.network, precision).SerializeToString(), threads=1)

    for samples in (400, 8_000, 32_000, 96_000):
        waveform = speech_like(samples, samples)
        logits = session.run(["logits"], pair.geometry.graph_inputs(waveform))[0][0]
        change = np.abs(logits - pair.reference(waveform)).max()
        # 8 bits resolve 1 in 127. The lower bound excludes the float32 graph.
        assert TOLERANCE < change < most
