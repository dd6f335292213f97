"""The first architecture at full size: the serving package, the reference and the published program's steps agree.

The weights are random with a fixed seed, because tests run without access to the Hub. The architecture, the sizes and
the names of the tensors are the published ones.
"""

import csv
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from transformers import HubertModel, HubertPreTrainedModel, Wav2Vec2FeatureExtractor

from core.audio.decode import decode
from core.audio.offset import remove_offset
from core.audio.probe import probe
from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.loading import load_classifier
from core.checkpoints.network import build_network
from core.checkpoints.reference import ReferenceNetwork
from core.export.exporter import export, write_package
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from core.settings import MediaLimits
from tests.support.networks import HUBERT_BASE_CH, old_name

CLIPS = 40

MAX_INT8_PACKAGE_BYTES = 140_000_000
"""The package is part of the image, which Lambda loads over the network."""

SPREAD = 4.0
"""The factor of the last projection. With random weights alone the scores are nearly uniform and always agree. Scaled,
they range from 0.03 to 0.35 and differ by hundredths between clips."""

# Half a minute on two idle cores, minutes on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def checkpoint(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full-size checkpoint as transformers 4.24 would have saved it."""
    folder = tmp_path_factory.mktemp("full-size")
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((corpora / "data" / "seed" / name).read_bytes())
    config = json.loads((folder / "config.json").read_text())
    torch.manual_seed(20_240_229)
    network = build_network(HUBERT_BASE_CH, config)
    with torch.no_grad():
        # As initialised, the norms have no effect.
        for name, tensor in network.named_parameters():
            if "layer_norm" in name:
                tensor.add_(0.1 * torch.randn(tensor.shape))
        network.get_parameter("classifier.out_proj.weight").mul_(SPREAD)
    torch.save({old_name(name): tensor for name, tensor in network.state_dict().items()}, folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def waveforms(corpora: Path) -> list[Waveform]:
    """The published program's sample and utterances of all corpora, at 16 kHz."""
    return [decoded(path) for path in [corpora / "data" / "seed" / "111.wav", *spoken(corpora, CLIPS)]]


def spoken(corpora: Path, count: int) -> list[Path]:
    """Return a number of recordings, spread over all corpora."""
    speech = corpora / "data" / "speech"
    with (speech / "manifest.csv").open(encoding="utf-8") as lines:
        paths = [row["path"] for row in csv.DictReader(lines)]
    return [speech / paths[number * len(paths) // count] for number in range(count)]


def decoded(path: Path) -> Waveform:
    limits = MediaLimits()
    blocks = list(decode(path, probe(path, limits), limits))
    return np.asarray(np.concatenate(blocks, axis=1).mean(axis=0), np.float32)


@pytest.fixture(scope="module")
def reference(checkpoint: Path, waveforms: list[Waveform]) -> list[dict[str, float]]:
    """The scores of the checkpoint's network in PyTorch."""
    classifier = load_classifier(checkpoint, threads=1)
    return [dict(classifier.classify(waveform)) for waveform in waveforms]


class PublishedHead(nn.Module):
    """As in the published program."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.out_proj = nn.Linear(config.hidden_size, config.num_class)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.out_proj(self.dropout(torch.tanh(self.dense(hidden)))))


class PublishedNetwork(HubertPreTrainedModel):  # type: ignore[misc] # transformers has no types here
    """The network of the published program, which `from_pretrained` loads."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.hubert = HubertModel(config)
        self.classifier = PublishedHead(config)
        self.post_init()

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.classifier(torch.mean(self.hubert(input_values)[0], dim=1)))


def test_the_tensors_have_the_published_names_and_shapes(checkpoint: Path) -> None:
    tensors = torch.load(checkpoint / "pytorch_model.bin", weights_only=True)

    old_names = {"hubert.encoder.pos_conv_embed.conv.weight_g", "hubert.encoder.pos_conv_embed.conv.weight_v"}
    assert old_names <= tensors.keys()
    assert sum(tensor.numel() for tensor in tensors.values()) == 94_966_918
    read = read_checkpoint(checkpoint)
    assert read.ignored.keys() == {"hubert.masked_spec_embed"}
    assert len(read.network.state_dict()) == len(tensors) - 1


def test_the_scores_differ_between_emotions_and_clips(reference: list[dict[str, float]]) -> None:
    """A control: equal scores would agree in any case."""
    largest = [max(scores.values()) for scores in reference]

    assert np.median(largest) > 0.25
    assert np.std([list(scores.values()) for scores in reference], axis=0).max() > 0.01


def test_the_package_agrees_with_pytorch_in_every_score(
    checkpoint: Path, waveforms: list[Waveform], reference: list[dict[str, float]], tmp_path: Path
) -> None:
    export(checkpoint, tmp_path, waveforms[:1], precision=Precision.FP32)

    package = EmotionClassifier.load(tmp_path, threads=1)

    changes = [
        max(abs(scores[label] - expected[label]) for label in expected)
        for scores, expected in zip(package.classify_all(waveforms), reference, strict=True)
    ]
    assert len(changes) == CLIPS + 1
    assert max(changes) < 1e-4


def test_the_int8_package_is_small(checkpoint: Path, waveforms: list[Waveform], tmp_path: Path) -> None:
    read = read_checkpoint(checkpoint)

    write_package(read, tmp_path, Precision.INT8, waveforms[:1], [ReferenceNetwork(read).logits(waveforms[0])])

    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < MAX_INT8_PACKAGE_BYTES


def test_pytorch_agrees_with_the_published_program_s_steps(
    checkpoint: Path, waveforms: list[Waveform], reference: list[dict[str, float]]
) -> None:
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)
    network = PublishedNetwork.from_pretrained(checkpoint).eval()
    labels = ["anger", "fear", "happy", "neutral", "sad", "surprise"]

    changes = []
    for waveform, scores in zip(waveforms, reference, strict=True):
        features = extractor(
            remove_offset(waveform[:WINDOW_SAMPLES]),  # the only step that is not published
            padding="max_length",
            truncation=True,
            max_length=6 * 16_000,
            return_tensors="pt",
            sampling_rate=16_000,
        )
        with torch.no_grad():
            published = torch.softmax(network(features.input_values), dim=1)[0].tolist()
        changes.append(max(abs(scores[label] - score) for label, score in zip(labels, published, strict=True)))

    assert len(changes) == CLIPS + 1
    assert max(changes) < 1e-6
