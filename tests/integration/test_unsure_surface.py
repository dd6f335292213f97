"""The threshold of unsure scores in the command line, the report, the library, the function and the API."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.cli.app import main
from core.cli.local import function_settings
from core.library.audio_emotion import AudioEmotion
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Result, Source
from core.settings import CLI_PREFIX, MediaLimits, ScoreSettings, SegmentationSettings
from handlers import processing
from tests.conftest import ROOT
from tests.support.serving import service_from_environment

ANGER = ROOT / "samples" / "anger.wav"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; return the exit status and stdout."""

    def command(*arguments: str | Path, **environment: str) -> tuple[int, str]:
        for name, value in {"MODEL_DIR": str(package), **environment}.items():
            monkeypatch.setenv(CLI_PREFIX + name, value)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["audio-emotion", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return command


def test_classify_marks_scores_below_the_option_which_wins_over_the_environment(run: Run) -> None:
    _, unsure = run("classify", ANGER, "--json", "--unsure-below", "1", UNSURE_BELOW="0")
    _, sure = run("classify", ANGER, "--json", "--unsure-below", "0", UNSURE_BELOW="1")
    _, table = run("classify", ANGER, UNSURE_BELOW="1")
    _, rows = run("classify", ANGER, "--csv", UNSURE_BELOW="1")

    document = json.loads(unsure)
    assert document["unsure"] is document["channels"][0]["unsure"] is True
    assert document["unsure_below"] == 1.0
    assert {"unsure", "unsure_below"}.isdisjoint(json.loads(sure))
    assert document["emotion"] == json.loads(sure)["emotion"] == "anger"
    assert ", unsure" in table
    assert [row["unsure"] for row in csv.DictReader(io.StringIO(rows))] == ["true"]


def test_a_run_with_another_threshold_does_not_continue_a_file(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    run("classify", ANGER, "--out", out, "--unsure-below", "0.9999")
    run("classify", ANGER, "--out", out, "--unsure-below", "0", "--resume")

    documents = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert "unsure_below" not in documents[-1]


def test_a_report_takes_another_threshold_than_its_document(run: Run, tmp_path: Path) -> None:
    _, document = run("classify", ANGER, "--json")
    (tmp_path / "a.json").write_text(document, encoding="utf-8")

    for option, is_unsure in (("1", True), ("0", False)):
        page = tmp_path / f"{option}.html"
        assert run("report", tmp_path / "a.json", "--out", page, "--unsure-below", option)[0] == 0
        assert ("Unsure: the mean score of anger" in page.read_text(encoding="utf-8")) is is_unsure


def test_the_library_has_the_threshold(package: Path) -> None:
    assert AudioEmotion(package, unsure_below=1.0).classify(ANGER).unsure is True


def _is_unsure(pipeline: Pipeline) -> bool:
    return pipeline.run(ANGER, Source(key="a.wav")).unsure is True


def test_the_function_and_the_api_read_the_setting(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(package))
    monkeypatch.setenv("RESULTS_BUCKET", "results")
    monkeypatch.setenv("RESULTS_FOLDER", str(tmp_path))
    monkeypatch.setenv("UNSURE_BELOW", "1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    processing.delivery.cache_clear()
    try:
        assert _is_unsure(processing.delivery().pipeline)
    finally:
        processing.delivery.cache_clear()
    monkeypatch.delenv("RESULTS_BUCKET")
    assert service_from_environment(package).recogniser.classify_upload("1", ANGER).unsure is True


def test_the_local_stack_gets_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{CLI_PREFIX}UNSURE_BELOW", "0.4")

    assert function_settings()["UNSURE_BELOW"] == "0.4"


def test_a_failed_recording_has_no_threshold(classifier: EmotionClassifier, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("text")
    scores = ScoreSettings(unsure_below=0.5)
    result: Result = Pipeline(classifier, MediaLimits(), SegmentationSettings(), None, scores).run(
        tmp_path / "a.wav", Source(key="a.wav")
    )

    assert result.status == "failed"
    assert result.unsure_below is None
