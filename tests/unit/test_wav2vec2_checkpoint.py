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
        name: tensor.tolist() for name, tensor in network.state_dict().items()
    }


def test_the_labels_have_this_project_s_names_in_the_order_of_the_config(write: Callable[..., Path]) -> None:
    expected = ("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")

    assert read_checkpoint(write()).labels == expected
    assert read_checkpoint(write(id2label=None)).labels == expected


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


def test_the_head_of_transformers_own_class_is_refused(write: Callable[..., Path], tensors: Tensors) -> None:
    """`Wav2Vec2ForSequenceClassification` loads the published file with a random head, and saves that head."""
    encoder = {name: tensor for name, tensor in tensors.items() if name.startswith("wav2vec2.")}
    head = {"projector.weight": torch.zeros(256, 32), "projector.bias": torch.zeros(256)}
    head |= {"classifier.weight": torch.zeros(8, 256), "classifier.bias": torch.zeros(8)}

    with pytest.raises(CheckpointUnreadable) as refusal:
        read_checkpoint(write({**encoder, **head}))

    for name in ("classifier.dense.weight", "classifier.output.bias", "projector.weight", "classifier.weight"):
        assert name in str(refusal.value)


def test_the_head_of_the_first_architecture_is_refused(write: Callable[..., Path], tensors: Tensors) -> None:
    renamed = {name.replace("classifier.output", "classifier.out_proj"): tensor for name, tensor in tensors.items()}

    with pytest.raises(CheckpointUnreadable, match=r"missing: classifier\.output\.bias.*unexpected: .*out_proj"):
        read_checkpoint(write(renamed))


def test_tensors_left_over_from_training_are_ignored_by_name(write: Callable[..., Path], tensors: Tensors) -> None:
    left = {
        "lm_head.weight": torch.zeros(33, 32),
        "quantizer.codevectors": torch.zeros(1, 640, 128),
        "project_q.bias": torch.zeros(256),
    }

    checkpoint = read_checkpoint(write({**tensors, **left}))

    assert checkpoint.ignored.keys() == left.keys()
    assert all("in training" in why for why in checkpoint.ignored.values())
    assert read_checkpoint(write()).ignored == {}


def test_any_other_unused_tensor_is_refused_by_its_name(write: Callable[..., Path], tensors: Tensors) -> None:
    surplus = {"wav2vec2.encoder.layers.2.layer_norm.bias": torch.zeros(32), "adapter.weight": torch.zeros(3)}

    with pytest.raises(CheckpointUnreadable, match=r"unexpected: adapter\.weight, wav2vec2\.encoder\.layers\.2\."):
        read_checkpoint(write({**tensors, **surplus}))


def test_the_network_has_specaugment_s_vector_only_if_its_config_turns_it_on(
    write: Callable[..., Path], tensors: Tensors
) -> None:
    name = "wav2vec2.masked_spec_embed"
    without = {other: tensor for other, tensor in tensors.items() if other != name}

    assert name in tensors
    with pytest.raises(CheckpointUnreadable, match=rf"missing: {name}"):
        read_checkpoint(write(without))
    assert read_checkpoint(write(without, mask_time_prob=0.0)).ignored == {}
    assert read_checkpoint(write(mask_time_prob=0.0)).ignored.keys() == {name}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"feat_extract_norm": "group"}, "feat_extract_norm 'group'; only 'layer'"),
        ({"do_stable_layer_norm": False}, "do_stable_layer_norm"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"add_adapter": True}, "add_adapter"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim"),
        ({"use_weighted_layer_sum": True}, "use_weighted_layer_sum"),
        ({"pooling_mode": "max"}, "pooling_mode 'max'"),
        ({"num_class": 6}, "num_class 6"),
        ({"model_type": "wavlm"}, "model type 'wavlm'; only 'hubert' and 'wav2vec2' are supported"),
    ],
)
def test_another_network_is_refused_with_the_difference(
    changed: dict[str, Any], named: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointUnreadable, match=named):
        read_checkpoint(write(**changed))


@pytest.mark.parametrize(("name", "value"), [("return_attention_mask", False), ("do_normalize", False)])
def test_another_preprocessing_is_refused_with_the_difference(
    name: str, value: bool, write: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointUnreadable, match=rf"preprocessor_config\.json has {name}"):
        read_checkpoint(write(preprocessor={name: value}))


def test_the_old_names_are_those_of_the_published_checkpoint(tensors: Tensors) -> None:
    assert {old_name(name) for name in tensors if old_name(name) != name} == {
        "wav2vec2.encoder.pos_conv_embed.conv.weight_g",
        "wav2vec2.encoder.pos_conv_embed.conv.weight_v",
    }
