"""The serving graph of a network that hears the clip alone says what the reference says of a padded, masked batch."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.export.graph import Precision, build_graph
from core.model.clip_inputs import ClipGeometry
from core.onnx_session import onnx_session
from tests.support.networks import random_network, small_wav2vec2_config

SpeechLike = Callable[[int, int], Waveform]

TOLERANCE = 2e-5
"""Of logits between -2 and 2. Rounding alone makes 1e-6."""

CONFIGS: dict[str, dict[str, Any]] = {
    "published": small_wav2vec2_config(),
    "no-bias": small_wav2vec2_config() | {"conv_bias": False},
    "kernel-4-stride-2": small_wav2vec2_config((50, 4, 3, 2), (40, 2, 2, 2), position_kernel=32),
    "kernel-5-stride-3": small_wav2vec2_config((16, 5, 3, 4), (16, 3, 2, 3), position_kernel=24),
    "kernel-1-stride-2": small_wav2vec2_config((10, 1, 3, 1, 2), (20, 2, 2, 2, 2), position_kernel=24),
    "odd-position-kernel": small_wav2vec2_config((20, 3, 3, 3, 2), (20, 2, 2, 2, 2), position_kernel=31),
}


class Pair:
    """One random network, as the reference runs it and as the graph does."""

    def __init__(self, network: SpeechNetwork) -> None:
        self.network = network
        geometry = geometry_of(network)
        assert isinstance(geometry, ClipGeometry)
        self.geometry = geometry

    def __repr__(self) -> str:
        return "Pair(...)"

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        return onnx_session(build_graph(self.network, Precision.FP32).SerializeToString(), threads=1)

    def batch(self, waveforms: list[Waveform]) -> npt.NDArray[np.float32]:
        """As the published program's author would: `Wav2Vec2FeatureExtractor` pads to the longest, with a mask."""
        features = extracted(waveforms, padding=True)
        with torch.inference_mode():
            return np.asarray(self.network(features["input_values"].float(), features["attention_mask"]).numpy())

    def served(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        return np.asarray(self.session.run(["logits"], self.geometry.graph_inputs(waveform))[0][0], np.float32)

    def alone(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self.network(torch.from_numpy(self.geometry.network_input(waveform))[None])[0].numpy())

    @property
    def seams(self) -> list[int]:
        """Lengths at which a frame more begins, or something else changes; and their neighbours."""
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
    torch.set_num_threads(1)  # such small products are done before a second thread has woken up
    yield {name: Pair(random_network(config, seed)) for seed, (name, config) in enumerate(CONFIGS.items())}
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_equals_the_reference_at_every_seam(
    name: str, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    pair = pairs[name]

    changes = {samples: _change(pair, speech_like(samples, samples)) for samples in pair.seams}

    assert {samples: change for samples, change in changes.items() if change > TOLERANCE} == {}


def _change(pair: Pair, waveform: Waveform) -> float:
    return float(np.abs(pair.alone(waveform) - pair.served(waveform)).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_clip_by_itself_is_what_the_reference_makes_of_it_in_a_masked_batch(
    name: str, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    """Normalised over itself, attended to and averaged over its own frames alone, whatever it was padded with."""
    pair = pairs[name]
    field, stride = pair.geometry.receptive_field, pair.geometry.stride_samples
    lengths = [field, field + stride - 1, field + stride, 5_000, 16_000, 31_999, 60_000]
    waveforms = [speech_like(samples, samples) for samples in lengths]

    batch = pair.batch(waveforms)

    np.testing.assert_allclose([pair.served(waveform) for waveform in waveforms], batch, atol=TOLERANCE)


def test_the_mask_matters(pairs: dict[str, Pair], speech_like: SpeechLike) -> None:
    """Otherwise the test before would show nothing."""
    pair, clip = pairs["published"], speech_like(16_000, 1)
    padded = torch.from_numpy(np.pad(pair.geometry.network_input(clip), (0, 32_000)))[None]

    with torch.inference_mode():
        unmasked = pair.network(padded)[0].numpy()

    assert np.abs(unmasked - pair.served(clip)).max() > 0.05


@pytest.mark.parametrize("samples", [1, 2, 10, 200, 399])
def test_less_than_a_frame_is_one_frame_with_zeros_behind_as_the_extractor_pads_it(
    samples: int, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    """Without padding, the reference's first convolutions would refuse it."""
    pair = pairs["published"]
    clip = speech_like(samples, samples)
    features = extracted([clip], padding="max_length", max_length=400)

    with torch.inference_mode():
        padded = pair.network(features["input_values"].float())[0].numpy()

    np.testing.assert_allclose(pair.served(clip), padded, atol=TOLERANCE)
    np.testing.assert_allclose(pair.alone(clip), padded, atol=TOLERANCE)


def test_the_reference_s_mask_too_leaves_a_clip_of_nearly_a_frame_one_frame(
    pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    """Of much less, transformers counts fewer frames than none, and fails: it defines nothing there."""
    pair, clip = pairs["published"], speech_like(399, 3)

    batch = pair.batch([clip, speech_like(400, 1)])

    np.testing.assert_allclose(pair.served(clip), batch[0], atol=TOLERANCE)


def test_the_logits_of_the_random_networks_depend_on_the_clip(pairs: dict[str, Pair], speech_like: SpeechLike) -> None:
    """Otherwise equality would show nothing."""
    for pair in pairs.values():
        logits = [pair.served(speech_like(samples, 1)) for samples in (400, 30_000, 30_400)]

        assert np.abs(logits[0] - logits[1]).max() > 0.05
        assert np.abs(logits[1] - logits[2]).max() > 5 * TOLERANCE


@pytest.mark.parametrize("clip", ["silence", "one loud sample", "a constant", "clipped noise"])
def test_the_graph_equals_the_reference_on_what_is_hardly_speech(clip: str, pairs: dict[str, Pair]) -> None:
    waveform = {
        "silence": np.zeros(20_000),
        "one loud sample": np.eye(1, 20_000)[0],
        "a constant": np.full(20_000, 0.7),
        "clipped noise": np.sign(np.random.default_rng(0).standard_normal(20_000)),
    }[clip].astype(np.float32)

    # A layer norm of a frame of silence divides by next to nothing, which makes rounding larger.
    assert _change(pairs["published"], waveform) < 10 * TOLERANCE


def test_a_clip_is_cut_at_six_seconds(pairs: dict[str, Pair], speech_like: SpeechLike) -> None:
    pair, long = pairs["published"], speech_like(WINDOW_SAMPLES + 50_000, 3)

    np.testing.assert_array_equal(pair.served(long), pair.served(long[:WINDOW_SAMPLES]))


@pytest.mark.parametrize(("precision", "most"), [(Precision.INT8, 0.3), (Precision.INT8_FFN, 0.15)])
def test_lower_precisions_stay_near_the_reference(
    precision: Precision, most: float, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    pair = pairs["published"]
    session = onnx_session(build_graph(pair.network, precision).SerializeToString(), threads=1)

    for samples in (400, 8_000, 32_000, 96_000):
        waveform = speech_like(samples, samples)
        logits = session.run(["logits"], pair.geometry.graph_inputs(waveform))[0][0]
        change = np.abs(logits - pair.alone(waveform)).max()
        # 8 bits are 1 in 127: near, and not the float32 graph by mistake.
        assert TOLERANCE < change < most
