"""The registry of published checkpoints, and a third entry as an example."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from core.audio.waveform import Waveform
from core.checkpoints import registry
from core.checkpoints.architecture import MEAN, STOCK, Architecture, Dense, Encoder, InputMode
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.files import read_json
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import build_network
from core.checkpoints.registry import (
    CHECKPOINTS,
    PublishedCheckpoint,
    reason_to_ignore,
    required_config,
    required_preprocessor,
)
from core.emotions import COLOURS, SYNONYMS, letter_of
from core.errors import CheckpointUnreadable
from core.export.exporter import export
from core.export.graph import Precision, build_graph
from core.model.classifier import EmotionClassifier
from core.onnx_session import onnx_session
from tests.support.networks import random_network, randomised, small_config, small_wav2vec2_config, write_checkpoint

SEEDS = {"hubert-base-ch": "data/seed", "wav2vec2-xlsr-en": "data/seed/ehcalabres"}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_published_config_files_match_the_registry(name: str, corpora: Path) -> None:
    architecture, folder = CHECKPOINTS[name].architecture, corpora / SEEDS[name]
    config, preprocessor = (read_json(folder / file) for file in ("config.json", "preprocessor_config.json"))

    assert config["model_type"] == architecture.encoder
    assert required_config(architecture).items() <= {**registry.CONFIG_BY_DEFAULT, **config}.items()
    assert required_preprocessor(architecture).items() <= preprocessor.items()


def test_the_labels_of_the_second_checkpoint_have_this_project_s_names(corpora: Path) -> None:
    published = read_json(corpora / SEEDS["wav2vec2-xlsr-en"] / "config.json")["id2label"]

    labels = [SYNONYMS.get(published[str(number)], published[str(number)]) for number in range(8)]

    assert labels == ["anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
    assert tuple(labels) == CHECKPOINTS["wav2vec2-xlsr-en"].architecture.labels


def test_every_emotion_of_every_checkpoint_has_a_distinct_letter_and_colour() -> None:
    emotions = {label for entry in CHECKPOINTS.values() for label in entry.architecture.labels}

    assert emotions == COLOURS.keys()
    assert len({letter_of(emotion) for emotion in emotions}) == len(emotions)
    assert len(set(COLOURS.values())) == len(emotions)


def test_no_two_repositories_are_the_same() -> None:
    assert len({entry.repo_id for entry in CHECKPOINTS.values()}) == len(CHECKPOINTS)


def test_every_ignored_tensor_has_a_reason() -> None:
    assert "speech recogniser" in (reason_to_ignore("lm_head.weight") or "")
    assert reason_to_ignore("projector.weight") is None
    assert reason_to_ignore("wav2vec2.encoder.layers.24.layer_norm.weight") is None


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> PublishedCheckpoint:
    """A third checkpoint as transformers trains it: five labels, and a projector without an activation."""
    entry = PublishedCheckpoint(
        repo_id="someone/third",
        licence="MIT",
        speech="nothing",
        architecture=Architecture(
            encoder=Encoder.WAV2VEC2,
            head=STOCK,
            labels=("anger", "fear", "happy", "neutral", "sad"),
        ),
    )
    monkeypatch.setattr(registry, "CHECKPOINTS", {**CHECKPOINTS, "third": entry})
    return entry


def test_a_third_checkpoint_needs_one_entry_and_one_head(
    third: PublishedCheckpoint, tmp_path: Path, speech_like: Callable[[int, int], Waveform]
) -> None:
    config = small_wav2vec2_config()
    del config["id2label"], config["label2id"]
    encoder = random_network(small_wav2vec2_config(), seed=5)
    folder = write_checkpoint(encoder, config, tmp_path / "checkpoint")
    tensors = {name: tensor for name, tensor in encoder.state_dict().items() if name.startswith("wav2vec2.")}
    tensors |= {"projector.weight": torch.randn(32, 32), "projector.bias": torch.randn(32)}
    tensors |= {"classifier.weight": torch.randn(5, 32), "classifier.bias": torch.randn(5)}
    torch.save(tensors, folder / "pytorch_model.bin")
    clips = [speech_like(8_000, 1), speech_like(20_000, 2)]

    manifest = export(folder, tmp_path / "package", clips, precision=Precision.FP32)

    assert manifest.labels == third.architecture.labels
    scores = EmotionClassifier.load(tmp_path / "package").classify(clips[0])
    with torch.inference_mode():
        network = encoder.base_model(torch.from_numpy((clips[0] - clips[0].mean()) / clips[0].std())[None])
        pooled = network.last_hidden_state.mean(dim=1)
        projected = torch.nn.functional.linear(pooled, tensors["projector.weight"], tensors["projector.bias"])
        expected = torch.nn.functional.linear(projected, tensors["classifier.weight"], tensors["classifier.bias"])
    np.testing.assert_allclose(list(scores.values()), expected.softmax(-1)[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("input_mode", InputMode)
@pytest.mark.parametrize("encoder", [Encoder.HUBERT, Encoder.WAV2VEC2])
def test_either_encoder_can_have_either_input_mode(
    encoder: Encoder, input_mode: InputMode, speech_like: Callable[[int, int], Waveform]
) -> None:
    """An entry may combine any encoder with any input mode."""
    config = small_config() if input_mode is InputMode.PADDED_WINDOW else small_wav2vec2_config()
    architecture = Architecture(
        encoder=encoder,
        input_mode=input_mode,
        head=(Dense("score.inner"), MEAN, Dense("score.outer")),
        labels=("yes", "no"),
    )
    network = randomised(build_network(architecture, config))
    geometry = geometry_of(network)
    session = onnx_session(build_graph(network, Precision.FP32).SerializeToString(), threads=1)

    for samples in (300, 20_000, 97_000):
        waveform = speech_like(samples, samples)
        with torch.inference_mode():
            expected = network(torch.from_numpy(geometry.network_input(waveform))[None])[0].numpy()
        served = session.run(["logits"], geometry.graph_inputs(waveform))[0][0]
        np.testing.assert_allclose(served, expected, atol=1e-4)


def test_the_head_is_chosen_by_the_tensors_in_the_file(third: PublishedCheckpoint, tmp_path: Path) -> None:
    second = write_checkpoint(random_network(small_wav2vec2_config()), small_wav2vec2_config(), tmp_path)

    assert read_checkpoint(second).network.architecture == CHECKPOINTS["wav2vec2-xlsr-en"].architecture


def test_a_checkpoint_with_a_known_name_is_read_as_that_one_only(third: PublishedCheckpoint, tmp_path: Path) -> None:
    folder = write_checkpoint(random_network(small_wav2vec2_config()), small_wav2vec2_config(), tmp_path)
    (folder / "source.json").write_text('{"id": "someone/third", "revision": "abc"}')

    with pytest.raises(CheckpointUnreadable, match=r"missing: classifier\.bias.*unexpected: classifier\.dense"):
        read_checkpoint(folder)
