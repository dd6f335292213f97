"""emotion2vec+ in the product: `make model` with a local Hub, then the function, the API, the report, the terminal."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from rich.console import Console

from core.checkpoints.registry import CHECKPOINTS
from core.cli.classify import classify_files
from core.cli.parallel import PipelineOptions
from core.cli.tables import timelines
from core.emotions import label_styles
from core.model.classifier import EmotionClassifier
from core.model.package import Manifest, read_manifest
from core.pipeline import Pipeline
from core.report import render
from core.results import EmotionScores, MeanScores, Result, Source, Utterance
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT
from tests.support.emotion2vec import LABELS, SMALL, document, random_emotion2vec, write_folder
from tests.support.hub_server import Hub
from tests.support.hub_server import serving as serving_hub
from tests.support.serving import folder_service, serving
from tests.support.workers import function_result

NAME = "emotion2vec-plus-base"
COMMIT = "a" * 40
ANGER = ROOT / "samples" / "anger.wav"


@dataclass(frozen=True)
class Made:
    """The package that `make model` wrote, and what it printed."""

    folder: Path
    manifest: Manifest
    output: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Run `make model` in a folder of its own, where the local Hub has a small random network."""
    folder = tmp_path_factory.mktemp("make")
    repository = write_folder(random_emotion2vec(SMALL), document(SMALL), folder / "repository")
    # The packages are installed, so make must not create a virtual environment.
    options = ("make", "--directory", folder, "--file", ROOT / "Makefile", "--old-file", ".venv/model")
    with serving_hub(Hub({COMMIT: repository}, {"main": COMMIT}, CHECKPOINTS[NAME].repo_id)) as hub:
        done = subprocess.run(
            [*options, "model", f"NAME={NAME}", f"BIN={Path(sys.executable).parent}"],
            env={**os.environ, "HF_ENDPOINT": hub.endpoint, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    package = folder / "build" / "model"
    return Made(package, read_manifest(package), done.stdout)


@pytest.fixture(scope="module")
def every_label(made: Made) -> Result:
    """A result with every label once, since a random network mostly returns one."""
    pipeline = Pipeline(EmotionClassifier.load(made.folder), MediaLimits(), SegmentationSettings())
    result = pipeline.run(ANGER, Source(key=ANGER.name))
    assert result.channels
    assert result.audio
    parts = tuple(
        Utterance(
            **dict(EmotionScores.of({other: 0.6 if other == label else 0.05 for other in LABELS})),
            start_s=2.0 * number,
            end_s=2.0 * number + 1.5,
        )
        for number, label in enumerate(LABELS)
    )
    channel = result.channels[0].model_copy(update={"utterances": parts})
    audio = result.audio.model_copy(update={"duration_s": 2.0 * len(LABELS)})
    return result.model_copy(update={"audio": audio, "channels": (channel,)})


def test_make_model_pulls_compares_and_exports(made: Made) -> None:
    manifest = made.manifest

    assert (manifest.id, manifest.revision) == (CHECKPOINTS[NAME].repo_id, COMMIT)
    assert manifest.labels == LABELS == CHECKPOINTS[NAME].labels
    assert manifest.parity.clips >= 100
    assert manifest.parity.agreement is not None
    assert manifest.parity.agreement >= 0.99
    assert "FunASR Model License" in made.output


def test_the_function_writes_results_with_nine_labels(aws_server: str, made: Made, tmp_path: Path) -> None:
    result = json.loads(function_result(aws_server, made.folder, ANGER, tmp_path))

    assert result["status"] == "classified"
    assert result["model"]["labels"] == list(LABELS)
    assert result["model"]["fingerprint"] == made.manifest.fingerprint
    assert tuple(result["scores"]) == LABELS
    assert sum(result["scores"].values()) == pytest.approx(1.0, abs=1e-5)
    assert result["emotion"] in LABELS


def test_the_api_answers_with_nine_labels(made: Made, tmp_path: Path) -> None:
    with serving(folder_service(made.folder, tmp_path)) as address, httpx2.Client(base_url=address) as client:
        answer = client.post("/recognize/", files={"file": ANGER.read_bytes()})
        report = client.get(answer.headers["content-location"] + "/report").text
        model = client.get("/health").json()["model"]
        styles = client.get("/static/emotions.css").text

    assert answer.status_code == 200
    assert answer.json()["predict"] in LABELS
    assert model["labels"] == list(LABELS)
    assert all(f"</i>{label}</span>" in report for label in LABELS)
    for label, style in label_styles(LABELS).items():
        assert f'[data-emotion="{label}"]{{--c:{style.colour}' in styles


def test_other_and_unknown_are_labels_like_the_others(every_label: Result) -> None:
    parts = every_label.channels[0].utterances if every_label.channels else ()

    for label in ("other", "unknown"):
        (part,) = (part for part in parts if part.emotion == label)
        assert MeanScores.over([part]).emotion == label


def test_each_label_has_its_colour_and_letter_in_the_report(every_label: Result) -> None:
    page = render(every_label)

    for number, (label, style) in enumerate(label_styles(LABELS).items()):
        assert f".e{number}{{--c:{style.colour}" in page
        assert f'<th scope="col" class="score" hidden>{label}</th>' in page
        assert f'<i class="swatch e{number}">{style.letter.upper()}</i>{label}' in page


def test_each_label_has_its_letter_in_the_terminal(every_label: Result) -> None:
    console = Console(width=120, file=io.StringIO(), record=True)

    for timeline in timelines([every_label], console.width):
        console.print(timeline)

    text = console.export_text()
    bar = next(line for line in text.splitlines() if line.startswith("channel 0"))
    assert [character for character in bar.removeprefix("channel 0") if character.isupper()] == list("ADFHNOSUK")
    assert all(f" {label}" in text for label in LABELS)


def test_csv_has_a_column_for_each_label(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify_files([ANGER], PipelineOptions(made.folder), form="csv") == 0

    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert sum(float(row[label]) for label in LABELS) == pytest.approx(1.0, abs=1e-5)


def test_the_function_needs_no_build_time_package(made: Made) -> None:
    program = f"""
import sys
for name in ("torch", "transformers", "onnx", "huggingface_hub", "safetensors", "yaml", "funasr", "omegaconf"):
    sys.modules[name] = None
import numpy
from pathlib import Path
from core.model.classifier import EmotionClassifier
print(len(EmotionClassifier.load(Path({str(made.folder)!r})).classify(numpy.ones(800, numpy.float32))))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip() == str(len(LABELS)), done.stderr
