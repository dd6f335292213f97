"""The serving graph of every kind of network has the reference's logits, for clips of any length."""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.checkpoints.architecture import HEADS, MEAN, STOCK, Dense, Encoder, InputMode
from core.export.graph import Precision, build_graph
from core.onnx_session import onnx_session
from tests.support.graphs import GraphPair
from tests.support.networks import SMALL_NETWORKS, SmallNetwork

SpeechLike = Callable[[int, int], Waveform]

TOLERANCE = 5e-5
"""For logits between -10 and 10; rounding alone changes them by 1e-5. A change of a score is at most as large."""

SHORT_CLIP_TOLERANCE = 2e-4
"""For less than 25 ms: a few samples are normalised to hundreds, which leaves float32 fewer digits for the rest."""

LENGTHS = (400, 719, 20_000, WINDOW_SAMPLES)
"""25 ms and 45 ms, both one frame, and up to 6 s. At 719 samples, the first layer has rows that no frame uses."""

CLIPS = [kind for kind in SMALL_NETWORKS if kind.architecture.input_mode is InputMode.CLIP]
WEIGHTED_CLIPS = [kind for kind in CLIPS if kind.architecture.has_weighted_sum and kind.architecture.head == STOCK]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small products take less time than waking a second thread
    yield
    torch.set_num_threads(threads)


@cache
def pair_of(kind: SmallNetwork) -> GraphPair:
    return GraphPair(kind.build())


@pytest.mark.parametrize("kind", SMALL_NETWORKS, ids=str)
def test_the_graph_equals_the_reference(kind: SmallNetwork, speech_like: SpeechLike) -> None:
    pair = GraphPair(kind.build())

    differences = {samples: pair.difference(speech_like(samples, samples)) for samples in LENGTHS}

    assert {samples: change for samples, change in differences.items() if change > TOLERANCE} == {}
    # A control: constant logits would be equal in any case.
    assert np.abs(pair.served(speech_like(719, 1)) - pair.served(speech_like(20_000, 1))).max() > 0.01


@pytest.mark.parametrize("kind", WEIGHTED_CLIPS, ids=str)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples=st.integers(1, 24_000) | st.integers(390, 410) | st.integers(710, 730))
def test_the_graph_equals_the_reference_for_any_length(
    kind: SmallNetwork, samples: int, speech_like: SpeechLike
) -> None:
    """Also for clips that are shorter than the receptive field, which are padded to one frame."""
    tolerance = TOLERANCE if samples >= 400 else SHORT_CLIP_TOLERANCE

    assert pair_of(kind).difference(speech_like(samples, samples)) < tolerance


@pytest.mark.parametrize("clip", ["silence", "one loud sample", "a constant", "clipped noise", "an offset"])
@pytest.mark.parametrize("kind", WEIGHTED_CLIPS, ids=str)
def test_the_graph_equals_the_reference_on_extreme_clips(
    clip: str, kind: SmallNetwork, speech_like: SpeechLike
) -> None:
    waveform = {
        "silence": np.zeros(8_000),
        "one loud sample": np.eye(1, 8_000)[0],
        "a constant": np.full(8_000, 0.7),
        "clipped noise": np.sign(np.random.default_rng(0).standard_normal(8_000)),
        "an offset": speech_like(8_000, 3) + 0.5,
    }[clip].astype(np.float32)

    # The norm of silence divides by a tiny number, which increases rounding errors.
    assert pair_of(kind).difference(waveform) < 10 * TOLERANCE


@pytest.mark.parametrize("kind", [kind for kind in WEIGHTED_CLIPS if not kind.architecture.is_normalised], ids=str)
def test_the_level_of_a_raw_clip_changes_the_logits(kind: SmallNetwork, speech_like: SpeechLike) -> None:
    """A control: the tests above would pass if both sides normalised it."""
    pair, clip = pair_of(kind), speech_like(20_000, 1)

    assert np.abs(pair.served(clip) - pair.served(clip * np.float32(0.1))).max() > 100 * TOLERANCE


def test_wavlm_needs_its_position_bias(speech_like: SpeechLike) -> None:
    """A control: random tables whose effect is within the tolerance would hide a wrong bias."""
    kind = next(kind for kind in CLIPS if kind.architecture.encoder is Encoder.WAVLM)
    pair, clip = pair_of(kind), speech_like(20_000, 1)
    changed = kind.build()
    embedding = changed.base_model.encoder.layers[0].attention.rel_attn_embed
    with torch.no_grad():
        embedding.weight.copy_(embedding.weight.flip(0))

    assert np.abs(GraphPair(changed).served(clip) - pair.served(clip)).max() > 100 * TOLERANCE


@pytest.mark.parametrize("kind", WEIGHTED_CLIPS, ids=str)
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_FFN])
def test_lower_precisions_stay_close_to_the_reference(
    precision: Precision, kind: SmallNetwork, speech_like: SpeechLike
) -> None:
    pair = pair_of(kind)
    session = onnx_session(build_graph(pair.network, precision).SerializeToString(), threads=1)

    for samples in (400, 20_000):
        waveform = speech_like(samples, samples)
        logits = session.run(["logits"], pair.geometry.graph_inputs(waveform))[0][0]
        change = np.abs(logits - pair.reference(waveform)).max()
        # 8 bits resolve 1 in 127. The lower bound excludes the float32 graph.
        assert TOLERANCE < change < 0.5


def test_only_dense_layers_precede_the_mean_in_a_head() -> None:
    """The serving graph takes the mean first, which is exact for affine steps only."""
    for head in HEADS.values():
        assert all(isinstance(step, Dense) for step in head[: head.index(MEAN)])
