"""Every checkpoint in the registry, with its published config files."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from core.audio.waveform import Waveform
from core.checkpoints.architecture import InputMode
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.geometry import geometry_of
from core.checkpoints.loading import load_classifier
from core.checkpoints.registry import CHECKPOINTS, DEFAULT_CHECKPOINT, known_checkpoint
from core.cli.checkpoints import list_checkpoints
from core.export.exporter import export
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from tests.support.published import HEADS, full_size_network, small_published_checkpoint


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_small_checkpoint_with_the_published_files_is_read(
    name: str, corpora: Path, tmp_path: Path, speech_like: Callable[[int, int], Waveform]
) -> None:
    network = small_published_checkpoint(name, corpora, tmp_path)

    read = read_checkpoint(tmp_path)

    assert read.labels == CHECKPOINTS[name].labels
    assert read.network.architecture.output == network.architecture.output
    assert read.network.architecture.is_normalised == HEADS[name][2]
    waveform = torch.from_numpy(geometry_of(network).network_input(speech_like(20_000, 1)))[None]
    with torch.inference_mode():
        np.testing.assert_array_equal(read.network(waveform), network(waveform))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_package_of_a_small_checkpoint_classifies_like_the_checkpoint(
    name: str, corpora: Path, tmp_path: Path, speech_like: Callable[[int, int], Waveform]
) -> None:
    small_published_checkpoint(name, corpora, tmp_path / "checkpoint")
    clips = [speech_like(samples, samples) for samples in (400, 9_000, 40_000, 96_000)]

    export(tmp_path / "checkpoint", tmp_path / "package", clips, precision=Precision.FP32)

    package = EmotionClassifier.load(tmp_path / "package")
    checkpoint = load_classifier(tmp_path / "checkpoint", threads=1)
    assert package.identity.names == CHECKPOINTS[name].labels
    assert package.identity.id == CHECKPOINTS[name].repo_id
    assert (package.identity.dimensions is not None) == CHECKPOINTS[name].has_dimensions
    for clip in clips:
        assert package.classify(clip) == pytest.approx(checkpoint.classify(clip), abs=1e-4)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_listed_size_is_that_of_the_published_network(name: str, corpora: Path) -> None:
    with torch.device("meta"):
        network = full_size_network(name, corpora)

    parameters = sum(tensor.numel() for tensor in network.parameters())
    assert CHECKPOINTS[name].size_mb == pytest.approx(parameters * 4 / 1e6, abs=1)


def test_the_range_of_dimensions_is_that_of_the_training_data(corpora: Path, tmp_path: Path) -> None:
    small_published_checkpoint("wav2vec2-msp-dim", corpora, tmp_path)

    assert read_checkpoint(tmp_path).network.architecture.dimensions_range == (0.0, 1.0)


def test_the_list_fits_a_terminal_and_has_every_value_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    list_checkpoints(as_json=False)
    text = capsys.readouterr().out
    list_checkpoints(as_json=True)
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}

    blocks = {block.split()[0]: block for block in re.split(r"\n(?=\S)", text)}
    assert max(map(len, text.splitlines())) <= 80
    assert entries.keys() == CHECKPOINTS.keys()
    assert [name for name, entry in entries.items() if entry["is_default"]] == [DEFAULT_CHECKPOINT]
    for name, entry in CHECKPOINTS.items():
        block = " ".join(blocks[name].split())
        for value in (entry.repo_id, ", ".join(entry.labels), entry.speech, entry.accuracy or "not known"):
            assert value in block
        assert entries[name]["licence"] == entry.licence
        assert entries[name]["accuracy"] == entry.accuracy
    assert entries["wav2vec2-msp-dim"]["dimensions"] == ["arousal", "dominance", "valence"]
    assert "labels" not in entries["wav2vec2-msp-dim"]


def test_the_default_checkpoint_is_the_only_one_with_a_window() -> None:
    windows = [name for name, entry in CHECKPOINTS.items() if entry.overrides.input_mode is InputMode.PADDED_WINDOW]

    assert windows == ["hubert-base-ch"]


def test_an_entry_is_found_by_its_name_and_by_its_repository() -> None:
    entry = CHECKPOINTS["wav2vec2-msp-dim"]

    assert known_checkpoint("wav2vec2-msp-dim") is entry
    assert known_checkpoint(entry.repo_id) is entry
    assert known_checkpoint("someone/else") is None
