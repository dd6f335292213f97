"""The registry of published checkpoints, and the networks that an architecture describes."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from core.audio.waveform import Waveform
from core.checkpoints.architecture import MEAN, Architecture, Dense, Encoder, InputMode, Overrides
from core.checkpoints.config import read_labels, standard_names
from core.checkpoints.files import read_json
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import build_network
from core.checkpoints.registry import CHECKPOINTS, overrides_for
from core.export.graph import Precision, build_graph
from core.onnx_session import onnx_session
from tests.support.networks import randomised, small_config, small_wav2vec2_config


def test_the_labels_of_the_second_checkpoint_have_this_project_s_names(corpora: Path) -> None:
    folder = corpora / "data/seed/ehcalabres"

    published = read_labels(folder, read_json(folder / "config.json"))

    assert published == ("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")
    assert standard_names(published) == CHECKPOINTS["wav2vec2-xlsr-en"].labels


def test_pinned_revisions_are_whole_commits() -> None:
    revisions = [entry.revision for entry in CHECKPOINTS.values() if entry.revision]

    assert revisions
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in revisions)


def test_no_two_repositories_are_the_same() -> None:
    assert len({entry.repo_id for entry in CHECKPOINTS.values()}) == len(CHECKPOINTS)


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


def test_overrides_apply_to_the_repository_that_a_folder_was_fetched_from() -> None:
    fetched = overrides_for("xmj2002/hubert-base-ch-speech-emotion-recognition", {})

    assert (fetched.input_mode, fetched.labels) == (InputMode.PADDED_WINDOW, CHECKPOINTS["hubert-base-ch"].labels)
    assert overrides_for("someone/else", {"model_type": "hubert"}) == Overrides()


def test_the_files_of_the_first_checkpoint_s_program_are_recognised_without_a_record() -> None:
    config = {"model_type": "hubert", "num_class": 2}

    assert overrides_for(None, config).input_mode is InputMode.PADDED_WINDOW
    assert overrides_for(None, {**config, "id2label": {"0": "yes", "1": "no"}}).labels is None
    assert overrides_for(None, {**config, "model_type": "wav2vec2"}) == Overrides()
