"""`audio-emotion report`: a result document in, a page out."""

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
def document(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipeline = Pipeline(EmotionClassifier.load(package), MediaLimits(), SegmentationSettings())
    result = pipeline.run(CONVERSATION, Source(key="a call.ogg"))
    file = tmp_path_factory.mktemp("result") / "call.json"
    file.write_text(result.to_json(), encoding="utf-8")
    return file


def run(*arguments: str | Path) -> str:
    """What it prints; its errors go to `main`, which says them in one sentence."""
    done = CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_page_stands_where_it_is_said_to(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "not there yet" / "call.html"

    assert run(document, "-o", out) == f"The report is in {out}\n"

    page = out.read_text(encoding="utf-8")
    assert "<h1>a call.ogg</h1>" in page
    assert "<audio" not in page


def test_with_its_recording_the_page_has_a_player(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "call.html"

    run(document, "--audio", CONVERSATION, "--out", out)

    assert '<audio id="player" controls preload="auto" src="data:audio/mp4;base64,' in out.read_text(encoding="utf-8")


def test_another_recording_is_refused(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "call.html"

    with pytest.raises(ResultUnreadable, match=r"anger\.wav lasts 2\.\d s, .* 17\.8 s: it is another one"):
        run(document, "--audio", OTHER, "-o", out)

    assert not out.exists()


@pytest.mark.parametrize("content", [None, "{}", "not JSON"])
def test_what_is_no_result_is_refused_in_a_sentence(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")

    with pytest.raises(ResultUnreadable, match=r"other\.json (cannot be read|is no result document).*\.$"):
        run(file, "-o", tmp_path / "page.html")


def test_an_ffmpeg_that_cannot_write_aac_is_told(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at once, while a second of sound is still to be written to it."""
    stub = tmp_path / "bin" / "ffmpeg"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\ncase "$*" in *"-c:a aac"*) exit 1;; esac\nexec {shutil.which("ffmpeg")} "$@"\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=":")

    with pytest.raises(DecoderUnavailable, match="it may lack an AAC encoder"):
        run(document, "--audio", CONVERSATION, "-o", tmp_path / "page.html")
