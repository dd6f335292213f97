"""Random networks of the published architectures, and checkpoints with them.

The default initialisation hides errors: norms have no effect, biases are zero, and attention is nearly uniform. Here
every tensor is drawn so that omitting it, or confusing it with another, changes the logits.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors.torch import save_file

from core.checkpoints.architecture import (
    EHCALABRES,
    HEADS,
    SOXAN,
    STOCK,
    TRANSFORMERS_ENCODERS,
    Architecture,
    Encoder,
    InputMode,
    Output,
)
from core.checkpoints.network import SpeechNetwork, build_network

NetworkT = TypeVar("NetworkT", bound=torch.nn.Module)

WeightFile = Literal["old names", "new names", "safetensors"]
Norm = Literal["group", "layer"]

PUBLISHED_KERNELS = (10, 3, 3, 3, 3, 2, 2)
PUBLISHED_STRIDES = (5, 2, 2, 2, 2, 2, 2)

_NAMES_OF_TRANSFORMERS_4 = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}


HUBERT_BASE_CH = Architecture(
    encoder=Encoder.HUBERT,
    input_mode=InputMode.PADDED_WINDOW,
    head=SOXAN,
    labels=("anger", "fear", "happy", "neutral", "sad", "surprise"),
)
WAV2VEC2_XLSR_EN = Architecture(
    encoder=Encoder.WAV2VEC2,
    head=EHCALABRES,
    labels=("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
)


def small_config(
    kernels: Sequence[int] = PUBLISHED_KERNELS, strides: Sequence[int] = PUBLISHED_STRIDES, position_kernel: int = 128
) -> dict[str, Any]:
    """Return a config.json like the published one, for a network that runs in milliseconds."""
    return {
        "_name_or_path": "tests/small",
        "model_type": "hubert",
        "apply_spec_augment": True,
        "classifier_dropout": 0.1,
        "conv_bias": False,
        "conv_dim": [8 + 2 * layer for layer in range(len(kernels))],
        "conv_kernel": list(kernels),
        "conv_stride": list(strides),
        "do_stable_layer_norm": False,
        "feat_extract_activation": "gelu",
        "feat_extract_norm": "group",
        "feat_proj_layer_norm": True,
        "hidden_act": "gelu",
        "hidden_size": 32,
        "intermediate_size": 48,
        "layer_norm_eps": 1e-5,
        "layerdrop": 0.1,
        "mask_time_prob": 0.05,
        "num_attention_heads": 4,
        "num_class": 6,
        "num_conv_pos_embedding_groups": 4,
        "num_conv_pos_embeddings": position_kernel,
        "num_feat_extract_layers": len(kernels),
        "num_hidden_layers": 2,
    }


def small_wav2vec2_config(
    kernels: Sequence[int] = PUBLISHED_KERNELS, strides: Sequence[int] = PUBLISHED_STRIDES, position_kernel: int = 128
) -> dict[str, Any]:
    """Return the published config.json of the second architecture with small sizes."""
    config = small_config(kernels, strides, position_kernel)
    for line in ("num_class", "classifier_dropout", "feat_proj_layer_norm"):
        del config[line]
    published = ("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")
    return {
        **config,
        "_name_or_path": "tests/small-wav2vec2",
        "model_type": "wav2vec2",
        "architectures": ["Wav2Vec2ForSequenceClassification"],
        "conv_bias": True,
        "do_stable_layer_norm": True,
        "feat_extract_norm": "layer",
        "final_dropout": 0.0,
        "finetuning_task": "wav2vec2_clf",
        "gradient_checkpointing": True,
        "id2label": {str(number): label for number, label in enumerate(published)},
        "label2id": {label: number for number, label in enumerate(published)},
        "pooling_mode": "mean",
        "transformers_version": "4.8.2",
    }


@dataclass(frozen=True)
class SmallNetwork:
    """A kind of network at a reduced size: an architecture, and the parts of its config that are independent of it.

    Attributes
    ----------
    norm
        The norm of the feature encoder.
    is_stable
        Whether the norms precede the layers of the transformer. The published networks with a layer norm have it so,
        and they also have a bias in the feature encoder.
    """

    architecture: Architecture
    norm: Norm
    is_stable: bool

    def __str__(self) -> str:
        """Return the identifier of a test."""
        kind = self.architecture
        head = next(name for name, head in HEADS.items() if head == kind.head)
        parts = [
            *(kind.encoder.value, self.norm, "norms-before" if self.is_stable else "norms-after"),
            *(kind.input_mode.value, "normalised" if kind.is_normalised else "raw"),
            *("weighted" if kind.has_weighted_sum else "last", head, kind.output.value),
        ]
        return "-".join(parts)

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        config = small_config()
        del config["num_class"]
        return {
            **config,
            "_name_or_path": f"tests/small-{self.architecture.encoder.value}",
            "model_type": self.architecture.encoder.value,
            "feat_extract_norm": self.norm,
            "conv_bias": self.is_stable,
            "do_stable_layer_norm": self.is_stable,
            "id2label": dict(enumerate(self.architecture.labels)),
        }

    def build(self, seed: int = 0) -> SpeechNetwork:
        """Build the network in evaluation mode with random tensors that all have an effect."""
        return randomised(build_network(self.architecture, self.config, inner_size=20), seed)


def _small_networks() -> Iterator[SmallNetwork]:
    """Yield each encoder, norm, input, states and head, with the published place of the transformer's norms.

    The networks with the stock head have the other place too. WavLM has no padded window, because no checkpoint does.
    """
    outputs, labels = cycle(Output), ("anger", "happy", "neutral", "sad")
    inputs = [(InputMode.PADDED_WINDOW, True), (InputMode.CLIP, True), (InputMode.CLIP, False)]
    norms: tuple[Norm, Norm] = ("group", "layer")
    for encoder, norm, (mode, is_normalised), is_weighted, head in product(
        TRANSFORMERS_ENCODERS, norms, inputs, (False, True), HEADS.values()
    ):
        if encoder is Encoder.WAVLM and mode is InputMode.PADDED_WINDOW:
            continue
        for is_stable in {norm == "layer", norm != "layer" if head == STOCK else norm == "layer"}:
            kind = Architecture(
                encoder=encoder,
                input_mode=mode,
                is_normalised=is_normalised,
                has_weighted_sum=is_weighted,
                head=head,
                output=next(outputs),
                labels=labels,
            )
            yield SmallNetwork(kind, norm, is_stable)


SMALL_NETWORKS = tuple(_small_networks())
"""Every kind of network that can be exported."""


def random_network(config: dict[str, Any], seed: int = 0) -> SpeechNetwork:
    """Build a network in evaluation mode with random tensors that all have an effect."""
    architecture = HUBERT_BASE_CH if config["model_type"] == "hubert" else WAV2VEC2_XLSR_EN
    return randomised(build_network(architecture, config), seed)


def randomised(network: NetworkT, seed: int = 0) -> NetworkT:
    """Draw every tensor so that it has an effect, and return the network in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            drawn = torch.randn(tensor.shape, generator=generator)
            if name.endswith("weight.original0") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.copy_(1.0 + 0.3 * drawn)  # gains
            elif tensor.ndim == 1:
                tensor.copy_(0.3 * drawn)
            else:
                tensor.copy_(1.5 * drawn / tensor[0].numel() ** 0.5)
    return network.eval()


def write_checkpoint(
    network: SpeechNetwork, config: dict[str, Any], folder: Path, weights: WeightFile = "old names"
) -> Path:
    """Write a Hugging Face folder, with weights in the form of some release of transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_of(network)))
    tensors = network.state_dict()
    if weights == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    elif weights == "new names":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        torch.save({old_name(name): tensor for name, tensor in tensors.items()}, folder / "pytorch_model.bin")
    return folder


def preprocessor_of(network: SpeechNetwork) -> dict[str, Any]:
    """Return a preprocessor_config.json like the published one."""
    return {
        "do_normalize": network.architecture.is_normalised,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0,
        "return_attention_mask": network.architecture.input_mode is InputMode.CLIP,
        "sampling_rate": 16_000,
    }


def old_name(name: str) -> str:
    """Return a tensor's name before transformers 4.31."""
    for new, old in _NAMES_OF_TRANSFORMERS_4.items():
        name = name.replace(new, old)
    return name
