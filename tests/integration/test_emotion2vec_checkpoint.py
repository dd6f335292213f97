"""Reading and fetching emotion2vec+ in the layout of the Hugging Face Hub and of ModelScope."""

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from core.audio.waveform import Waveform
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.funasr import read_config, read_labels
from core.checkpoints.hub import pull
from core.checkpoints.loading import load_classifier
from core.checkpoints.network import SpeechNetwork
from core.checkpoints.registry import CHECKPOINTS
from core.cli.app import main
from core.errors import CheckpointUnreadable
from core.model.classifier import EmotionClassifier
from tests.support.emotion2vec import (
    LABELS,
    NAMES,
    PUBLISHED,
    SMALL,
    TOKENS,
    FunAsrNetwork,
    document,
    random_emotion2vec,
    write_folder,
)
from tests.support.hub_server import Hub, serving
from tests.support.networks import random_network, small_config, write_checkpoint

SpeechLike = Callable[[int, int], Waveform]
Write = Callable[..., Path]

COMMIT = "3" * 40


@pytest.fixture(scope="module")
def network() -> SpeechNetwork:
    return random_emotion2vec(SMALL)


@pytest.fixture
def write(network: SpeechNetwork, tmp_path: Path) -> Write:
    """A function that writes a checkpoint with changed keys of `model_conf`, and of `modalities.audio` in it."""

    def written(
        changed: Mapping[str, Any] | None = None, audio: Mapping[str, Any] | None = None, **options: Any
    ) -> Path:
        content = document(SMALL)
        content["model_conf"] |= changed or {}
        content["model_conf"]["modalities"]["audio"] |= audio or {}
        return write_folder(network, content, tmp_path / "checkpoint", **options)

    return written


def test_the_published_layout_is_read(network: SpeechNetwork, write: Write) -> None:
    read = read_checkpoint(write())

    assert read.labels == LABELS
    assert read.network.config == SMALL
    assert read.network.architecture.is_normalised
    assert (read.model_id, read.ignored, read.demo) == ("checkpoint", {}, False)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(read.network.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_files_have_the_sizes_and_labels_of_the_registry(name: str) -> None:
    config = read_config(PUBLISHED / name)

    is_large = name.endswith("large")
    assert config.is_normalised
    assert (config.sizes.hidden_size, config.sizes.num_attention_heads) == ((1024, 16) if is_large else (768, 12))
    assert (config.sizes.num_prenet_layers, config.sizes.num_hidden_layers) == (4, 8)
    assert config.sizes.layer_norm_eps == 1e-5  # written as 1e-05, which is text in YAML 1.1
    assert read_labels(PUBLISHED / name) == (
        *("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "<unk>"),
    )


@pytest.mark.parametrize("form", ["bare", "without prefix", "state_dict", "nested twice", "old format", "decoder"])
def test_every_form_of_the_weights_gives_the_same_network(
    form: str, network: SpeechNetwork, write: Write, tmp_path: Path
) -> None:
    tensors = dict(network.state_dict())
    bare = {name.removeprefix("d2v_model."): tensor for name, tensor in tensors.items()}
    decoder = {"d2v_model.modality_encoders.AUDIO.decoder.proj.bias": torch.zeros(3)}
    folder = write(
        weights={
            "bare": tensors,
            "without prefix": {"model": bare},
            "state_dict": {"state_dict": tensors, "epoch": 3},
            "nested twice": {"model_state_dict": {"model": tensors}},
            "old format": tensors,
            "decoder": {"model": tensors | decoder},
        }[form]
    )
    if form == "old format":
        torch.save(tensors, folder / "model.pt", _use_new_zipfile_serialization=False)

    read = read_checkpoint(folder)

    assert list(read.ignored) == (list(decoder) if form == "decoder" else [])
    for name, tensor in tensors.items():
        torch.testing.assert_close(read.network.state_dict()[name], tensor, rtol=0, atol=0)


def test_the_weights_can_be_deleted_after_reading(network: SpeechNetwork, write: Write) -> None:
    folder = write()
    read = read_checkpoint(folder)
    (folder / "model.pt").write_bytes(b"")

    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(read.network.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop("proj.bias"), r"missing: proj\.bias; unexpected: none"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "missing: none; unexpected: extra"),
        (
            lambda tensors: tensors.update({"proj.bias": torch.zeros(8)}),
            r"proj\.bias of shape \(8,\) instead of \(9,\)",
        ),
        (
            lambda tensors: tensors.update({"proj.weight": torch.zeros(8, 48), "proj.bias": torch.zeros(8)}),
            r"8 rows for 9 labels .*tokens\.txt",
        ),
        (lambda tensors: tensors["proj.bias"].fill_(torch.nan), r"values in proj\.bias that are not finite"),
        (lambda tensors: tensors.update({"blocks.0.norm1.bias": torch.zeros(48)}), "under its old and its new name"),
    ],
)
def test_tensors_of_another_network_are_named(
    change: Callable[[dict[str, torch.Tensor]], None], named: str, network: SpeechNetwork, write: Write
) -> None:
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    change(tensors)

    with pytest.raises(CheckpointUnreadable, match=rf"model\.pt.*{named}"):
        read_checkpoint(write(weights={"model": tensors}))


def test_tensors_that_do_not_fit_name_the_config_of_the_layout(write: Write) -> None:
    with pytest.raises(CheckpointUnreadable, match=r"model\.pt does not belong to config\.yaml"):
        read_checkpoint(write({"depth": 3}))


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("is_old", [False, True])
def test_no_code_in_the_weights_runs(is_old: bool, write: Write, tmp_path: Path) -> None:
    trap = _Trap(tmp_path / "marker")
    folder = write(weights={"model": trap})
    if is_old:
        (folder / "model.pt").write_bytes(pickle.dumps({"model": trap}))

    with pytest.raises(CheckpointUnreadable, match=r"model\.pt"):
        read_checkpoint(folder)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04" + bytes(100)])
def test_damaged_weights_are_named(content: bytes, write: Write) -> None:
    folder = write()
    (folder / "model.pt").write_bytes(content)

    with pytest.raises(CheckpointUnreadable, match=r"model\.pt"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("changed", "audio", "named"),
    [
        ({"layer_norm_first": True}, {}, "layer_norm_first True"),
        ({"norm_affine": False}, {}, "norm_affine False"),
        ({"norm_affine": None}, {}, "norm_affine None"),
        ({}, {"extractor_mode": "default"}, "extractor_mode 'default'"),
        ({}, {"use_alibi_encoder": None}, "use_alibi_encoder None"),
        ({}, {"learned_alibi": True}, "learned_alibi True"),
        ({}, {"learned_alibi_scale_per_head": False}, "learned_alibi_scale_per_head False"),
        ({}, {"learned_alibi_scale_per_layer": True}, "learned_alibi_scale_per_layer True"),
        ({}, {"conv_pos_pre_ln": True}, "conv_pos_pre_ln True"),
        ({"depth": 0}, {}, r"malformed: model_conf\.depth"),
        ({"embed_dim": "wide"}, {}, r"malformed: model_conf\.embed_dim"),
        ({}, {"prenet_depth": None}, r"malformed: model_conf\.modalities\.audio\.prenet_depth"),
        ({"num_heads": 5}, {}, "5 heads do not fit"),
        ({}, {"num_alibi_heads": 3}, "3 ALiBi heads"),
        ({}, {"conv_pos_groups": 5}, "does not describe a valid network"),
        ({}, {"feature_encoder_spec": "__import__('os').mkdir('trap')"}, "feature_encoder_spec"),
        ({}, {"feature_encoder_spec": "[(512, 10, 5)] * 10 ** 9"}, "feature_encoder_spec"),
        ({}, {"feature_encoder_spec": "[(512, 10, 5)] * 99 * 99 * 99 * 99 * 99"}, "feature_encoder_spec"),
        ({}, {"feature_encoder_spec": "[(512, 10)]"}, "feature_encoder_spec"),
        ({}, {"feature_encoder_spec": "[(512, 10, 0)]"}, "feature_encoder_spec"),
        ({}, {"feature_encoder_spec": "[]"}, "feature_encoder_spec"),
        ({}, {"feature_encoder_spec": "[("}, "feature_encoder_spec"),
    ],
)
def test_another_network_is_refused_with_the_difference(
    changed: Mapping[str, Any], audio: Mapping[str, Any], named: str, write: Write
) -> None:
    with pytest.raises(CheckpointUnreadable, match=rf"config\.yaml.*{named}"):
        read_checkpoint(write(changed, audio))


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "model: Paraformer", "model: Emotion2vec", "\x00"])
def test_another_config_is_refused_by_name(content: str, write: Write) -> None:
    folder = write()
    (folder / "config.yaml").write_text(content)

    with pytest.raises(CheckpointUnreadable, match=r"config\.yaml"):
        read_checkpoint(folder)


@pytest.mark.parametrize("is_normalised", [True, False])
def test_the_config_says_whether_clips_are_normalised(is_normalised: bool, write: Write) -> None:
    read = read_checkpoint(write({"normalize": is_normalised}))

    assert read.network.architecture.is_normalised is is_normalised


@pytest.mark.parametrize(
    "tokens",
    [
        TOKENS,
        [token.rpartition("/")[2] for token in TOKENS],
        [token.partition("/")[0] for token in TOKENS],
        [*TOKENS[:8], "unknown"],
    ],
    ids=["both", "English", "Mandarin", "unknown"],
)
def test_labels_have_english_names(tokens: list[str], write: Write) -> None:
    assert read_checkpoint(write(tokens=tokens)).labels == LABELS


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        (TOKENS[:8], r"9 rows for 8 labels .*: fetch it and tokens\.txt from the same commit"),
        ([*TOKENS[:8], ""], "9 rows for 8 labels"),
        ([*TOKENS[:7], "", "<unk>"], "empty line or a repeated label"),
        ([*TOKENS[:8], "angry"], "empty line or a repeated label"),
        (["angry", *(f"unuse_{number}" for number in range(8))], "fewer than two labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tokens: list[str], named: str, write: Write) -> None:
    with pytest.raises(CheckpointUnreadable, match=named):
        read_checkpoint(write(tokens=tokens))


@pytest.mark.parametrize("name", ["config.yaml", "tokens.txt", "model.pt"])
def test_a_missing_file_is_named(name: str, write: Write) -> None:
    folder = write()
    (folder / name).unlink()

    with pytest.raises(CheckpointUnreadable, match=name.replace(".", r"\.")):
        read_checkpoint(folder)


def test_labels_that_a_checkpoint_does_not_know_are_masked_as_in_funasr(
    network: SpeechNetwork, write: Write, speech_like: SpeechLike
) -> None:
    tokens = [*TOKENS[:1], "unuse_0", "unuse_1", *TOKENS[3:5], "unuse_2", TOKENS[6], "unuse_3", TOKENS[8]]
    folder = write(tokens=tokens)
    reference = FunAsrNetwork(network, document(SMALL), tokens)

    classifier = load_classifier(folder, threads=1)

    assert classifier.identity.labels == ("anger", "happy", "neutral", "sad", "unknown")
    for samples in (1_600, 16_000, 96_000):
        clip = speech_like(samples, samples)
        expected = reference.scores(clip)
        assert list(expected) == ["生气/angry", "开心/happy", "中立/neutral", "难过/sad", "<unk>"]
        np.testing.assert_allclose(list(classifier.classify(clip).values()), list(expected.values()), atol=1e-6)


def test_a_folder_classifies_like_funasr(network: SpeechNetwork, write: Write, speech_like: SpeechLike) -> None:
    reference = FunAsrNetwork(network, document(SMALL))
    classifier = load_classifier(write(), threads=1)

    clip = speech_like(30_000, 0)
    scores = classifier.classify(clip)
    assert tuple(scores) == LABELS
    np.testing.assert_allclose(list(scores.values()), list(reference.scores(clip).values()), atol=1e-6)


@pytest.fixture
def hub(write: Write, tmp_path: Path) -> Hub:
    folder = write()
    (folder / "README.md").write_text("a model card")
    (folder / "logo.png").write_bytes(b"a picture")
    card = {"license": "other", "license_name": "model-license", "license_link": "https://example.org/FunASR"}
    return Hub({COMMIT: folder}, {"main": COMMIT}, CHECKPOINTS[NAMES[1]].repo_id, card=card)


def test_a_checkpoint_is_pulled_from_the_hub_by_name(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pulled"
    with serving(hub):
        command = ["audio-emotion", "model", "pull", NAMES[1], "--out", str(out), "--endpoint", hub.endpoint]
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as ended:
            main()

    assert not ended.value.code
    assert capsys.readouterr().out.splitlines() == [
        "Licence of the weights: model-license (https://example.org/FunASR).",
        f"Saved {NAMES[1]} ({COMMIT}) to {out}",
    ]
    assert {file.name for file in out.iterdir()} - {".cache"} == {
        "config.yaml",
        "tokens.txt",
        "model.pt",
        "source.json",
    }
    read = read_checkpoint(out)
    assert (read.model_id, read.revision, read.labels) == (hub.repo, COMMIT, LABELS)


def test_the_steps_of_make_model_give_a_package_that_classifies_like_funasr(
    hub: Hub, network: SpeechNetwork, tmp_path: Path, speech_like: SpeechLike, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*command: str) -> None:
        monkeypatch.setattr("sys.argv", ["audio-emotion", "model", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code

    monkeypatch.chdir(tmp_path)
    with serving(hub):
        run("pull", NAMES[1], "--out", "pulled", "--endpoint", hub.endpoint)
    run("export", "pulled", "package", "--precision", "fp32")

    package, reference = EmotionClassifier.load(tmp_path / "package"), FunAsrNetwork(network, document(SMALL))
    identity = package.identity
    assert (identity.id, identity.revision, identity.labels) == (hub.repo, COMMIT, LABELS)
    for samples in (400, 1_600, 32_000, 96_000):
        clip = speech_like(samples, samples)
        expected = list(reference.scores(clip).values())
        np.testing.assert_allclose(list(package.classify(clip).values()), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["config.yaml", "tokens.txt", "model.pt"])
def test_a_file_missing_from_the_repository_is_named(name: str, hub: Hub, tmp_path: Path) -> None:
    (hub.folders[COMMIT] / name).unlink()

    with serving(hub), pytest.raises(CheckpointUnreadable, match=name.replace(".", r"\.")):
        pull(NAMES[1], tmp_path / "pulled", endpoint=hub.endpoint)


def test_a_checkpoint_is_pulled_from_modelscope_s_folder(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write().rename(tmp_path / "emotion2vec_plus_base")
    (folder / ".msc").write_bytes(b"the list of ModelScope's client")
    (folder / "example").mkdir()
    out = tmp_path / "pulled"
    monkeypatch.setattr(
        "sys.argv", ["audio-emotion", "model", "pull", NAMES[1], "--from", str(folder), "--out", str(out)]
    )
    with pytest.raises(SystemExit) as ended:
        main()

    assert not ended.value.code
    licence, saved = capsys.readouterr().out.splitlines()
    assert licence == f"Licence of the weights: {CHECKPOINTS[NAMES[1]].licence}."
    assert saved == f"Saved {NAMES[1]} (local) to {out}"
    assert json.loads((out / "source.json").read_text())["id"] == CHECKPOINTS[NAMES[1]].repo_id
    assert read_checkpoint(out).model_id == CHECKPOINTS[NAMES[1]].repo_id


def test_a_folder_without_a_name_keeps_its_own(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["audio-emotion", "model", "pull", "--from", str(write()), "--out", str(tmp_path / "pulled")]
    )
    with pytest.raises(SystemExit) as ended:
        main()

    assert not ended.value.code
    assert read_checkpoint(tmp_path / "pulled").model_id == "checkpoint"


def test_no_file_of_another_layout_is_left_behind(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "pulled"
    other = write_checkpoint(random_network(small_config()), small_config(), tmp_path / "other")
    pull("someone/else", out, folder=other)

    pull(NAMES[1], out, folder=write())
    assert read_checkpoint(out).labels == LABELS
    assert not (out / "config.json").exists()

    pull("someone/else", out, folder=other)
    assert not (out / "model.pt").exists()
    assert len(read_checkpoint(out).labels) == 6


def test_a_normalisation_of_the_user_s_replaces_the_config_s(write: Write) -> None:
    folder = write()
    (folder / "source.json").write_text(json.dumps({"id": "x/y", "overrides": {"is_normalised": False}}))

    assert read_checkpoint(folder).network.architecture.is_normalised is False


def test_the_config_may_have_other_modalities(write: Write) -> None:
    folder = write()
    content = yaml.safe_load((folder / "config.yaml").read_text())
    content["model_conf"]["modalities"]["image"] = {"type": "IMAGE", "prenet_depth": 9}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))

    assert read_checkpoint(folder).network.config == SMALL
