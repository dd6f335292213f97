"""The serving graph for padded windows has the reference's logits, for any kernels, strides and lengths."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.audio.offset import remove_offset
from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.export.graph import Precision, build_graph, network
from core.model.output import Logits
from core.model.window_inputs import WindowGeometry
from core.onnx_session import onnx_session
from tests.support.networks import random_network, small_config

SpeechLike = Callable[[int, int], Waveform]

TOLERANCE = 5e-6
"""For logits of 1 to 4, compared with the reference in float64. Float32 rounding changes the graph's logits by up to
1.2e-6 (and PyTorch's by up to 1e-4). A wrong weight of one token changes them by 1e-5 or more at
some of these lengths, and so do a few missing rows in the statistics of the first layer."""

SHORT_CLIP_TOLERANCE = 2e-4
"""For less than 25 ms: a few samples are normalised to hundreds, which leaves float32 fewer digits for the rest."""

CONFIGS: dict[str, dict[str, Any]] = {
    "published": small_config(),
    "four-layers": small_config((50, 3, 3, 2), (40, 2, 2, 2), position_kernel=16),
    "kernel-4-stride-2": small_config((50, 4, 3, 2), (40, 2, 2, 2), position_kernel=32),
    "kernel-5-stride-2": small_config((25, 3, 5, 2, 2), (20, 2, 2, 2, 2), position_kernel=32),
    "kernel-5-last": small_config((25, 3, 3, 3, 5), (20, 2, 2, 2, 2), position_kernel=64),
    "kernel-5-stride-3": small_config((16, 5, 3, 4), (16, 3, 2, 3), position_kernel=24),
    "kernel-1-stride-2": small_config((10, 1, 3, 1, 2), (20, 2, 2, 2, 2), position_kernel=24),
    "odd-position-kernel": small_config((20, 3, 3, 3, 2), (20, 2, 2, 2, 2), position_kernel=31),
    "position-kernel-beyond-the-window": small_config((50, 3, 3, 2), (40, 2, 2, 2), position_kernel=512),
}


@dataclass(frozen=True, repr=False)
class Pair:
    """A random network as reference and as serving graph."""

    network: SpeechNetwork

    def __repr__(self) -> str:
        return "Pair(...)"  # hypothesis prints its examples, and a network takes 30 kB

    @cached_property
    def geometry(self) -> WindowGeometry:
        geometry = geometry_of(self.network)
        assert isinstance(geometry, WindowGeometry)
        return geometry

    @cached_property
    def session(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        model = build_graph(self.network, Precision.FP32).SerializeToString()
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @cached_property
    def exact(self) -> SpeechNetwork:
        return copy.deepcopy(self.network).double()

    def reference(self, waveform: Waveform) -> npt.NDArray[np.float64]:
        clip = remove_offset(waveform[:WINDOW_SAMPLES]).astype(np.float64)
        window = np.pad(clip, (0, WINDOW_SAMPLES - clip.size))
        window = (window - window.mean()) / np.sqrt(window.var() + 1e-7)
        with torch.inference_mode():
            return np.asarray(self.exact(torch.from_numpy(window)[None])[0].numpy())

    def served(self, waveform: Waveform) -> Logits:
        return np.asarray(self.session.run(["logits"], self.geometry.graph_inputs(waveform))[0][0], np.float32)

    def difference(self, waveform: Waveform) -> float:
        return float(np.abs(self.reference(waveform) - self.served(waveform)).max())

    def agrees(self, waveform: Waveform) -> bool:
        return self.difference(waveform) < (TOLERANCE if waveform.size >= 400 else SHORT_CLIP_TOLERANCE)

    @cached_property
    def receptive_field(self) -> int:
        """The samples that one frame of the last layer depends on."""
        reach, spacing = 1, 1
        for kernel, stride in zip(self.geometry.kernels, self.geometry.strides, strict=True):
            reach += (kernel - 1) * spacing
            spacing *= stride
        return reach

    @property
    def boundary_lengths(self) -> list[int]:
        """The lengths at which the computation changes, and their neighbours."""
        stride, frames, kernel = (
            self.geometry.stride_samples,
            self.geometry.window_frames,
            self.geometry.position_kernel,
        )
        places = {
            *(1, self.geometry.kernels[0], stride, 7 * stride, frames * stride, (frames - 1) * stride),
            *((frames - kernel) * stride, (frames - kernel // 2) * stride),
            *(WINDOW_SAMPLES, WINDOW_SAMPLES - self.receptive_field, WINDOW_SAMPLES - self.receptive_field // 2),
            *(self.receptive_field, WINDOW_SAMPLES - stride, WINDOW_SAMPLES + stride),
        }
        return sorted({place + by for place in places for by in (-1, 0, 1) if place + by > 0})


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

    assert [samples for samples in pair.boundary_lengths if not pair.agrees(speech_like(samples, samples))] == []


@pytest.mark.parametrize("name", CONFIGS)
def test_the_logits_of_the_random_networks_depend_on_the_clip(
    name: str, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    """A control: constant logits would be equal in any case."""
    pair = pairs[name]

    logits = np.stack([pair.reference(speech_like(samples, 1)) for samples in (400, 30_000, 30_400, 96_000)])

    assert np.abs(logits[0] - logits[1]).max() > 0.1
    assert np.abs(logits[1] - logits[2]).max() > 5e-4
    assert np.abs(logits[1] - logits[3]).max() > 0.1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.integers(1, WINDOW_SAMPLES + 5_000),
    name=st.sampled_from(sorted(CONFIGS)),
    offset=st.sampled_from([0.0, 0.05, -0.3]),
    loudness=st.sampled_from([1.0, 0.01]),
)
def test_the_graph_equals_the_reference_at_any_length(
    pairs: dict[str, Pair], speech_like: SpeechLike, samples: int, name: str, offset: float, loudness: float
) -> None:
    waveform = speech_like(samples, samples) * np.float32(loudness) + np.float32(offset)

    if offset and loudness < 1:
        # Audio 50 dB below its own offset has lost a third of float32's digits before any computation.
        assert pairs[name].difference(waveform) < SHORT_CLIP_TOLERANCE
        return
    assert pairs[name].agrees(waveform)


@pytest.mark.parametrize("clip", ["silence", "one loud sample", "a constant", "clipped noise"])
def test_the_graph_equals_the_reference_on_extreme_clips(clip: str, pairs: dict[str, Pair]) -> None:
    waveform = {
        "silence": np.zeros(20_000),
        "one loud sample": np.eye(1, 20_000)[0],
        "a constant": np.full(20_000, 0.7),
        "clipped noise": np.sign(np.random.default_rng(0).standard_normal(20_000)),
    }[clip].astype(np.float32)

    tolerance = SHORT_CLIP_TOLERANCE if clip == "one loud sample" else TOLERANCE
    assert pairs["published"].difference(waveform) < tolerance


def test_a_clip_is_cut_at_the_window_s_end(pairs: dict[str, Pair], speech_like: SpeechLike) -> None:
    long = speech_like(WINDOW_SAMPLES + 50_000, 3)

    np.testing.assert_array_equal(pairs["published"].served(long), pairs["published"].served(long[:WINDOW_SAMPLES]))


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_FFN])
def test_lower_precisions_stay_close_to_the_reference(
    precision: Precision, pairs: dict[str, Pair], speech_like: SpeechLike
) -> None:
    pair = pairs["published"]
    geometry = geometry_of(pair.network, exact=not precision.groups_tokens)
    session = onnxruntime.InferenceSession(
        build_graph(pair.network, precision).SerializeToString(), providers=["CPUExecutionProvider"]
    )

    for samples in (8_000, 32_000, 96_000):
        waveform = speech_like(samples, samples)
        logits = session.run(["logits"], geometry.graph_inputs(waveform))[0][0]
        change = np.abs(logits - pair.reference(waveform)).max()
        # 8 bits resolve 1 in 127. The lower bound excludes the float32 graph.
        assert TOLERANCE < change < 0.5


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("name", ["published", "kernel-5-stride-3", "kernel-1-stride-2"])
def test_the_chunks_of_the_feature_encoder_do_not_change_the_logits(
    name: str, precision: Precision, speech_like: SpeechLike, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = random_network(CONFIGS[name])
    geometry = geometry_of(random, exact=not precision.groups_tokens)
    sessions = []
    for frames in (1, 7, 1_000):
        monkeypatch.setattr(network, "_MAX_CHUNK_FRAMES", frames)
        sessions.append(onnx_session(build_graph(random, precision).SerializeToString(), threads=1))

    for samples in (1, 400, 20_000, WINDOW_SAMPLES):
        inputs = geometry.graph_inputs(speech_like(samples, samples))
        logits = [session.run(["logits"], inputs)[0][0] for session in sessions]
        # Chunks of other lengths may add the terms of a product in another order.
        np.testing.assert_allclose(logits[0], logits[2], atol=TOLERANCE)
        np.testing.assert_allclose(logits[1], logits[2], atol=TOLERANCE)
