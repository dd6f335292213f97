"""The second architecture is read strictly too: an incomplete head, or transformers' own, is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from core.checkpoints.checkpoint import read_checkpoint
from core.errors import CheckpointUnreadable
from tests.support.networks import WeightFile, old_name, random_network, small_wav2vec2_config, write_checkpoint

Tensors = dict[str, torch.Tensor]

HEAD = ["classifier.dense.weight", "classifier.dense.bias", "classifier.output.weight", "classifier.output.bias"]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return dict(random_network(small_wav2vec2_config()).state_dict())


@pytest.fixture
def write(tmp_path: Path, tensors: Tensors) -> Callable[..., Path]:
    """Return a function that writes a valid checkpoint, with some weights or config values replaced."""

    def written(weights: Tensors | None = None, preprocessor: dict[str, Any] | None = None, **config: Any) -> Path:
        small = small_wav2vec2_config()
        folder = write_checkpoint(random_network(small), {**small, **config}, tmp_path / "checkpoint")
        torch.save(tensors if weights is None else weights, folder / "pytorch_model.bin")
        if preprocessor:
            file = folder / "preprocessor_config.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), **preprocessor}))
        return folder

    return written


@pytest.mark.parametrize("weights", get_args(WeightFile))
def test_every_format_of_the_weights_gives_the_same_network(weights: WeightFile, tmp_path: Path) -> None:
    network = random_network(small_wav2vec2_config(), seed=7)

    read = read_checkpoint(write_checkpoint(network, small_wav2vec2_config(), tmp_path, weights)).network

    assert not read.training
    assert {name: tensor.tolist() for name, tensor in read.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in network.state_dict().items() if "masked_spec_embed" not in name
    }


def test_the_labels_have_this_project_s_names_in_the_order_of_the_config(write: Callable[..., Path]) -> None:
    expected = ("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")

    assert read_checkpoint(write()).labels == expected


@pytest.mark.parametrize("id2label", [None, {}])
def test_a_config_without_labels_is_refused(id2label: Any, write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointUnreadable, match="has no id2label: name the labels in it, or with --labels"):
        read_checkpoint(write(id2label=id2label))


@pytest.mark.parametrize("name", ["LABEL_3", "3"])
def test_labels_without_names_are_refused(name: str, write: Callable[..., Path]) -> None:
    numbered = {**{str(number): f"emotion {number}" for number in range(8)}, "3": name}

    with pytest.raises(CheckpointUnreadable, match=rf"has the label {name} instead of a name: .* --labels"):
        read_checkpoint(write(id2label=numbered))


def test_capital_letters_of_labels_do_not_matter(write: Callable[..., Path]) -> None:
    published = ["SAD", "Angry", "DISGUST", "Fear", "HAPPY", "Neutral", "Contempt", "Other"]

    labels = read_checkpoint(write(id2label=dict(enumerate(published)))).labels

    assert labels == ("sad", "anger", "disgust", "fear", "happy", "neutral", "Contempt", "other")


@pytest.mark.parametrize("count", [7, 9])
def test_a_label_too_few_or_too_many_is_refused(count: int, write: Callable[..., Path]) -> None:
    labels = {str(number): f"emotion {number}" for number in range(count)}

    with pytest.raises(CheckpointUnreadable, match=rf"classifier\.output\.weight with 8 rows for {count} labels"):
        read_checkpoint(write(id2label=labels))


def test_labels_whose_names_would_coincide_keep_their_own(write: Callable[..., Path]) -> None:
    published = ["joy", "happy", "disgust", "fearful", "calm", "neutral", "sad", "surprised"]

    labels = read_checkpoint(write(id2label=dict(enumerate(published)))).labels

    assert labels == tuple(published)


@pytest.mark.parametrize(
    "id2label", [{"0": "a", "2": "b"}, {"0": "a", "1": "a"}, {str(number): f"label-{number}" for number in range(1, 9)}]
)
def test_labels_with_a_gap_or_a_repetition_are_refused(id2label: dict[str, str], write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointUnreadable, match="a missing number or a repeated label"):
        read_checkpoint(write(id2label=id2label))


@pytest.mark.parametrize("name", HEAD)
def test_a_head_without_a_tensor_is_refused_by_its_name(
    name: str, write: Callable[..., Path], tensors: Tensors
) -> None:
    folder = write({other: tensor for other, tensor in tensors.items() if other != name})

    with pytest.raises(CheckpointUnreadable, match=rf"missing: {name}; unexpected: none"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", HEAD)
def test_a_head_with_a_tensor_of_a_wrong_shape_is_refused_by_its_name(
    name: str, write: Callable[..., Path], tensors: Tensors
) -> None:
    with pytest.raises(CheckpointUnreadable, match=rf"{name} of shape \(.*\) instead of \("):
        read_checkpoint(write({**tensors, name: tensors[name][:-1]}))


def test_a_head_with_tensors_of_two_programs_is_refused(write: Callable[..., Path], tensors: Tensors) -> None:
    mixed = dict(tensors)
    mixed["classifier.out_proj.bias"] = mixed.pop("classifier.output.bias")

    with pytest.raises(
        CheckpointUnreadable, match=r"missing: classifier\.out_proj\.weight; unexpected: classifier\.output\.weight"
    ):
        read_checkpoint(write(mixed))


def test_tensors_left_over_from_training_are_ignored_by_name(write: Callable[..., Path], tensors: Tensors) -> None:
    left = {
        "lm_head.weight": torch.zeros(33, 32),
        "quantizer.codevectors": torch.zeros(1, 640, 128),
        "project_q.bias": torch.zeros(256),
    }

    checkpoint = read_checkpoint(write({**tensors, **left}))

    assert checkpoint.ignored.keys() - {"wav2vec2.masked_spec_embed"} == left.keys()
    assert all("in training" in why for why in checkpoint.ignored.values())


def test_any_other_unused_tensor_is_refused_by_its_name(write: Callable[..., Path], tensors: Tensors) -> None:
    surplus = {"wav2vec2.encoder.layers.2.layer_norm.bias": torch.zeros(32), "adapter.weight": torch.zeros(3)}

    with pytest.raises(CheckpointUnreadable, match=r"unexpected: adapter\.weight, wav2vec2\.encoder\.layers\.2\."):
        read_checkpoint(write({**tensors, **surplus}))


def test_specaugment_s_vector_may_be_missing(write: Callable[..., Path], tensors: Tensors) -> None:
    name = "wav2vec2.masked_spec_embed"

    assert name in tensors
    assert read_checkpoint(write()).ignored.keys() == {name}
    assert read_checkpoint(write({other: tensor for other, tensor in tensors.items() if other != name})).ignored == {}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"feat_extract_norm": "batch"}, "feat_extract_norm 'batch'; only 'group' and 'layer' are supported"),
        ({"feat_extract_activation": "relu"}, "feat_extract_activation 'relu'; only 'gelu' is supported"),
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm True"),
        ({"tie_last_hidden_states": False}, "tie_last_hidden_states False"),
        ({"problem_type": "ranking"}, "problem type 'ranking'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"add_adapter": True}, "add_adapter"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim"),
        ({"use_weighted_layer_sum": True}, "missing: layer_weights; unexpected: none"),
        ({"pooling_mode": "max"}, "pooling_mode 'max'"),
        ({"num_class": 6}, "num_class 6"),
        ({"model_type": "ser"}, "model type 'ser'; only 'hubert', 'wav2vec2' and 'wavlm' are supported"),
        ({"model_type": None}, "model type None"),
    ],
)
def test_another_network_is_refused_with_the_difference(
    changed: dict[str, Any], named: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointUnreadable, match=named):
        read_checkpoint(write(**changed))


@pytest.mark.parametrize(
    ("name", "value"),
    [("sampling_rate", 8_000), ("feature_size", 80), ("feature_extractor_type", "WhisperFeatureExtractor")],
)
def test_another_preprocessing_is_refused_with_the_difference(
    name: str, value: Any, write: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointUnreadable, match=rf"preprocessor_config\.json has {name}"):
        read_checkpoint(write(preprocessor={name: value}))


def test_the_old_names_are_those_of_the_published_checkpoint(tensors: Tensors) -> None:
    assert {old_name(name) for name in tensors if old_name(name) != name} == {
        "wav2vec2.encoder.pos_conv_embed.conv.weight_g",
        "wav2vec2.encoder.pos_conv_embed.conv.weight_v",
    }
