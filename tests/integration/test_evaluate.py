"""`audio-emotion evaluate`, on the samples."""

import json
from pathlib import Path

import pytest

from core.cli.evaluate import evaluate_manifest
from core.model.classifier import EmotionClassifier, Scores
from core.waveform import Waveform
from tests.conftest import ROOT


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    samples = ROOT / "samples"
    rows = ((samples / "anger.wav", "angry"), (samples / "happy.mp3", "joy"), (samples / "neutral.flac", "neutral"))
    file = tmp_path / "manifest.csv"
    file.write_text("path,emotion\n" + "".join(f"{path},{emotion}\n" for path, emotion in rows), encoding="utf-8")
    return file


def test_it_writes_figures_a_picture_and_every_row(
    manifest: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False) == 0

    figures = json.loads(capsys.readouterr().out)
    assert figures["recordings"] == 3
    assert set(figures["recall"]) == {"anger", "happy", "neutral"}
    assert json.loads((out / "figures.json").read_text(encoding="utf-8")) == figures
    assert (out / "confusion.svg").read_text(encoding="utf-8").startswith("<svg")


def test_a_second_run_goes_on_where_the_first_stopped(
    manifest: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False)
    lines = (out / "finished.jsonl").read_text(encoding="utf-8").splitlines()
    # As if the run had been killed in the middle of its third line.
    (out / "finished.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:10], encoding="utf-8")
    asked: list[int] = []
    classify = EmotionClassifier.classify

    def counted(classifier: EmotionClassifier, waveform: Waveform) -> Scores:
        asked.append(1)
        return classify(classifier, waveform)

    monkeypatch.setattr(EmotionClassifier, "classify", counted)

    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False)
    assert len(asked) == 1

    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=True)
    assert len(asked) == 4
