"""The second architecture at full size, 316 million parameters: export, comparison with the reference, and inference.

The weights are random with a fixed seed, because tests run without access to the Hub. The architecture, the sizes and
the names of the tensors are the published ones. The tests need a minute of processor time and 4 GB of memory.
"""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model, Wav2Vec2PreTrainedModel

from core.audio.waveform import Waveform
from core.checkpoints.loading import load_classifier
from core.checkpoints.network import build_network
from core.export.exporter import export
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from core.model.package import Manifest
from tests.integration.test_full_size import decoded, spoken
from tests.support.full_size import random_tensors
from tests.support.networks import WAV2VEC2_XLSR_EN, old_name

CLIPS = 4

SPREAD = 3.0
"""The factor of the last projection. With random weights alone the scores are nearly uniform and always agree."""

# A minute of processor time, which may take half an hour on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def checkpoint(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full-size checkpoint as transformers 4.8 would have saved it."""
    folder = tmp_path_factory.mktemp("full-size")
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((corpora / "data" / "seed" / "ehcalabres" / name).read_bytes())
    config = json.loads((folder / "config.json").read_text())
    with torch.device("meta"):
        network = build_network(WAV2VEC2_XLSR_EN, config)
    tensors = random_tensors(network, spacing=0)
    tensors["classifier.output.weight"] *= SPREAD
    torch.save({old_name(name): tensor for name, tensor in tensors.items()}, folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def waveforms(corpora: Path) -> list[Waveform]:
    """Utterances spread over all corpora, at 16 kHz."""
    return [decoded(path)[:32_000] for path in spoken(corpora, CLIPS)]


@pytest.fixture(scope="module")
def exported(
    checkpoint: Path, waveforms: list[Waveform], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    """The serving package, which met the parity bound."""
    folder = tmp_path_factory.mktemp("full-size") / "package"
    return folder, export(checkpoint, folder, waveforms, precision=Precision.INT8)


def test_the_tensors_have_the_published_names_and_shapes(checkpoint: Path) -> None:
    tensors = torch.load(checkpoint / "pytorch_model.bin", weights_only=True, mmap=True)

    assert {"wav2vec2.encoder.pos_conv_embed.conv.weight_g", "wav2vec2.masked_spec_embed"} <= tensors.keys()
    assert tuple(tensors["classifier.dense.weight"].shape) == (1024, 1024)
    assert tuple(tensors["classifier.output.weight"].shape) == (8, 1024)
    assert sum(tensor.numel() for tensor in tensors.values()) == 316_496_520


def test_the_export_meets_the_parity_bound(exported: tuple[Path, Manifest]) -> None:
    _, manifest = exported

    assert manifest.parity.clips == CLIPS
    # Agreement proves nothing, because these weights give every clip the same emotion.
    assert manifest.parity.mean_score_change < 0.002
    assert manifest.labels == ("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")


def one_of_each_corpus(corpora: Path) -> list[Path]:
    speech = corpora / "data" / "speech"
    found = [
        sorted(path for path in corpus.rglob("*") if path.is_file()) for corpus in speech.iterdir() if corpus.is_dir()
    ]
    return [recordings[len(recordings) // 2] for recordings in found]


def test_the_package_classifies_speech_of_every_corpus_and_length(
    exported: tuple[Path, Manifest], corpora: Path
) -> None:
    package, manifest = exported
    classifier = EmotionClassifier.load(package, threads=1)
    whole = [decoded(path) for path in one_of_each_corpus(corpora)]
    assert len(whole) == 5
    # The network takes six seconds; 400 samples are the shortest clip with a frame.
    long = np.concatenate([*whole, *whole, *whole])
    some = [*whole, *(long[:count] for count in (96_000, 104_000, 400, 399))]

    scored = [classifier.classify(waveform) for waveform in some]

    for scores in scored:
        assert list(scores) == list(manifest.labels)
        assert np.isfinite(list(scores.values())).all()
        assert sum(scores.values()) == pytest.approx(1.0, abs=1e-6)
    # Clips have different scores, except that of 6.5 s, which is cut to 6 s.
    assert len({tuple(scores.values()) for scores in scored}) == len(some) - 1
    assert scored[-4] == scored[-3]


class PublishedHead(nn.Module):
    """A head with the names of the published tensors."""

    def __init__(self, size: int, labels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, size)
        self.output = nn.Linear(size, labels)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.output(torch.tanh(self.dense(hidden))))


class PublishedNetwork(Wav2Vec2PreTrainedModel):  # type: ignore[misc] # transformers has no types here
    """A network of transformers with this head, which `from_pretrained` loads."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.classifier = PublishedHead(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.wav2vec2(input_values, attention_mask=attention_mask)[0]
        frames = self._get_feature_vector_attention_mask(hidden.shape[1], attention_mask)[..., None]
        return cast(torch.Tensor, self.classifier((hidden * frames).sum(dim=1) / frames.sum(dim=1)))


def test_the_reference_agrees_with_transformers_on_a_padded_batch(checkpoint: Path, waveforms: list[Waveform]) -> None:
    reference, some = load_classifier(checkpoint, threads=1), waveforms[:2]
    scores = np.array([list(reference.classify(waveform).values()) for waveform in some])
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(checkpoint)
    network = PublishedNetwork.from_pretrained(checkpoint).eval()
    features = extractor(some, sampling_rate=16_000, padding=True, return_tensors="pt")

    with torch.inference_mode():
        expected = network(features["input_values"], features["attention_mask"]).softmax(-1).numpy()

    assert np.abs(scores - expected).max() < 1e-4
    # A control: scores differ between clips, although these weights give all clips the same emotion.
    assert np.std(expected, axis=0).max() > 1e-3
