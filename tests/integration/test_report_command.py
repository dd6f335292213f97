"""`audio-emotion report`."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.cli.app import app
from core.errors import DecoderUnavailable, ResultUnreadable
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT

CONVERSATION = ROOT / "samples" / "conversation.ogg"
OTHER = ROOT / "samples" / "anger.wav"


@pytest.fixture(scope="module")
def document(classifier: EmotionClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
    result = pipeline.run(CONVERSATION, Source(key="a call.ogg"))
    file = tmp_path_factory.mktemp("result") / "call.json"
    file.write_text(result.to_json(), encoding="utf-8")
    return file


def run(*arguments: str | Path) -> str:
    """Run the command and return its output. Errors are raised, because `main` prints them."""
    done = CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_page_is_written_to_the_given_file(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "call.html"

    assert str(out) in run(document, "-o", out)

    page = out.read_text(encoding="utf-8")
    assert "<h1>a call.ogg</h1>" in page
    assert "<audio" not in page


def test_a_page_with_the_recording_has_a_player(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "call.html"

    run(document, "--audio", CONVERSATION, "--out", out)

    assert '<audio id="player" controls preload="auto" src="data:audio/mp4;base64,' in out.read_text(encoding="utf-8")


def test_a_recording_of_another_duration_is_rejected(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "call.html"

    with pytest.raises(ResultUnreadable, match=r"anger\.wav.* 2\.\d s.* 17\.8 s"):
        run(document, "--audio", OTHER, "-o", out)

    assert not out.exists()


def test_a_page_replaces_a_page_but_no_other_file(document: Path, tmp_path: Path) -> None:
    out, recording = tmp_path / "call.html", tmp_path / "call.ogg"
    shutil.copyfile(CONVERSATION, recording)
    run(document, "-o", out)
    run(document, "-o", out)
    before = document.read_bytes()
    out.write_text("<!doctype html>\n<title>mine</title>")

    for file in (out, document, recording):
        with pytest.raises(ResultUnreadable, match=r"exists and is not a report\. Choose another file"):
            run(document, "--audio", recording, "-o", file)

    assert out.read_text().endswith("<title>mine</title>")
    assert (document.read_bytes(), recording.read_bytes()) == (before, CONVERSATION.read_bytes())


@pytest.mark.parametrize("content", [None, "{}", "not JSON"])
def test_a_file_that_is_not_a_result_is_rejected(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")

    with pytest.raises(ResultUnreadable, match=r"other\.json (cannot be read|is not a result document).*\.$"):
        run(file, "-o", tmp_path / "page.html")


def test_an_ffmpeg_without_aac_is_a_clear_error(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ffmpeg of this test exits before the command has written all samples to it."""
    stub = tmp_path / "bin" / "ffmpeg"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\ncase "$*" in *"-c:a aac"*) exit 1;; esac\nexec {shutil.which("ffmpeg")} "$@"\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=":")

    with pytest.raises(DecoderUnavailable, match="AAC"):
        run(document, "--audio", CONVERSATION, "-o", tmp_path / "page.html")
