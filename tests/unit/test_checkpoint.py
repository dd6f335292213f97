"""A checkpoint is read exactly, or refused with the name of the file or tensor; no code in it runs."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.checkpoints.checkpoint import read_checkpoint
from core.errors import CheckpointUnreadable
from tests.support.networks import WeightFile, old_name, random_network, small_config, write_checkpoint

Tensors = dict[str, torch.Tensor]

SOME_TENSORS = [
    "classifier.out_proj.weight",
    "hubert.encoder.layers.1.attention.k_proj.bias",
    "hubert.encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    "hubert.feature_extractor.conv_layers.3.conv.weight",
    "hubert.feature_projection.layer_norm.bias",
]


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return dict(random_network(small_config()).state_dict())


@pytest.fixture
def write(tmp_path: Path, tensors: Tensors) -> Callable[..., Path]:
    """Return a function that writes a valid checkpoint, with some weights or config values replaced."""

    def written(weights: Any = None, preprocessor: dict[str, Any] | None = None, **config: Any) -> Path:
        folder = write_checkpoint(random_network(small_config()), {**small_config(), **config}, tmp_path / "checkpoint")
        torch.save(tensors if weights is None else weights, folder / "pytorch_model.bin")
        if preprocessor:
            file = folder / "preprocessor_config.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), **preprocessor}))
        return folder

    return written


@pytest.mark.parametrize("weights", get_args(WeightFile))
def test_every_format_of_the_weights_gives_the_same_network(weights: WeightFile, tmp_path: Path) -> None:
    network = random_network(small_config(), seed=7)
    folder = write_checkpoint(network, small_config(), tmp_path, weights)

    read = read_checkpoint(folder).network

    assert not read.training
    assert {name: tensor.tolist() for name, tensor in read.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in network.state_dict().items() if "masked_spec_embed" not in name
    }
    window = torch.linspace(-1, 1, 96_000)[None]
    with torch.inference_mode():
        torch.testing.assert_close(read(window), network(window), rtol=0, atol=1e-6)


def test_safetensors_are_preferred_because_they_contain_no_code(tmp_path: Path) -> None:
    write_checkpoint(random_network(small_config(), seed=1), small_config(), tmp_path, "old names")
    network = random_network(small_config(), seed=2)
    write_checkpoint(network, small_config(), tmp_path, "safetensors")

    read = read_checkpoint(tmp_path)

    assert torch.equal(*(found.get_parameter("classifier.dense.bias") for found in (read.network, network)))


def test_half_precision_is_read_as_float32(write: Callable[..., Path], tensors: Tensors) -> None:
    network = read_checkpoint(write({name: tensor.half() for name, tensor in tensors.items()})).network

    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("name", SOME_TENSORS)
def test_a_missing_tensor_is_refused_by_name(name: str, write: Callable[..., Path], tensors: Tensors) -> None:
    folder = write({other: tensor for other, tensor in tensors.items() if other != name})

    with pytest.raises(CheckpointUnreadable, match=rf"missing: {name}; unexpected: none") as refusal:
        read_checkpoint(folder)
    assert "pytorch_model.bin" in str(refusal.value)


@pytest.mark.parametrize("name", SOME_TENSORS)
def test_a_renamed_tensor_is_refused_by_both_names(name: str, write: Callable[..., Path], tensors: Tensors) -> None:
    renamed = {("head." + other if other == name else other): tensor for other, tensor in tensors.items()}

    with pytest.raises(CheckpointUnreadable, match=rf"missing: {name}; unexpected: head\.{name}\."):
        read_checkpoint(write(renamed))


@pytest.mark.parametrize("name", SOME_TENSORS)
def test_a_tensor_of_a_wrong_shape_is_refused_by_name(name: str, write: Callable[..., Path], tensors: Tensors) -> None:
    wrong_shape = {**tensors, name: tensors[name][..., :-1]}
    if name.endswith("original0"):
        wrong_shape[name] = tensors[name].flatten()  # broadcasting would accept this one

    with pytest.raises(CheckpointUnreadable, match=rf"{name} of shape \(.*\) instead of \("):
        read_checkpoint(write(wrong_shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_refused_by_name(
    value: float, write: Callable[..., Path], tensors: Tensors
) -> None:
    name = SOME_TENSORS[0]
    spoilt = tensors[name].clone()
    spoilt[0, 0] = value

    with pytest.raises(CheckpointUnreadable, match=rf"{name} that are not finite"):
        read_checkpoint(write({**tensors, name: spoilt}))


def test_safetensors_are_read_strictly_too(tmp_path: Path) -> None:
    folder = write_checkpoint(random_network(small_config()), small_config(), tmp_path, "safetensors")
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.dense.bias"]
    save_file(tensors, folder / "model.safetensors")

    with pytest.raises(CheckpointUnreadable, match=r"model\.safetensors .* missing: classifier\.dense\.bias"):
        read_checkpoint(folder)


def test_a_second_head_is_refused_by_its_layers(write: Callable[..., Path], tensors: Tensors) -> None:
    """The class of config.json may have added its own head, with random values."""
    head = {"projector.weight": torch.zeros(256, 32), "projector.bias": torch.zeros(256)}
    head |= {"classifier.weight": torch.zeros(6, 256), "classifier.bias": torch.zeros(6)}

    with pytest.raises(
        CheckpointUnreadable,
        match=r"2 heads: .* projector with classifier or classifier\.dense with classifier\.out_proj",
    ):
        read_checkpoint(write({**tensors, **head}))


class _Trap:
    """An object whose pickle runs code when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._marker}",)


@pytest.mark.parametrize("form", ["torch.save", "a bare pickle"])
def test_a_pickle_with_code_is_refused_and_its_code_does_not_run(
    form: str, write: Callable[..., Path], tensors: Tensors, tmp_path: Path
) -> None:
    marker = tmp_path / "the-code-was-run"
    carrying = {**tensors, "classifier.dense.bias": _Trap(marker)}
    folder = write(carrying)
    if form == "a bare pickle":
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"classifier.dense.bias": _Trap(marker)}))

    with pytest.raises(CheckpointUnreadable, match=r"pytorch_model\.bin"):
        read_checkpoint(folder)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04" + bytes(100)])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_damaged_weight_file_is_refused_by_name(name: str, content: bytes, write: Callable[..., Path]) -> None:
    folder = write()
    (folder / name).write_bytes(content)

    with pytest.raises(CheckpointUnreadable, match=name.replace(".", r"\.")):
        read_checkpoint(folder)


def test_a_list_instead_of_tensors_is_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointUnreadable, match="not a dictionary of tensors"):
        read_checkpoint(write([torch.zeros(3)]))


def test_a_config_without_labels_has_the_published_order(write: Callable[..., Path]) -> None:
    assert read_checkpoint(write()).labels == ("anger", "fear", "happy", "neutral", "sad", "surprise")


def test_labels_in_the_config_are_ordered_by_number(write: Callable[..., Path], tensors: Tensors) -> None:
    twelve = {str(index): f"label-{index}" for index in reversed(range(12))}
    wider = {
        **tensors,
        "classifier.out_proj.weight": torch.zeros(12, 32),
        "classifier.out_proj.bias": torch.zeros(12),
    }

    checkpoint = read_checkpoint(write(wider, id2label=twelve, num_class=12))

    assert checkpoint.labels == tuple(f"label-{index}" for index in range(12))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model_type": "wav2vec2"}, r"pytorch_model\.bin has tensors that begin with hubert\., but config\.json"),
        ({"feat_extract_norm": "layer"}, "feat_extract_norm"),
        ({"do_stable_layer_norm": True}, "do_stable_layer_norm"),
        ({"conv_bias": True}, "conv_bias"),
        ({"num_class": 7}, "num_class 7"),
        ({"id2label": {"0": "yes", "1": "no"}}, "num_class 6"),
    ],
)
def test_another_network_is_refused_with_the_difference(
    changed: dict[str, Any], named: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointUnreadable, match=named):
        read_checkpoint(write(**changed))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("do_normalize", False),
        ("padding_side", "left"),
        ("padding_value", 1.0),
        ("return_attention_mask", True),
        ("sampling_rate", 8_000),
    ],
)
def test_another_preprocessing_is_refused_with_the_difference(
    name: str, value: Any, write: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointUnreadable, match=rf"preprocessor_config\.json has {name}"):
        read_checkpoint(write(preprocessor={name: value}))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "pytorch_model.bin"])
def test_a_missing_file_is_named(name: str, write: Callable[..., Path]) -> None:
    folder = write()
    (folder / name).unlink()

    with pytest.raises(CheckpointUnreadable, match=name.replace(".", r"\.")):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"', "\udcff"])
def test_a_config_that_is_not_a_json_object_is_refused_by_name(content: str, write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "config.json").write_text(content, encoding="utf-8", errors="surrogateescape")

    with pytest.raises(CheckpointUnreadable, match=r"config\.json"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"id2label": {"zero": "a", "one": "b", "2": "c", "3": "d", "4": "e", "5": "f"}},
        {"id2label": ["a", "b", "c", "d", "e", "f"]},
        {"hidden_size": "large"},
        {"conv_kernel": [10, 3]},
        {"num_attention_heads": 5},
    ],
)
def test_a_config_with_impossible_sizes_raises_checkpoint_unreadable(
    nonsense: dict[str, Any], write: Callable[..., Path]
) -> None:
    with pytest.raises(CheckpointUnreadable):
        read_checkpoint(write(**nonsense))


def test_a_checkpoint_has_its_identity(write: Callable[..., Path]) -> None:
    folder = write(demo=True)
    (folder / "source.json").write_text('{"id": "someone/model", "revision": "abc"}')

    checkpoint = read_checkpoint(folder)

    assert (checkpoint.model_id, checkpoint.revision, checkpoint.demo) == ("someone/model", "abc", True)


def test_a_checkpoint_without_a_source_is_identified_by_its_weights(
    write: Callable[..., Path], tensors: Tensors
) -> None:
    first = read_checkpoint(write())
    second = read_checkpoint(write({**tensors, "classifier.dense.bias": torch.zeros(32)}))

    assert first.revision.startswith("sha256:")
    assert first.revision != second.revision
    assert first.model_id == "tests/small"


def test_the_old_names_are_those_of_the_published_checkpoint(tensors: Tensors) -> None:
    assert {old_name(name) for name in tensors if old_name(name) != name} == {
        "hubert.encoder.pos_conv_embed.conv.weight_g",
        "hubert.encoder.pos_conv_embed.conv.weight_v",
    }


@pytest.mark.parametrize("message", [(), ("",), (" \n",)])
def test_an_error_without_a_message_is_reported_by_its_type(
    message: tuple[str, ...], write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError(*message)

    monkeypatch.setattr("core.checkpoints.checkpoint.build_network", fail)

    with pytest.raises(CheckpointUnreadable, match=r"valid network \(AssertionError: no reason given\)\.$"):
        read_checkpoint(write())
