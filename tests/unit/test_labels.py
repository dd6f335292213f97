"""The options `--labels` and `--only`: renamed, merged and excluded labels."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.audio.waveform import Waveform
from core.checkpoints.architecture import STOCK, Architecture, Encoder
from core.checkpoints.loading import load_classifier
from core.checkpoints.network import build_network
from core.cli.app import main
from core.errors import CheckpointUnreadable, LabelsInvalid, PackageRefused
from core.export.exporter import export
from core.export.graph import Precision
from core.model.classifier import EmotionClassifier
from core.model.labels import choose_labels, parse_only, parse_renamed
from core.model.output import output_values
from core.model.package import read_manifest
from core.paths import SAMPLES
from core.results import Output
from tests.support.networks import randomised, small_wav2vec2_config, write_checkpoint

LABELS = ("neutral", "happy", "excited", "anger")
LOGITS = np.array([0.3, -1.2, 2.0, 0.9], np.float32)


def scores_of(output: Output, renamed: Mapping[str, str], only: tuple[str, ...] = ()) -> dict[str, float]:
    choice = choose_labels(LABELS, output, renamed, only)
    values = output_values(choice.logits(LOGITS, output), output)
    return dict(zip(choice.labels, values.tolist(), strict=True))


def all_scores(output: Output) -> dict[str, float]:
    return dict(zip(LABELS, output_values(LOGITS, output).tolist(), strict=True))


def test_the_score_of_merged_labels_is_the_sum_of_their_probabilities() -> None:
    before = all_scores(Output.SOFTMAX)

    after = scores_of(Output.SOFTMAX, {"excited": "happy"})

    assert list(after) == ["neutral", "happy", "anger"]
    expected = {"neutral": before["neutral"], "happy": before["happy"] + before["excited"], "anger": before["anger"]}
    assert after == pytest.approx(expected, abs=1e-6)


def test_the_probabilities_of_the_labels_that_remain_are_scaled() -> None:
    before = all_scores(Output.SOFTMAX)

    after = scores_of(Output.SOFTMAX, {}, ("anger", "neutral"))

    total = before["anger"] + before["neutral"]
    assert after == pytest.approx({"neutral": before["neutral"] / total, "anger": before["anger"] / total}, abs=1e-6)


def test_only_selects_merged_and_renamed_labels_by_their_new_names() -> None:
    before = all_scores(Output.SOFTMAX)

    after = scores_of(Output.SOFTMAX, {"excited": "up", "happy": "up", "anger": "rage"}, ("up", "rage"))

    up = before["happy"] + before["excited"]
    assert after == pytest.approx({"up": up / (up + before["anger"]), "rage": before["anger"] / (up + before["anger"])})


def test_independent_probabilities_are_merged_to_the_highest_and_not_scaled() -> None:
    before = all_scores(Output.SIGMOID)

    after = scores_of(Output.SIGMOID, {"excited": "happy"}, ("happy", "anger"))

    assert after == pytest.approx({"happy": before["excited"], "anger": before["anger"]}, abs=1e-6)


def test_extreme_logits_are_merged_without_overflow() -> None:
    choice = choose_labels(("a", "b", "c"), Output.SOFTMAX, {"b": "a"})

    merged = choice.logits(np.array([3e4, 3e4, -3e4], np.float32), Output.SOFTMAX)

    assert output_values(merged, Output.SOFTMAX).tolist() == [1.0, 0.0]


def test_dimensions_can_be_renamed_only() -> None:
    assert choose_labels(("LABEL_0", "LABEL_1"), Output.LINEAR, {"LABEL_0": "arousal"}).labels == ("arousal", "LABEL_1")

    for renamed, only in (({"a": "b"}, ()), ({}, ("a",))):
        with pytest.raises(LabelsInvalid, match="dimensions, which --labels cannot merge and --only cannot leave out"):
            choose_labels(("a", "b"), Output.LINEAR, renamed, only)


def test_labels_are_found_by_other_corpora_s_names_too() -> None:
    assert choose_labels(LABELS, Output.SOFTMAX, {"hap": "up"}, ("ang", "up")).labels == ("up", "anger")


@pytest.mark.parametrize(
    ("renamed", "only", "message"),
    [
        ({"bored": "neutral"}, (), r"--labels has bored, but the model's labels are neutral, happy, excited, anger"),
        ({}, ("bored",), r"--only has bored, but"),
        ({"happy": "up"}, ("happy",), r"--only has happy, but the model's labels are neutral, up,"),
        ({}, ("anger",), r"Only the label anger would remain"),
        (dict.fromkeys(LABELS, "all"), (), r"Only the label all would remain"),
        ({"happy": "up", "hap": "down"}, (), r"two new names for happy"),
    ],
)
def test_options_that_do_not_fit_the_model_are_reported(
    renamed: dict[str, str], only: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LabelsInvalid, match=message):
        choose_labels(LABELS, Output.SOFTMAX, renamed, only)


def test_the_options_are_lists_with_commas() -> None:
    assert parse_renamed(" excited = happy , LABEL_0=neutral,") == {"excited": "happy", "LABEL_0": "neutral"}
    assert parse_only(" anger, neutral ,") == ("anger", "neutral")
    assert (parse_renamed(""), parse_only("")) == ({}, ())


@pytest.mark.parametrize("text", ["happy", "=happy", "happy=", "a=b=c", "a=b,a=c"])
def test_a_part_that_is_not_a_pair_is_reported(text: str) -> None:
    with pytest.raises(LabelsInvalid, match="--labels has"):
        parse_renamed(text)


def checkpoint_with(labels: tuple[str, ...] | None, folder: Path, **config: Any) -> Path:
    """Write a small checkpoint of transformers' own class with these labels."""
    names = labels or ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
    values = {**small_wav2vec2_config(), **config, "id2label": {str(row): name for row, name in enumerate(names)}}
    if labels is None:
        del values["id2label"]
    architecture = Architecture(encoder=Encoder.WAV2VEC2, head=STOCK, labels=names)
    return write_checkpoint(randomised(build_network(architecture, values, 16)), values, folder)


@pytest.fixture
def clips(speech_like: Callable[[int, int], Waveform]) -> list[Waveform]:
    return [speech_like(samples, samples) for samples in (9_000, 40_000)]


def test_a_package_returns_and_records_the_chosen_labels(tmp_path: Path, clips: list[Waveform]) -> None:
    checkpoint = checkpoint_with(LABELS, tmp_path / "checkpoint")
    renamed, only = {"excited": "happy", "anger": "rage"}, ("happy", "rage")
    plain = export(checkpoint, tmp_path / "plain", clips, precision=Precision.FP32)

    chosen = export(checkpoint, tmp_path / "package", clips, precision=Precision.FP32, renamed=renamed, only=only)

    package = EmotionClassifier.load(tmp_path / "package")
    assert package.identity.labels == ("happy", "rage")
    assert package.identity.merged == {"happy": ("happy", "excited")}
    assert package.identity.excluded == ("neutral",)
    assert chosen.fingerprint != plain.fingerprint
    assert chosen.sha256 == plain.sha256
    full = EmotionClassifier.load(tmp_path / "plain")
    chosen_of_checkpoint = load_classifier(checkpoint, 1, renamed=renamed, only=only)
    for clip in clips:
        scores = full.classify(clip)
        happy, rage = scores["happy"] + scores["excited"], scores["anger"]
        expected = {"happy": happy / (happy + rage), "rage": rage / (happy + rage)}
        assert package.classify(clip) == pytest.approx(expected, abs=1e-6)
        assert chosen_of_checkpoint.classify(clip) == pytest.approx(expected, abs=1e-4)


def test_the_fingerprint_depends_on_merged_labels(tmp_path: Path, clips: list[Waveform]) -> None:
    checkpoint = checkpoint_with(LABELS, tmp_path / "checkpoint")
    merged, unmerged = (
        export(checkpoint, tmp_path / name, clips, precision=Precision.FP32, renamed=renamed, only=("happy", "anger"))
        for name, renamed in (("merged", {"excited": "happy"}), ("unmerged", {}))
    )

    assert merged.labels == unmerged.labels
    assert merged.fingerprint != unmerged.fingerprint


def test_renamed_labels_need_no_record(tmp_path: Path, clips: list[Waveform]) -> None:
    checkpoint = checkpoint_with(LABELS, tmp_path / "checkpoint")

    manifest = export(checkpoint, tmp_path / "package", clips, precision=Precision.FP32, renamed={"anger": "Wut"})

    assert (manifest.labels, manifest.label_choice) == (("neutral", "happy", "excited", "Wut"), None)


def test_a_loaded_model_with_chosen_labels_has_another_fingerprint(tmp_path: Path, clips: list[Waveform]) -> None:
    checkpoint = checkpoint_with(LABELS, tmp_path / "checkpoint")
    export(checkpoint, tmp_path / "package", clips, precision=Precision.FP32, renamed={"excited": "happy"})

    for folder in (checkpoint, tmp_path / "package"):
        plain = load_classifier(folder, 1).identity
        first, second = (
            load_classifier(folder, 1, only=only).identity for only in (("happy", "anger"), ("anger", "neutral"))
        )
        assert len({plain.fingerprint, first.fingerprint, second.fingerprint}) == 3
        assert load_classifier(folder, 1, only=("happy", "anger")).identity == first
    assert first.merged == {"happy": ("happy", "excited")}
    assert first.excluded == ("neutral",)
    assert second.merged is None
    assert second.excluded == ("happy", "excited")


def test_a_manifest_whose_choice_returns_other_labels_is_refused(tmp_path: Path, clips: list[Waveform]) -> None:
    checkpoint = checkpoint_with(LABELS, tmp_path / "checkpoint")
    export(checkpoint, tmp_path / "package", clips, precision=Precision.FP32, renamed={"excited": "happy"})
    file = tmp_path / "package/manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "labels": ["a", "b", "c"]}))

    with pytest.raises(PackageRefused, match="label_choice does not return labels"):
        read_manifest(tmp_path / "package")


@pytest.mark.parametrize("labels", [None, ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"), ("0", "1", "2", "3")])
def test_labels_without_names_are_named_by_their_numbers(
    labels: tuple[str, ...] | None, tmp_path: Path, clips: list[Waveform]
) -> None:
    checkpoint = checkpoint_with(labels, tmp_path / "checkpoint")
    numbers = labels or ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
    renamed = dict(zip(numbers, ("neutral", "happy", "happy", "anger"), strict=True))

    manifest = export(checkpoint, tmp_path / "package", clips, precision=Precision.FP32, renamed=renamed)

    assert manifest.labels == ("neutral", "happy", "anger")
    assert manifest.identity.merged == {"happy": (numbers[1], numbers[2])}
    assert load_classifier(checkpoint, 1, renamed=renamed).identity.labels == manifest.labels


@pytest.mark.parametrize("renamed", [{}, {"LABEL_0": "neutral"}, {"LABEL_9": "neutral"}])
def test_labels_without_names_are_refused_unless_all_are_named(renamed: dict[str, str], tmp_path: Path) -> None:
    checkpoint = checkpoint_with(("LABEL_0", "LABEL_1"), tmp_path)

    with pytest.raises(CheckpointUnreadable, match="--labels"):
        load_classifier(checkpoint, 1, renamed=renamed)


def test_more_names_than_rows_are_refused(tmp_path: Path) -> None:
    checkpoint = checkpoint_with(None, tmp_path)

    with pytest.raises(CheckpointUnreadable, match="4 rows for 5 labels"):
        load_classifier(checkpoint, 1, renamed={f"LABEL_{number}": f"name {number}" for number in range(5)})


def test_the_commands_classify_and_export_accept_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_with(LABELS, tmp_path / "checkpoint")
    options = ["--labels", "excited=happy", "--only", "happy,anger"]
    sample = str(next(SAMPLES.glob("*.wav")))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["audio-emotion", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    status, _, _ = run("model", "export", str(checkpoint), str(tmp_path / "package"), "--precision", "fp32", *options)
    assert status == 0
    status, shown, _ = run("classify", sample, "--json", "--model", str(tmp_path / "package"))
    exported = json.loads(shown)
    status, shown, _ = run("classify", sample, "--json", "--model", str(checkpoint), *options)
    classified = json.loads(shown)

    for result in (exported, classified):
        assert result["model"]["labels"] == ["happy", "anger"]
        assert result["model"]["merged"] == {"happy": ["happy", "excited"]}
        assert result["model"]["excluded"] == ["neutral"]
        assert sum(result["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert exported["scores"] == pytest.approx(classified["scores"], abs=1e-4)
    status, _, complaint = run("classify", sample, "--model", str(checkpoint), "--only", "bored")
    assert (status, complaint.count("\n")) == (1, 1)
    assert "--only has bored" in complaint
