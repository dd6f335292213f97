"""Export: a serving package is written only if its scores match its checkpoint's."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from typer.testing import CliRunner

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.waveform import WINDOW_SAMPLES, Waveform
from core.checkpoints.architecture import Encoder, InputMode
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.loading import load_classifier
from core.checkpoints.network import build_network
from core.checkpoints.reference import ReferenceNetwork
from core.cli.app import app
from core.errors import CheckpointUnreadable, FolderRefused, PackageRefused, ParityMissed
from core.export import exporter as exporting
from core.export import parity as gate
from core.export.clips import with_variants
from core.export.exporter import export, write_package
from core.export.graph import Precision, layers
from core.export.graph.builder import Floats
from core.export.graph.precision import quantise_per_column
from core.export.parity import compare
from core.model.classifier import EmotionClassifier
from core.model.clip_inputs import ClipGeometry
from core.model.package import MANIFEST_FILE, MODEL_FILE, WEIGHTS_FILE, ParityReport, read_manifest
from core.paths import SAMPLES
from core.results import Output
from core.settings import MediaLimits
from tests.conftest import ROOT
from tests.support.networks import randomised

SpeechLike = Callable[[int, int], Waveform]


@pytest.fixture(scope="module")
def clips(speech_like: SpeechLike) -> list[Waveform]:
    return [speech_like(8_000 + 4_000 * number, number) for number in range(6)]


def test_a_package_matches_its_checkpoint(small_checkpoint: Path, clips: list[Waveform], tmp_path: Path) -> None:
    manifest = export(small_checkpoint, tmp_path / "package", clips, precision=Precision.FP32)

    reference, served = load_classifier(small_checkpoint, 1), load_classifier(tmp_path / "package", 1)
    differences = [np.abs(reference.logits(clip) - served.logits(clip)).max() for clip in clips]
    assert max(differences) < 1e-4
    assert manifest.parity.largest_logit_change == pytest.approx(max(differences), abs=1e-6)
    assert served.identity.fingerprint == manifest.fingerprint


def test_the_manifest_has_the_parity_report(small_checkpoint: Path, clips: list[Waveform], tmp_path: Path) -> None:
    reported: list[tuple[Precision, ParityReport, bool]] = []

    export(small_checkpoint, tmp_path, clips, precision=Precision.FP32, report=lambda *tried: reported.append(tried))

    kept = read_manifest(tmp_path)
    assert reported == [(Precision.FP32, kept.parity, True)]
    assert kept.parity.clips == len(clips)
    assert kept.parity.agreement == 1.0
    assert 0 < kept.parity.largest_score_change < 1e-4
    assert set(kept.tools) == {"torch", "transformers", "onnx", "onnxruntime", "numpy"}


def test_a_package_that_misses_the_bound_is_not_written(
    small_checkpoint: Path, clips: list[Waveform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MAX_MEAN_SCORE_CHANGE", 0.0)

    with pytest.raises(ParityMissed, match=r"6 clips.*Nothing was written\."):
        export(small_checkpoint, tmp_path / "package", clips)

    assert not (tmp_path / "package").exists()


def test_a_package_that_misses_the_bound_does_not_replace_another(
    small_checkpoint: Path, clips: list[Waveform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = export(small_checkpoint, tmp_path, clips, precision=Precision.FP32)
    monkeypatch.setattr(gate, "MIN_AGREEMENT", 1.1)

    with pytest.raises(ParityMissed):
        export(small_checkpoint, tmp_path, clips, precision=Precision.INT8)

    assert read_manifest(tmp_path) == before
    EmotionClassifier.load(tmp_path)


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE, WEIGHTS_FILE])
def test_files_of_another_program_are_not_replaced(
    name: str, small_checkpoint: Path, clips: list[Waveform], tmp_path: Path
) -> None:
    (tmp_path / name).write_text('{"name": "another program"}')

    with pytest.raises(FolderRefused, match=name):
        export(small_checkpoint, tmp_path, clips)

    assert [file.read_text() for file in tmp_path.iterdir()] == ['{"name": "another program"}']


def test_the_first_precision_that_meets_the_bound_is_kept(
    small_checkpoint: Path, clips: list[Waveform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Between the changes of this network's logits by 8 bits (1e-3 or more) and by float32 rounding (1e-6).
    monkeypatch.setattr(exporting, "meets_bound", lambda parity: parity.largest_logit_change < 1e-4)
    tried: list[tuple[Precision, bool]] = []

    manifest = export(
        small_checkpoint, tmp_path, clips, report=lambda precision, _, is_met: tried.append((precision, is_met))
    )

    assert tried == [(Precision.INT8, False), (Precision.INT8_FFN, False), (Precision.FP32, True)]
    assert manifest.precision == "fp32"


def test_the_fastest_precision_is_tried_first_and_kept_if_it_meets_the_bound(
    small_checkpoint: Path, clips: list[Waveform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "meets_bound", lambda parity: True)
    tried: list[Precision] = []

    manifest = export(small_checkpoint, tmp_path, clips, report=lambda precision, *_: tried.append(precision))

    assert tried == [Precision.INT8]
    assert manifest.precision == "int8"
    assert manifest.parity.largest_logit_change > 1e-4


@pytest.mark.parametrize(
    ("agreement", "mean_score_change", "is_met"),
    [(0.99, 0.005, True), (0.989, 0.0, False), (1.0, 0.0051, False), (float("nan"), 0.0, False)],
)
def test_the_bound_is_99_percent_and_half_a_percent(agreement: float, mean_score_change: float, is_met: bool) -> None:
    parity = ParityReport(
        clips=100,
        agreement=agreement,
        mean_score_change=mean_score_change,
        largest_score_change=0.0,
        largest_logit_change=0.0,
    )

    assert gate.meets_bound(parity) is is_met


def test_a_comparison_counts_clips_and_changes() -> None:
    reference = [np.array([5.0, 0.0], np.float32), np.array([0.0, 0.1], np.float32)]
    candidate = [np.array([5.0, 0.0], np.float32), np.array([0.2, 0.1], np.float32)]

    parity = compare(reference, candidate)

    changed = 1 / (1 + np.exp(-0.1)) - 1 / (1 + np.exp(0.1))  # each score of the second clip
    assert (parity.clips, parity.agreement) == (2, 0.5)
    assert parity.largest_logit_change == pytest.approx(0.2)
    assert parity.largest_score_change == pytest.approx(changed, rel=1e-5)
    assert parity.mean_score_change == pytest.approx(changed / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("concordance", "mean_score_change", "is_met"),
    [(0.99, 0.005, True), (0.989, 0.0, False), (1.0, 0.0051, False), (None, 0.0, False), (float("nan"), 0.0, False)],
)
def test_the_bound_of_dimensions(concordance: float | None, mean_score_change: float, is_met: bool) -> None:
    parity = ParityReport(
        clips=100,
        agreement=None,
        concordance=concordance,
        mean_score_change=mean_score_change,
        largest_score_change=0.0,
        largest_logit_change=0.0,
    )

    assert gate.meets_bound(parity) is is_met


@pytest.mark.parametrize("limits", [(1.0, 7.0), None])
def test_changes_of_dimensions_are_shares_of_their_range(limits: tuple[float, float] | None) -> None:
    reference = [np.array([2.0, value], np.float32) for value in (1.0, 3.0, 5.0)]
    reference[0][0] = 3.0
    candidate = [row + np.array([0.0, 0.25], np.float32) for row in reference]

    parity = compare(reference, candidate, Output.LINEAR, limits)

    assert (parity.agreement, parity.clips) == (None, 3)
    assert parity.concordance == pytest.approx(2 * (8 / 3) / (2 * (8 / 3) + 0.0625))
    spread = 6.0 if limits else 4.0  # the second dimension's own
    assert parity.mean_score_change == parity.largest_score_change == pytest.approx(0.25 / spread)
    assert parity.largest_logit_change == pytest.approx(0.25)


def test_a_dimension_that_is_constant_in_every_clip_proves_nothing() -> None:
    rows = [np.array([0.5, value], np.float32) for value in (0.1, 0.4, 0.9)]

    parity = compare(rows, rows, Output.LINEAR, (0.0, 1.0))

    assert parity.concordance is None
    assert not gate.meets_bound(parity)
    assert "lowest concordance with the reference on 3 clips is not defined" in gate.describe(parity)


def test_independent_scores_are_compared_each_on_its_own() -> None:
    reference = [np.array([2.0, 1.0], np.float32)]
    candidate = [np.array([2.0, -1.0], np.float32)]

    parity = compare(reference, candidate, Output.SIGMOID)

    changed = 1 / (1 + np.exp(-1.0)) - 1 / (1 + np.exp(1.0))
    assert (parity.agreement, parity.concordance) == (1.0, None)
    assert parity.mean_score_change == pytest.approx(changed / 2, rel=1e-5)


@pytest.mark.parametrize(("gap", "agreement"), [(0.009, 1.0), (0.011, 0.5)])
def test_a_flip_between_emotions_of_nearly_equal_scores_is_no_disagreement(gap: float, agreement: float) -> None:
    low, high = np.log((1 - gap) / 2), np.log((1 + gap) / 2)
    reference = [np.array([low, high, -9.0], np.float32), np.array([5.0, 0.0, 0.0], np.float32)]
    candidate = [np.array([high, low, -9.0], np.float32), np.array([5.0, 0.0, 0.0], np.float32)]

    assert compare(reference, candidate).agreement == agreement


def test_a_flip_from_nearly_equal_scores_to_a_third_emotion_is_a_disagreement() -> None:
    assert compare([np.array([1.0, 1.0, 0.0], np.float32)], [np.array([1.0, 1.0, 1.1], np.float32)]).agreement == 0.0


def test_a_flip_to_a_clearly_lower_score_is_a_disagreement_for_every_emotion() -> None:
    rows = [np.roll(np.array([2.0, 1.0, 0.0], np.float32), shift) for shift in range(3)]

    assert compare(rows, [np.roll(row, 1) for row in rows]).agreement == 0.0


@pytest.fixture(scope="module")
def samples() -> list[Waveform]:
    limits = MediaLimits()
    recordings = [file for file in sorted(SAMPLES.iterdir()) if file.suffix not in (".json", ".md")]
    decoded = [np.concatenate(list(decode(file, probe(file, limits), limits)), axis=1)[0] for file in recordings]
    return [waveform[:WINDOW_SAMPLES] for waveform in decoded]


def test_the_clips_are_a_hundred_or_more_that_differ_and_are_the_same_in_every_run(samples: list[Waveform]) -> None:
    clips = list(with_variants(samples))

    assert len(clips) >= 100
    assert len({clip.tobytes() for clip in clips}) == len(clips)
    assert all(clip.dtype == np.float32 and np.isfinite(clip).all() for clip in clips)
    for clip, again in zip(clips, with_variants(samples), strict=True):
        np.testing.assert_array_equal(clip, again)


def test_int8_of_the_demo_model_passes_and_scales_five_percent_off_do_not(
    samples: list[Waveform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo, clips = ROOT / "models" / "demo" / "checkpoint", list(with_variants(samples))

    assert export(demo, tmp_path / "right", clips, precision=Precision.INT8).parity.clips == len(clips)

    def five_percent_off(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
        integers, scale = quantise_per_column(weight)
        return integers, np.float32(1.05) * scale

    monkeypatch.setattr(layers, "quantise_per_column", five_percent_off)
    # The samples alone suffice to refuse it, and their variants would take as long as for the right package.
    with pytest.raises(ParityMissed, match=f"{len(samples)} clips"):
        export(demo, tmp_path / "wrong", samples, precision=Precision.INT8)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # half a minute of processor time, which takes long on a busy machine
@pytest.mark.parametrize("encoder", [Encoder.HUBERT, Encoder.WAVLM])
def test_int8_of_trained_weights_passes_on_clips_without_padding(
    encoder: Encoder, samples: list[Waveform], tmp_path: Path
) -> None:
    """Unlike random weights, the demo model's give decisions that a wrong scale would change."""
    demo = ROOT / "models" / "demo" / "checkpoint"
    trained = read_checkpoint(demo).network
    architecture = replace(trained.architecture, encoder=encoder, input_mode=InputMode.CLIP)
    config = json.loads((demo / "config.json").read_text())
    network = randomised(build_network(architecture, config))  # WavLM has tensors that the demo model lacks
    tensors = {name.replace("hubert.", f"{encoder}."): tensor for name, tensor in trained.state_dict().items()}
    network.load_state_dict(network.state_dict() | tensors)
    checkpoint = replace(read_checkpoint(demo), network=network)
    clips = list(with_variants(samples))
    reference = [ReferenceNetwork(checkpoint).logits(clip) for clip in clips]

    parity = write_package(checkpoint, tmp_path, Precision.INT8, clips, reference)

    assert gate.meets_bound(parity), gate.describe(parity)
    assert isinstance(read_manifest(tmp_path).geometry, ClipGeometry)
    assert len(set(np.argmax(reference, axis=1))) >= 4


def test_a_changed_network_is_refused(small_checkpoint: Path, clips: list[Waveform], tmp_path: Path) -> None:
    export(small_checkpoint, tmp_path / "one", clips, precision=Precision.FP32)
    export(small_checkpoint, tmp_path / "two", clips, precision=Precision.INT8_FFN)
    (tmp_path / "one" / MODEL_FILE).write_bytes((tmp_path / "two" / MODEL_FILE).read_bytes())

    with pytest.raises(PackageRefused, match="does not match"):
        EmotionClassifier.load(tmp_path / "one")


def test_changed_or_missing_weights_are_refused(small_checkpoint: Path, clips: list[Waveform], tmp_path: Path) -> None:
    export(small_checkpoint, tmp_path, clips, precision=Precision.FP32)
    weights = bytearray((tmp_path / WEIGHTS_FILE).read_bytes())
    weights[len(weights) // 2] ^= 1
    (tmp_path / WEIGHTS_FILE).write_bytes(weights)

    with pytest.raises(PackageRefused, match=r"weights\.bin does not match"):
        EmotionClassifier.load(tmp_path)

    (tmp_path / WEIGHTS_FILE).unlink()
    with pytest.raises(PackageRefused, match=r"weights\.bin is missing or unreadable"):
        EmotionClassifier.load(tmp_path)


def test_an_open_package_stays_usable_while_another_is_exported(
    small_checkpoint: Path, clips: list[Waveform], tmp_path: Path
) -> None:
    export(small_checkpoint, tmp_path, clips, precision=Precision.FP32)
    before = (tmp_path / WEIGHTS_FILE).read_bytes()

    with (tmp_path / WEIGHTS_FILE).open("rb") as opened:
        export(small_checkpoint, tmp_path, clips, precision=Precision.INT8)
        assert opened.read() == before

    assert (tmp_path / WEIGHTS_FILE).read_bytes() != before
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted((MANIFEST_FILE, MODEL_FILE, WEIGHTS_FILE))


def test_exporting_twice_gives_the_same_package(small_checkpoint: Path, clips: list[Waveform], tmp_path: Path) -> None:
    first, second = (
        export(small_checkpoint, tmp_path / name, clips, precision=Precision.FP32) for name in ("one", "two")
    )

    assert first.fingerprint == second.fingerprint


def test_export_without_clips_is_refused(small_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityMissed, match="cannot be compared with the reference"):
        export(small_checkpoint, tmp_path / "package", [])

    assert not (tmp_path / "package").exists()


def test_an_incomplete_checkpoint_is_refused(clips: list[Waveform], tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnreadable, match=r"config\.json"):
        export(tmp_path, tmp_path / "package", clips)


@pytest.mark.timeout(900)  # two minutes, more on a slow machine
def test_a_network_trained_on_speech_keeps_its_classifications(corpora: Path, tmp_path: Path) -> None:
    """Random weights hide the effect of 8 bits. This network was trained on CASIA without these clips."""
    with (corpora / "data" / "speech" / "manifest.csv").open(encoding="utf-8") as lines:
        paths = [row["path"] for row in csv.DictReader(lines) if row["dataset"] == "casia"]
    clips = [soundfile.read(corpora / "data" / "speech" / path, dtype="float32")[0] for path in paths[::6]]

    manifest = export(corpora / "models" / "casia-small", tmp_path, clips)

    assert manifest.parity.clips == 40
    assert manifest.parity.agreement is not None
    assert manifest.parity.agreement >= 0.99
    assert json.loads((tmp_path / "manifest.json").read_text())["parity"]["mean_score_change"] <= 0.005


@pytest.mark.parametrize("folder", ["missing", "empty", "configured"])
def test_the_command_looks_for_the_checkpoint_before_it_decodes_clips(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "configured").mkdir()
    (tmp_path / "configured" / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "core.cli.export", None)  # importing it would be an error

    done = CliRunner().invoke(app, ["model", "export", str(tmp_path / folder), str(tmp_path / "out")])

    assert isinstance(done.exception, CheckpointUnreadable)
    assert str(tmp_path / folder) in str(done.exception)


def test_a_missing_folder_of_speech_is_an_error(small_checkpoint: Path, tmp_path: Path) -> None:
    options = ["--calibration", str(tmp_path / "missing")]
    done = CliRunner().invoke(app, ["model", "export", str(small_checkpoint), str(tmp_path / "out"), *options])

    assert isinstance(done.exception, FolderRefused)


def test_a_folder_without_speech_to_compare_on_is_an_error(small_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "README.md").write_text("no recording")
    options = ["--calibration", str(tmp_path / "speech")]
    done = CliRunner().invoke(app, ["model", "export", str(small_checkpoint), str(tmp_path / "out"), *options])

    assert isinstance(done.exception, FolderRefused)
    assert "has no recording with speech" in str(done.exception)


def test_a_package_and_a_checkpoint_do_not_share_a_folder(
    small_checkpoint: Path, small_package: Path, tmp_path: Path
) -> None:
    """A command would use the package, also after the checkpoint has changed."""
    both = tmp_path / "both"
    shutil.copytree(small_checkpoint, both)
    done = CliRunner().invoke(app, ["model", "export", str(small_checkpoint), str(both)])

    assert isinstance(done.exception, FolderRefused)
    assert not (both / "manifest.json").exists()
    shutil.copytree(small_package, both, dirs_exist_ok=True)
    with pytest.raises(PackageRefused, match="has both a serving package and a checkpoint"):
        load_classifier(both, threads=1)
