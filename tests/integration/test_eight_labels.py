"""A package of the second architecture in the function, the terminal, the report page and the evaluation."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from core.checkpoints.registry import CHECKPOINTS
from core.cli.app import main
from core.cli.classify import classify_files
from core.cli.evaluate import evaluate_manifest
from core.cli.parallel import PipelineOptions
from core.cli.tables import timelines
from core.emotions import COLOURS
from core.model.classifier import EmotionClassifier
from core.model.package import Manifest, read_manifest
from core.pipeline import Pipeline
from core.report import render
from core.results import EmotionScores, Result, Source, Utterance
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT
from tests.support.workers import function_result

EIGHT = ("anger", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
CONVERSATION = ROOT / "samples" / "conversation.ogg"


@pytest.fixture(scope="module")
def result(small_wav2vec2_package: Path) -> Result:
    pipeline = Pipeline(EmotionClassifier.load(small_wav2vec2_package), MediaLimits(), SegmentationSettings())
    return pipeline.run(CONVERSATION, Source(key=CONVERSATION.name))


@pytest.fixture(scope="module")
def all_eight(result: Result) -> Result:
    """A result with every emotion once, since a random network mostly returns one."""
    assert result.channels
    parts = []
    for number, emotion in enumerate(EIGHT):
        scores = EmotionScores.of({label: 0.65 if label == emotion else 0.05 for label in EIGHT})
        parts.append(Utterance(**dict(scores), start_s=2.0 * number, end_s=2.0 * number + 1.5))
    channel = result.channels[0].model_copy(update={"utterances": tuple(parts)})
    return result.model_copy(update={"channels": (channel,)})


def test_the_manifest_has_the_geometry_of_the_graph_s_inputs(small_wav2vec2_package: Path) -> None:
    manifest = read_manifest(small_wav2vec2_package)

    assert manifest.labels == EIGHT
    assert json.loads((small_wav2vec2_package / "manifest.json").read_text())["geometry"] == {
        "hearing": "clip",
        "most_samples": 96_000,
        "kernels": [10, 3, 3, 3, 3, 2, 2],
        "strides": [5, 2, 2, 2, 2, 2, 2],
        "is_normalised": True,
        "has_group_norm": False,
        "variance_floor": 1e-7,
    }


def test_a_package_of_an_older_release_keeps_its_fingerprint(small_wav2vec2_package: Path) -> None:
    manifest = read_manifest(small_wav2vec2_package)
    document = json.loads((small_wav2vec2_package / "manifest.json").read_text())
    for name in ("is_normalised", "has_group_norm", "variance_floor"):
        del document["geometry"][name]

    assert Manifest.model_validate(document).fingerprint == manifest.fingerprint


def test_the_function_needs_no_build_time_package(small_wav2vec2_package: Path) -> None:
    program = f"""
import sys
for name in ("torch", "transformers", "onnx", "huggingface_hub", "safetensors"):
    sys.modules[name] = None
import numpy
from pathlib import Path
from core.model.classifier import EmotionClassifier
scores = EmotionClassifier.load(Path({str(small_wav2vec2_package)!r})).classify(numpy.ones(800, numpy.float32))
print(len(scores))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip() == "8", done.stderr


def test_the_function_writes_results_with_eight_labels(
    aws_server: str, small_wav2vec2_package: Path, tmp_path: Path
) -> None:
    document = json.loads(function_result(aws_server, small_wav2vec2_package, ROOT / "samples" / "anger.wav", tmp_path))

    assert document["status"] == "classified"
    assert document["model"]["labels"] == list(EIGHT)
    assert tuple(document["scores"]) == EIGHT
    assert sum(document["scores"].values()) == pytest.approx(1.0, abs=1e-5)
    assert document["model"]["fingerprint"] == read_manifest(small_wav2vec2_package).fingerprint


def test_each_emotion_has_its_letter_in_the_terminal(all_eight: Result) -> None:
    console = Console(width=120, file=io.StringIO(), record=True)

    for timeline in timelines([all_eight], console.width):
        console.print(timeline)

    text = console.export_text()
    bar = next(line for line in text.splitlines() if line.startswith("channel 0"))
    assert [character for character in bar.removeprefix("channel 0") if character.isupper()] == list("ACDFHNSU")
    assert all(f" {emotion}" in text for emotion in EIGHT)


def test_each_emotion_has_its_colour_and_its_row_of_scores_on_the_page(all_eight: Result) -> None:
    page = render(all_eight)

    for number, emotion in enumerate(EIGHT):
        assert f".e{number}{{--c:{COLOURS[emotion]}}}" in page
        assert f'<th scope="col" class="score" hidden>{emotion}</th>' in page
    names = page[page.index('<ul class="names') : page.index('<svg class="lane"')]
    assert [name.partition("<")[0] for name in names.split("<span>")[1:]] == list(EIGHT)


def test_csv_has_a_column_for_each_emotion(small_wav2vec2_package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify_files([ROOT / "samples" / "anger.wav"], PipelineOptions(small_wav2vec2_package), form="csv") == 0

    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header[7:15] == list(EIGHT)
    assert sum(map(float, row[7:15])) == pytest.approx(1.0, abs=1e-5)


def test_evaluation_accepts_the_corpora_s_names_of_the_two_other_emotions(
    small_wav2vec2_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("disgusted", "calm", "Disgust", "mad")):
        shutil.copy(ROOT / "samples" / "anger.wav", tmp_path / f"{number}-{name}.wav")
    rows = "".join(f"{file.name},{file.stem[2:]}\n" for file in sorted(tmp_path.glob("*.wav")))
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,emotion\n" + rows, encoding="utf-8")

    assert evaluate_manifest(manifest, small_wav2vec2_package, tmp_path / "out", "", as_json=True, fresh=False) == 0

    shown = capsys.readouterr()
    assert json.loads(shown.out)["recall"].keys() == {"calm", "disgust"}
    assert "'mad'" in shown.err


def test_the_command_line_lists_and_exports_the_checkpoint(
    small_wav2vec2_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["audio-emotion", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    listed = " ".join(run("model", "list").split())
    for name, entry in CHECKPOINTS.items():
        assert name in listed
        assert entry.repo_id in listed
        assert f"licence {entry.licence or 'not stated'}" in listed
        assert ", ".join(entry.labels) in listed

    run("model", "pull", "wav2vec2-xlsr-en", "--from", small_wav2vec2_checkpoint, "--out", "checkpoint")
    shown = run("model", "export", "checkpoint", "package", "--precision", "fp32")

    assert "ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition" in shown
    manifest = read_manifest(tmp_path / "package")
    assert manifest.labels == EIGHT
    assert manifest.parity.clips >= 100  # without a folder of speech


def test_a_folder_pulled_under_another_checkpoint_s_name_is_refused(
    small_wav2vec2_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from core.checkpoints.checkpoint import read_checkpoint
    from core.checkpoints.hub import pull
    from core.errors import CheckpointUnreadable

    pull("hubert-base-ch", tmp_path / "checkpoint", folder=small_wav2vec2_checkpoint)

    with pytest.raises(CheckpointUnreadable, match="feat_extract_norm 'layer'; only 'group'"):
        read_checkpoint(tmp_path / "checkpoint")
