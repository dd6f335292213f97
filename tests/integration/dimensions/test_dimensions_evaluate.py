"""The evaluation of a model that returns dimensions."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from core.cli.app import app
from core.pipeline import Pipeline
from core.results import Source
from tests.conftest import ROOT, MakeMedia


def manifest_with(folder: Path, header: str, *rows: str) -> Path:
    for name in ("anger.wav", "happy.mp3", "neutral.flac"):
        shutil.copy(ROOT / "samples" / name, folder / name)
    file = folder / "manifest.csv"
    file.write_text("\n".join((header, *rows, "")), encoding="utf-8")
    return file


def evaluate(manifest: Path, package: Path, *options: str) -> tuple[int, str, str]:
    out = ["--out", str(manifest.parent / "out")]
    done = CliRunner().invoke(app, ["evaluate", str(manifest), "--model", str(package), *out, *options])
    message = str(done.exception) if done.exception and not isinstance(done.exception, SystemExit) else done.stderr
    return done.exit_code, done.stdout, message


def test_evaluation_measures_the_concordance_of_each_dimension(
    linear_package: Path, pipeline: Pipeline, tmp_path: Path, make_media: MakeMedia
) -> None:
    shutil.copy(make_media("silence.wav", source="anullsrc=d=1"), tmp_path / "quiet.wav")
    files = ("anger.wav", "happy.mp3", "neutral.flac")
    found = [pipeline.run(ROOT / "samples" / name, Source(key=name)).dimensions or {} for name in files]
    rows = [f"{name},{one['arousal'] + 0.1:.6f},{-one['valence']:.6f}" for name, one in zip(files, found, strict=True)]
    manifest = manifest_with(tmp_path, "path,Arousal,valence", *rows, "quiet.wav,0.5,")

    status, shown, _ = evaluate(manifest, linear_package, "--json")

    figures = json.loads(shown)
    assert status == 0
    assert (figures["recordings"], figures["without_values"]) == (4, 1)
    assert figures == json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    arousal, valence = (np.array([one[name] for one in found]) for name in ("arousal", "valence"))
    expected = 2 * arousal.var() / (2 * arousal.var() + 0.01)  # a shift by 0.1
    assert figures["dimensions"]["arousal"]["concordance"] == pytest.approx(expected, abs=1e-4)
    assert figures["dimensions"]["arousal"]["correlation"] == pytest.approx(1.0, abs=1e-6)
    opposite = -2 * valence.var() / (2 * valence.var() + (2 * valence.mean()) ** 2)
    assert figures["dimensions"]["valence"]["concordance"] == pytest.approx(opposite, abs=1e-4)
    assert "dominance" not in figures["dimensions"]

    status, shown, _ = evaluate(manifest, linear_package)  # from the predictions of the first run
    assert status == 0
    assert f"{expected:.3f}" in next(line for line in shown.splitlines() if line.startswith("arousal"))
    assert "4 recordings, 1 without values" in shown


@pytest.mark.parametrize(
    ("header", "row", "sentence"),
    [
        ("path,emotion", "anger.wav,anger", "at least one of arousal, dominance, valence"),
        ("path,arousal", "anger.wav,high", "Line 2 of .* has 'high' in the column arousal, not a number"),
        ("path,arousal", "anger.wav,nan", "Line 2 of .* has 'nan' in the column arousal, not a number"),
        ("path,arousal", "anger.wav,", "The columns arousal in .* have no values"),
    ],
)
def test_a_manifest_that_does_not_fit_the_model_is_refused_in_one_sentence(
    header: str, row: str, sentence: str, linear_package: Path, tmp_path: Path
) -> None:
    status, _, message = evaluate(manifest_with(tmp_path, header, row), linear_package)

    assert status == 1
    assert re.search(sentence, message)


def test_a_manifest_of_dimensions_does_not_fit_a_model_with_emotions(package: Path, tmp_path: Path) -> None:
    status, _, message = evaluate(manifest_with(tmp_path, "path,arousal", "anger.wav,0.5"), package)

    assert status == 1
    assert "the columns path and emotion, because the model returns emotions" in message


def test_a_manifest_with_emotions_too_is_evaluated_by_its_numbers(linear_package: Path, tmp_path: Path) -> None:
    manifest = manifest_with(tmp_path, "path,emotion,arousal", "anger.wav,anger,6.5", "happy.mp3,happy,5")

    status, shown, notes = evaluate(manifest, linear_package, "--json")

    assert status == 0
    assert json.loads(shown)["dimensions"].keys() == {"arousal"}
    notes = " ".join(notes.split())
    assert "The column emotion is ignored, because the model returns arousal, dominance, valence." in notes
    assert "The column arousal has values from 5 to 6.5, but the model's range is 0 to 1." in notes
    status, _, message = evaluate(manifest, linear_package, "--map", "mad=anger")
    assert status == 1
    assert "--map translates emotions, but the model returns values of dimensions." in message
