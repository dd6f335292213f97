"""emotion2vec's serving graph and package have the logits of its checkpoint, which are compared with FunASR's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.checkpoints.emotion2vec import Emotion2vecConfig
from core.export.graph import Precision, build_graph
from core.onnx_session import onnx_session
from tests.support.emotion2vec import SMALL, random_emotion2vec
from tests.support.graphs import GraphPair

SpeechLike = Callable[[int, int], Waveform]

TOLERANCE = 2e-5
"""For logits between -3 and 3; rounding alone changes them by 3e-6."""
PACKAGE_TOLERANCE = 1e-4
"""For the published sizes, whose sums are longer."""

LENGTHS = (1, 100, 399, 400, 719, 720, 1_040, 4_000, 20_000, WINDOW_SAMPLES - 1, WINDOW_SAMPLES, WINDOW_SAMPLES + 9_000)
"""Less than a frame, one, two and three frames, fewer than the positional kernels, and up to more than 6 s."""

KINDS = {
    "small": {},
    "even positional kernel": {"num_conv_pos_embeddings": 6},
    "one positional convolution": {"num_conv_pos_layers": 1},
    "one extra token": {"num_extra_tokens": 1},
    "no pre-net": {"num_prenet_layers": 0},
    "another epsilon": {"layer_norm_eps": 1e-2},
    "eight heads": {"num_attention_heads": 8},
    "other kernels": {"conv_dim": (12, 16, 20), "conv_kernel": (16, 5, 4), "conv_stride": (16, 4, 5)},
}


def changed(sizes: dict[str, object]) -> Emotion2vecConfig:
    return Emotion2vecConfig(**{**vars(SMALL), **sizes})


@pytest.fixture(scope="module")
def pair() -> GraphPair:
    return GraphPair(random_emotion2vec(SMALL))


@pytest.mark.parametrize("sizes", KINDS.values(), ids=KINDS)
def test_the_graph_equals_the_network(sizes: dict[str, object], speech_like: SpeechLike) -> None:
    kind = GraphPair(random_emotion2vec(changed(sizes)))

    changes = {samples: kind.difference(speech_like(samples, samples)) for samples in LENGTHS if samples >= 400}

    assert {samples: change for samples, change in changes.items() if change > TOLERANCE} == {}
    # A control: constant logits would be equal in any case.
    assert np.abs(kind.served(speech_like(719, 1)) - kind.served(speech_like(20_000, 1))).max() > 0.01


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_clip_of_any_length_has_the_network_s_logits(samples: int, pair: GraphPair, speech_like: SpeechLike) -> None:
    assert pair.difference(speech_like(samples, samples)) < TOLERANCE


@pytest.mark.parametrize("clip", ["silence", "one loud sample", "a constant", "clipped noise", "an offset"])
def test_extreme_clips_have_the_network_s_logits(clip: str, pair: GraphPair, speech_like: SpeechLike) -> None:
    waveform = {
        "silence": np.zeros(8_000),
        "one loud sample": np.eye(1, 8_000)[0],
        "a constant": np.full(8_000, 0.7),
        "clipped noise": np.sign(np.random.default_rng(0).standard_normal(8_000)),
        "an offset": speech_like(8_000, 3) + 0.5,
    }[clip].astype(np.float32)

    # The norm of silence divides by a tiny number, which increases rounding errors.
    assert pair.difference(waveform) < 10 * TOLERANCE


@pytest.mark.parametrize(
    "tensor", ["extra_tokens", "alibi_scale", "relative_positional_encoder.3.0.weight", "context_encoder.norm.bias"]
)
def test_the_graph_has_every_part_of_the_network(tensor: str, pair: GraphPair, speech_like: SpeechLike) -> None:
    """A control: random tensors whose effect is within the tolerance would hide a part that the graph omits."""
    clip, other = speech_like(20_000, 1), random_emotion2vec(SMALL)
    with torch.no_grad():
        parameter = other.get_parameter(f"d2v_model.modality_encoders.AUDIO.{tensor}")
        parameter.copy_(parameter.abs() + 0.5)

    assert np.abs(GraphPair(other).served(clip) - pair.served(clip)).max() > 100 * TOLERANCE


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT8_FFN])
def test_lower_precisions_stay_close_to_the_network(
    precision: Precision, pair: GraphPair, speech_like: SpeechLike
) -> None:
    session = onnx_session(build_graph(pair.network, precision).SerializeToString(), threads=1)

    for samples in (400, 20_000):
        waveform = speech_like(samples, samples)
        logits = session.run(["logits"], pair.geometry.graph_inputs(waveform))[0][0]
        change = np.abs(logits - pair.reference(waveform)).max()
        # 8 bits resolve 1 in 127. The lower bound excludes the float32 graph.
        assert TOLERANCE < change < 0.5
