"""Networks of the encoders' published sizes, with random weights."""

from collections.abc import Mapping
from typing import Any

import torch

from core.checkpoints.architecture import STOCK, Architecture, Encoder
from core.checkpoints.network import SpeechNetwork, build_network

_LARGE: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}

PUBLISHED_CONFIGS: Mapping[str, tuple[Encoder, Mapping[str, Any]]] = {
    "hubert-base": (Encoder.HUBERT, {}),
    "wav2vec2-base": (Encoder.WAV2VEC2, {}),
    "wavlm-base": (Encoder.WAVLM, {}),
    "hubert-large": (Encoder.HUBERT, {**_LARGE, "conv_bias": True}),
    "wav2vec2-large": (Encoder.WAV2VEC2, {**_LARGE, "conv_bias": True}),
    "wavlm-large": (Encoder.WAVLM, _LARGE),
}
"""Name -> encoder, and the values of config.json that are not transformers' defaults, which are the base sizes."""

_LABELS = ("neutral", "happy", "anger", "sad")
_INNER_SIZE = 256
_SPREAD = 0.2
"""The factor of the last layer. The states of large networks with random weights grow with each layer, so that every
score would be 0 or 1."""


def full_size_config(name: str) -> dict[str, Any]:
    """Return the content of config.json."""
    encoder, config = PUBLISHED_CONFIGS[name]
    return {
        **config,
        "_name_or_path": f"tests/random-{name}",
        "model_type": encoder.value,
        "id2label": dict(enumerate(_LABELS)),
        "use_weighted_layer_sum": True,
    }


def full_size_network(name: str) -> SpeechNetwork:
    """Build a network with the head and the weighted sum of SUPERB's checkpoints, in evaluation mode."""
    encoder, config = PUBLISHED_CONFIGS[name]
    architecture = Architecture(encoder=encoder, has_weighted_sum=True, head=STOCK, labels=_LABELS)
    with torch.device("meta"):
        network = build_network(architecture, {**config, "mask_time_prob": 0.0}, _INNER_SIZE)
    tensors = random_tensors(network)
    tensors["classifier.weight"] *= _SPREAD
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def random_tensors(network: torch.nn.Module, spacing: int = 1_009) -> dict[str, torch.Tensor]:
    """Draw tensors with the names and shapes of a network's. Each of them has an effect.

    A million numbers are drawn and repeated, because drawing 316 million takes longer than the tests. Their count is
    prime, so that no two rows of a matrix are equal.

    Parameters
    ----------
    spacing
        The distance of the first numbers of two tensors. With 0, layers are equal. ONNX Runtime stores equal weights
        once, so networks with equal layers are smaller and faster than others.
    """
    drawn = torch.randn(1_000_003, generator=torch.Generator().manual_seed(20_240_301))
    return {
        name: _random(name, tensor.shape, drawn.roll(-spacing * number))
        for number, (name, tensor) in enumerate(network.state_dict().items())
    }


def _random(name: str, shape: torch.Size, drawn: torch.Tensor) -> torch.Tensor:
    values = drawn.repeat(-(-shape.numel() // drawn.numel()))[: shape.numel()].reshape(shape).clone()
    if name.endswith("weight.original0") or (len(shape) == 1 and name.endswith("weight")):
        return 1.0 + 0.2 * values  # gains
    return 0.1 * values if len(shape) == 1 else values / shape[1:].numel() ** 0.5
