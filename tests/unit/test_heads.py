"""The encoder and the head of a checkpoint follow from its tensors; an error names the tensors that do not fit."""

import pytest

from core.checkpoints.architecture import (
    HEADS,
    LAYER_WEIGHTS,
    STOCK,
    TRANSFORMERS_ENCODERS,
    Encoder,
    Head,
    head_tensors,
)
from core.checkpoints.heads import check_label_count, find_encoder, find_head, inner_size, reason_to_ignore
from core.errors import CheckpointUnreadable

LEFTOVERS = ["lm_head.weight", "lm_head.bias", "quantizer.codevectors", "project_q.bias", "project_hid.weight"]


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("others", [[], [LAYER_WEIGHTS], LEFTOVERS])
def test_a_head_is_found_by_its_tensors(head: Head, others: list[str]) -> None:
    assert find_head("model.safetensors", [*head_tensors(head), *others]) is head


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_with_a_tensor_too_few_or_too_many_is_still_the_nearest(head: Head) -> None:
    tensors = head_tensors(head)

    assert find_head("model.safetensors", [*tensors, "loss.weight"]) is head
    assert find_head("model.safetensors", tensors[1:]) is head


@pytest.mark.parametrize("other", ["soxan", "ehcalabres", "nkululeko"])
def test_two_heads_are_refused_by_their_layers(other: str) -> None:
    tensors = {*head_tensors(STOCK), *head_tensors(HEADS[other])}

    with pytest.raises(CheckpointUnreadable) as refusal:
        find_head("model.safetensors", tensors)

    assert str(refusal.value).startswith(
        "model.safetensors has 2 heads: remove the tensors of projector with classifier or "
    )


def test_an_unknown_head_is_refused_with_its_tensors_and_the_supported_layers() -> None:
    with pytest.raises(CheckpointUnreadable, match=r"unknown head with cat\.weight; .* projector with .* head\.dense"):
        find_head("model.safetensors", ["cat.weight"])


def test_an_encoder_without_a_head_is_refused() -> None:
    with pytest.raises(CheckpointUnreadable, match="none of a head: fine-tune"):
        find_head("model.safetensors", LEFTOVERS)


@pytest.mark.parametrize("model_type", TRANSFORMERS_ENCODERS)
def test_the_prefix_of_the_tensors_is_the_encoder(model_type: Encoder) -> None:
    assert find_encoder("model.safetensors", [f"{model_type}.encoder.layer_norm.bias"], model_type) is model_type


@pytest.mark.parametrize("model_type", TRANSFORMERS_ENCODERS)
def test_a_network_with_wav2vec_2_s_prefix_is_wav2vec_2(model_type: Encoder) -> None:
    """nkululeko computes wav2vec 2.0 from the weights and the config of any base network."""
    assert find_encoder("model.safetensors", ["wav2vec2.encoder.layer_norm.bias"], model_type) is Encoder.WAV2VEC2


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (["wavlm.a"], r"begin with wavlm\., but config\.json has the model type 'hubert'"),
        (["hubert.a", "wav2vec2.a"], r"begin with hubert\. and wav2vec2\."),
        (
            ["encoder.layer_norm.bias", "classifier.bias"],
            r"no tensor that begins with hubert\.: save the whole",
        ),
    ],
)
def test_another_prefix_is_refused(tensors: list[str], message: str) -> None:
    with pytest.raises(CheckpointUnreadable, match=message):
        find_encoder("model.safetensors", tensors, Encoder.HUBERT)


def test_only_transformers_head_chooses_its_inner_size() -> None:
    shapes = {"projector.weight": (24, 32), "projector.bias": (24,), "classifier.weight": (5, 24)}

    assert inner_size(STOCK, shapes) == 24
    assert inner_size(STOCK, {**shapes, "projector.weight": (23, 32)}) == 24
    assert inner_size(STOCK, {"projector.weight": ()}) is None
    assert all(inner_size(head, shapes) is None for head in HEADS.values() if head != STOCK)


def test_a_label_for_each_row_of_the_last_layer() -> None:
    shapes = {"classifier.weight": (2, 24), "classifier.bias": (2,)}

    check_label_count("model.safetensors", STOCK, shapes, ("yes", "no"))
    with pytest.raises(CheckpointUnreadable, match=r"classifier\.weight with 2 rows for 1 labels \(yes\)"):
        check_label_count("model.safetensors", STOCK, shapes, ("yes",))


def test_every_ignored_tensor_has_a_reason() -> None:
    assert all(reason_to_ignore(name) for name in LEFTOVERS)
    assert reason_to_ignore("wavlm.masked_spec_embed")
    assert reason_to_ignore("projector.weight") is None
    assert reason_to_ignore("wav2vec2.encoder.layers.24.layer_norm.weight") is None
