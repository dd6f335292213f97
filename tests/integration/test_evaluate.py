"""`audio-emotion evaluate`, on the samples."""

import json
from pathlib import Path

import pytest

from core.audio.waveform import Waveform
from core.cli.evaluate import evaluate_manifest
from core.errors import FolderRefused, ManifestUnreadable
from core.model.classifier import EmotionClassifier, Scores
from tests.conftest import ROOT, MakeMedia


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    samples = ROOT / "samples"
    rows = ((samples / "anger.wav", "angry"), (samples / "happy.mp3", "joy"), (samples / "neutral.flac", "neutral"))
    file = tmp_path / "manifest.csv"
    file.write_text("path,emotion\n" + "".join(f"{path},{emotion}\n" for path, emotion in rows), encoding="utf-8")
    return file


def test_it_writes_metrics_and_a_confusion_matrix(
    manifest: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False) == 0

    figures = json.loads(capsys.readouterr().out)
    assert figures["recordings"] == 3
    assert set(figures["recall"]) == {"anger", "happy", "neutral"}
    assert json.loads((out / "figures.json").read_text(encoding="utf-8")) == figures
    assert (out / "confusion.svg").read_text(encoding="utf-8").startswith("<svg")


def test_recordings_without_an_emotion_of_the_model_are_named(
    manifest: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with manifest.open("a", encoding="utf-8") as file:
        file.write("a.wav,tired\nb.wav,\nc.wav,\n")

    assert evaluate_manifest(manifest, package, tmp_path / "out", "", as_json=True, fresh=False) == 0

    printed = " ".join(capsys.readouterr().err.split())
    assert "Skipped 1 recording labelled 'tired', which is not an emotion of" in printed
    assert "Skipped 2 recordings without an emotion." in printed


@pytest.mark.parametrize("name", ["figures.json", "confusion.svg", "finished.jsonl"])
def test_files_of_another_program_are_neither_replaced_nor_deleted(
    name: str, manifest: Path, package: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")

    with pytest.raises(FolderRefused, match=rf"{name} is not a file of an earlier evaluation"):
        evaluate_manifest(manifest, package, out, "", as_json=True, fresh=True)

    assert [file.read_text() for file in out.iterdir()] == ["mine"]


@pytest.fixture
def classified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each inference."""
    classified: list[int] = []
    classify = EmotionClassifier.classify

    def counted(classifier: EmotionClassifier, waveform: Waveform) -> Scores:
        classified.append(1)
        return classify(classifier, waveform)

    monkeypatch.setattr(EmotionClassifier, "classify", counted)
    return classified


def test_a_second_run_continues_one_that_was_killed(
    manifest: Path, package: Path, tmp_path: Path, classified: list[int]
) -> None:
    out = tmp_path / "out"
    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False)
    assert len(classified) == 3
    lines = (out / "finished.jsonl").read_text(encoding="utf-8").splitlines()
    # The run was killed while it wrote the third line.
    (out / "finished.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:10], encoding="utf-8")

    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False)
    assert len(classified) == 4
    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False)
    assert len(classified) == 4

    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=True)
    assert len(classified) == 7


def test_predictions_with_other_settings_or_of_another_file_are_not_reused(
    manifest: Path, package: Path, tmp_path: Path, classified: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = tmp_path / "a.wav"
    recording.write_bytes((ROOT / "samples" / "anger.wav").read_bytes())
    with manifest.open("a", encoding="utf-8") as file:
        file.write("a.wav,anger\n")
    out = tmp_path / "out"
    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False)
    assert len(classified) == 4

    recording.write_bytes((ROOT / "samples" / "neutral.flac").read_bytes())
    evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False)
    assert len(classified) == 5

    for name, value in (("AUDIO_EMOTION_CHANNELS", "split"), ("AUDIO_EMOTION_MAX_CHANNELS", "8")):
        monkeypatch.setenv(name, value)
        before = len(classified)
        evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False)
        assert len(classified) == before + 4


def test_unreadable_recordings_are_named_and_do_not_count(
    manifest: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with manifest.open("a", encoding="utf-8") as file:
        file.write("missing.wav,anger\nnull\0byte.wav,anger\n")

    status = evaluate_manifest(manifest, package, tmp_path / "out", "", as_json=True, fresh=False)

    shown = capsys.readouterr()
    assert status == 1
    assert json.loads(shown.out)["recordings"] == 3
    assert f"{tmp_path / 'missing.wav'}: There is no such file." in shown.err
    assert "embedded null byte" in shown.err


def test_a_recording_that_fails_is_named_counts_as_wrong_and_is_tried_again(
    manifest: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.wav").write_text("not a recording")
    with manifest.open("a", encoding="utf-8") as file:
        file.write("text.wav,sad\n")

    for _ in range(2):
        assert evaluate_manifest(manifest, package, tmp_path / "out", "", as_json=True, fresh=False) == 1

        shown = capsys.readouterr()
        assert json.loads(shown.out)["confusion"]["sad"] == {"failed": 1}
        assert shown.err.count("text.wav: ") == 1
    (tmp_path / "text.wav").write_bytes((ROOT / "samples" / "neutral.flac").read_bytes())
    assert evaluate_manifest(manifest, package, tmp_path / "out", "", as_json=True, fresh=False) == 0


def test_a_manifest_without_a_readable_recording_is_an_error_before_the_metrics(package: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,emotion\nmissing.wav,anger\n", encoding="utf-8")

    with pytest.raises(ManifestUnreadable, match=r"None of the recordings in .* can be read"):
        evaluate_manifest(manifest, package, tmp_path / "out", "", as_json=True, fresh=False)


def test_an_evaluation_of_recordings_that_all_fail_can_be_repeated(package: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not a recording")
    (tmp_path / "manifest.csv").write_text("path,emotion\ntext.wav,anger\n", encoding="utf-8")

    for _ in range(2):
        assert (
            evaluate_manifest(tmp_path / "manifest.csv", package, tmp_path / "out", "", as_json=True, fresh=False) == 1
        )


def test_the_table_shows_the_confusion_matrix(
    manifest: Path,
    package: Path,
    tmp_path: Path,
    make_media: MakeMedia,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    make_media("silence.wav", source="anullsrc=d=1")
    with manifest.open("a", encoding="utf-8") as file:
        file.write("silence.wav,sad\n")

    assert evaluate_manifest(manifest, package, tmp_path / "out", "", as_json=False, fresh=False) == 0

    figures = json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    assert figures["confusion"]["sad"] == {"no_speech": 1}
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    header = next(cells for cells in lines if cells[-1:] == ["recall"])
    assert header[-2:] == ["no_speech", "recall"]
    for emotion, predictions in figures["confusion"].items():
        (row,) = (cells[1:] for cells in lines if cells[:1] == [emotion] and cells != header)
        shown = dict(zip(header, row, strict=True))
        assert shown.pop("recall") == f"{figures['recall'][emotion]:.1%}"
        assert {name: int(count) for name, count in shown.items() if count != "·"} == predictions
    printed = " ".join(word for cells in lines for word in cells)
    assert f"{figures['unweighted_accuracy']:.1%} unweighted accuracy" in printed
    assert f"{tmp_path / 'out'}/" in printed


def test_two_models_are_compared_on_the_same_recordings(
    manifest: Path, package: Path, small_package: Path, tmp_path: Path, classified: list[int]
) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        evaluate_manifest(manifest, package, out, "", as_json=True, fresh=False, compare=small_package)

    assert len(classified) == 6
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    comparison = figures["comparison"]
    assert comparison["recordings"] == 3
    assert comparison["figures"]["unweighted_accuracy"]["value"] == figures["unweighted_accuracy"]
    assert comparison["model"]["fingerprint"] != ""
    assert "<h2>Comparison</h2>" in (out / "evaluation.html").read_text(encoding="utf-8")


def test_a_repeated_recording_counts_once(package: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sample = ROOT / "samples" / "anger.wav"
    (tmp_path / "manifest.csv").write_text(f"path,emotion\n{sample},anger\n{sample},anger\n", encoding="utf-8")

    manifest, out = tmp_path / "manifest.csv", tmp_path / "out"
    evaluate_manifest(manifest, package, out, "", as_json=False, fresh=False, compare=package)

    printed = capfd.readouterr()
    assert printed.err.count("1 line of the manifest repeats a recording, and does not count.") == 1
    assert "1 recording: " in printed.out


def test_speakers_and_conditions_of_the_manifest_have_figures(
    package: Path, tmp_path: Path, make_media: MakeMedia, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = ROOT / "samples"
    make_media("call.wav", "-ar", "8000", source="sine=d=1")
    rows = ((samples / "anger.wav", "anger", "ann", ""), (samples / "neutral.flac", "neutral", "bob", "street"))
    manifest = tmp_path / "manifest.csv"
    text = "".join(f"{path},{emotion},{speaker},{condition}\n" for path, emotion, speaker, condition in rows)
    manifest.write_text(f"path,emotion,speaker,condition\n{text}call.wav,sad,ann,\n", encoding="utf-8")

    assert evaluate_manifest(manifest, package, tmp_path / "out", "", as_json=False, fresh=False) == 0

    figures = json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    assert figures["intervals"]["drawn"] == "speakers"
    assert {name: subset["recordings"] for name, subset in figures["speakers"].items()} == {"ann": 2, "bob": 1}
    conditions = {name: subset["recordings"] for name, subset in figures["conditions"].items()}
    assert conditions == {"wide band": 1, "street": 1, "telephone band": 1}
    assert figures["calibration"]["clips"] == 2
    printed = " ".join(capsys.readouterr().out.split())
    assert "telephone band 1 0.0 % -" in printed
    assert "bootstrap over speakers" in printed
    assert "Expected calibration error" in printed
