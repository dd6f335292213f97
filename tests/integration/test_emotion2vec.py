"""emotion2vec's network against the reference implementation in FunASR, on random weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from core.audio.waveform import Waveform
from core.checkpoints.emotion2vec import Emotion2vecConfig, alibi_slopes
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from tests.support.emotion2vec import SIZES, SMALL, FunAsrNetwork, document, random_emotion2vec

SpeechLike = Callable[[int, int], Waveform]

DURATIONS_S = (0.1, 0.5, 1.3, 2.7, 6.0)


@pytest.fixture(scope="module")
def small() -> SpeechNetwork:
    return random_emotion2vec(SMALL)


@torch.inference_mode()
def logits(network: SpeechNetwork, waveform: Waveform) -> torch.Tensor:
    """Compute the logits of a clip from the input that its geometry computes."""
    result: torch.Tensor = network(torch.from_numpy(geometry_of(network).network_input(waveform))[None])[0]
    return result


def largest_difference(network: SpeechNetwork, config: Emotion2vecConfig, waveforms: list[Waveform]) -> float:
    reference = FunAsrNetwork(network, document(config))
    return max(float((logits(network, clip) - reference.logits(clip)).abs().max()) for clip in waveforms)


def test_a_small_network_computes_what_funasr_computes(small: SpeechNetwork, speech_like: SpeechLike) -> None:
    waveforms = [speech_like(int(16_000 * duration), seed) for seed, duration in enumerate(DURATIONS_S)]
    assert largest_difference(small, SMALL, waveforms) < 1e-5


def test_quiet_speech_is_normalised_as_in_funasr(small: SpeechNetwork, speech_like: SpeechLike) -> None:
    quiet = speech_like(16_000, 5) * np.float32(0.02)
    assert largest_difference(small, SMALL, [quiet]) < 1e-5


@pytest.mark.parametrize("heads", [1, 2, 3, 8])
def test_any_number_of_heads_has_funasrs_slopes(heads: int, speech_like: SpeechLike) -> None:
    config = Emotion2vecConfig(**{**vars(SMALL), "num_attention_heads": heads})
    assert largest_difference(random_emotion2vec(config), config, [speech_like(16_000, 0)]) < 1e-5


def test_an_even_positional_kernel_computes_what_funasr_computes(speech_like: SpeechLike) -> None:
    config = Emotion2vecConfig(**{**vars(SMALL), "num_conv_pos_embeddings": 6})
    assert largest_difference(random_emotion2vec(config), config, [speech_like(16_000, 0)]) < 1e-5


def test_every_tensor_has_an_effect_on_the_logits(small: SpeechNetwork, speech_like: SpeechLike) -> None:
    clip, generator = speech_like(16_000, 0), torch.Generator().manual_seed(1)
    expected = logits(small, clip)
    for name, tensor in small.state_dict().items():
        saved = tensor.clone()
        tensor.add_(torch.randn(tensor.shape, generator=generator))
        assert (logits(small, clip) - expected).abs().max() > 1e-4, name
        tensor.copy_(saved)


def test_slopes_of_a_power_of_two_are_a_geometric_sequence() -> None:
    assert alibi_slopes(8) == tuple(2.0**-power for power in range(1, 9))


def test_a_batch_with_padding_is_refused(small: SpeechNetwork) -> None:
    with pytest.raises(ValueError, match="no attention mask"):
        small(torch.zeros(1, 16_000), torch.ones(1, 16_000))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_a_network_of_a_published_size_computes_what_funasr_computes(size: str, speech_like: SpeechLike) -> None:
    waveforms = [speech_like(int(16_000 * duration), seed) for seed, duration in enumerate(DURATIONS_S)]
    assert largest_difference(random_emotion2vec(SIZES[size]), SIZES[size], waveforms) < 1e-5
