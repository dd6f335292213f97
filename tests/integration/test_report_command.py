"""`audio-emotion report`."""

import shutil
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from typer.testing import CliRunner

from core.cli.app import app
from core.cli.parallel import PipelineOptions
from core.cli.report import ReportOptions, write_report
from core.errors import DecoderUnavailable, RecordingError, ResultUnreadable
from core.model.classifier import EmotionClassifier
from core.paths import DEMO_PACKAGE
from core.pipeline import Pipeline
from core.results import EmotionScores, Result, Source, Utterance
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT, MakeMedia
from tests.support.browser import accessibility_violations, running_browser

CONVERSATION = ROOT / "samples" / "conversation.ogg"
OTHER = ROOT / "samples" / "anger.wav"


@pytest.fixture(scope="module")
def document(classifier: EmotionClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipeline = Pipeline(classifier, MediaLimits(), SegmentationSettings())
    result = pipeline.run(CONVERSATION, Source(key="a call.ogg"))
    file = tmp_path_factory.mktemp("result") / "call.json"
    file.write_text(result.to_json(), encoding="utf-8")
    return file


def run(*arguments: str | Path, status: int = 0) -> str:
    """Run the command and return its output. Errors are raised, because `main` prints them."""
    done = CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == status
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


def test_a_recording_is_classified_first_and_can_be_played(tmp_path: Path) -> None:
    out = tmp_path / "call.html"

    with pytest.raises(ResultUnreadable, match=r"There are 2 names, but the recording has 1 channel\."):
        run(CONVERSATION, "-o", out, "--names", "Agent,Customer")
    assert not out.exists()

    run(CONVERSATION, "-o", out, "--names", "Anna <b>")

    page = out.read_text(encoding="utf-8")
    assert "<h1>conversation.ogg</h1>" in page
    assert "<h3>Anna &lt;b&gt;</h3>" in page
    assert '"name":"Anna \\u003cb>"' in page
    assert 'src="data:audio/mp4;base64,' in page


def test_a_recording_that_cannot_be_classified_has_a_page_and_exit_status_1(tmp_path: Path) -> None:
    broken, out = tmp_path / "broken.wav", tmp_path / "page.html"
    broken.write_bytes(b"not audio")

    run(broken, "-o", out, status=1)

    assert "This recording could not be classified" in out.read_text(encoding="utf-8")


def test_a_recording_that_does_not_exist_replaces_no_page(
    tmp_path: Path, document: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, recordings = tmp_path / "page.html", tmp_path / "calls"
    run(document, "-o", out)
    page = out.read_bytes()
    capfd.readouterr()

    assert write_report(tmp_path / "typo.wav", out, ReportOptions(PipelineOptions(DEMO_PACKAGE))) == 1

    assert f"{tmp_path}/typo.wav: There is no such file." in capfd.readouterr().err
    assert out.read_bytes() == page
    recordings.mkdir()
    (recordings / "broken.wav").write_bytes(b"not audio")
    assert write_report(recordings, tmp_path / "pages", ReportOptions(PipelineOptions(DEMO_PACKAGE))) == 1
    assert "broken.wav: " in capfd.readouterr().err


def test_silence_has_its_level_and_the_settings_that_matter(tmp_path: Path, make_media: MakeMedia) -> None:
    out = tmp_path / "page.html"
    for source, words in (
        ("anullsrc=r=16000:cl=mono:d=3", "peak level is \N{MINUS SIGN}120 dBFS: the recording is silent"),
        ("sine=frequency=300:duration=3,volume=-35dB", "dBFS: the recording is very quiet"),
        ("sine=frequency=300:duration=3,volume=10dB", "dBFS: the recording is loud enough"),
    ):
        run(make_media("tone.wav", source=source), "-o", out)

        page = out.read_text(encoding="utf-8")
        assert words in page
        assert "<code>SPEECH_THRESHOLD</code> (default 0.5)" in page


def test_a_long_recording_is_linked(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, out = tmp_path / "a call, 100%.ogg", tmp_path / "pages" / "call.html"
    shutil.copyfile(CONVERSATION, recording)
    monkeypatch.setattr("core.cli.sound.MAX_EMBEDDED_BYTES", 70_000)  # 17.8 s of mono are 71,360 bytes

    assert "The page links" in run(document, "--audio", recording, "-o", out)

    page = out.read_text(encoding="utf-8")
    assert 'src="../a%20call%2C%20100%25.ogg"' in page
    assert "media-src 'self' file:" in page
    with running_browser() as browser:
        browser.get(out.as_uri())
        WebDriverWait(browser, 20).until(
            lambda page: page.execute_script("return document.getElementById('player').duration > 17")
        )
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    with pytest.raises(ResultUnreadable, match=r"anger\.wav.* 2\.\d s.* 17\.8 s"):
        run(document, "--audio", OTHER, "-o", out)


def calls(folder: Path, document: Path) -> Path:
    """Write the documents of four calls: neutral, angry for a third of the time, failed, and silent."""
    result = Result.model_validate_json(document.read_bytes())
    (channel,) = result.channels or ()
    for name, emotions in (("calm.wav", ["neutral"] * 3), ("angry.wav", ["neutral", "anger", "neutral"])):
        parts = []
        for at, emotion in enumerate(emotions):
            scores = {label: 0.5 if label == emotion else 0.1 for label in result.model.labels}
            parts.append(Utterance(start_s=2 * at, end_s=2 * at + 1, **dict(EmotionScores.of(scores))))
        one = channel.model_copy(update={"utterances": tuple(parts), "speech_s": 3.0})
        write(folder, result.model_copy(update={"channels": (one,), "source": Source(key=f"in/{name}")}))
    error = RecordingError("It is damaged.")
    write(folder, Result.failed(Source(key="a&b.wav"), result.model, error))
    nothing = dict.fromkeys(("emotion", "score", "scores", "margin", "shares"))
    silent = {"status": "no_speech", "channels": (), "source": Source(key="other/calm.wav"), **nothing}
    write(folder / "more", result.model_copy(update=silent))
    (folder / "package.json").write_text('{"name": "not a result"}')
    return folder


def write(folder: Path, result: Result) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{Path(result.source.key).name}.json").write_text(result.to_json(), encoding="utf-8")


def test_a_folder_of_documents_has_an_index_worst_first(document: Path, tmp_path: Path) -> None:
    folder, out = calls(tmp_path / "results", document), tmp_path / "out"

    assert f"Wrote {out / 'index.html'} and 4 reports" in run(folder, "-o", out)

    assert sorted(file.name for file in out.iterdir()) == [
        "a_b.wav.html", "angry.wav.html", "calm.wav (2).html", "calm.wav.html", "index.html",
    ]  # fmt: skip
    with running_browser() as browser:
        browser.get((out / "index.html").as_uri())

        def column(number: int) -> list[str]:
            return [row.text for row in browser.find_elements(By.CSS_SELECTOR, f"tbody td:nth-child({number})")]

        assert column(1) == ["in/angry.wav", "in/calm.wav", "a&b.wav", "other/calm.wav"]
        assert column(3) == ["33%", "0%", "", ""]
        assert column(4)[2:] == ["It is damaged.", "No speech"]
        assert column(5)[:2] == ["0:02 anger 50%", ""]
        assert accessibility_violations(browser) == []
        browser.find_element(By.XPATH, "//button[.='Unpleasant']").click()
        assert column(3) == ["0%", "33%", "", ""]
        browser.find_element(By.XPATH, "//button[.='Recording']").click()
        assert column(1) == ["a&b.wav", "in/angry.wav", "in/calm.wav", "other/calm.wav"]
        head = browser.find_element(By.CSS_SELECTOR, "th[aria-sort]")
        assert (head.text.split()[0], head.get_attribute("aria-sort")) == ("Recording", "ascending")
        browser.find_element(By.LINK_TEXT, "in/angry.wav").click()
        assert browser.find_element(By.TAG_NAME, "h1").text == "angry.wav"
        assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_lines_of_documents_and_a_folder_of_recordings_have_an_index_too(document: Path, tmp_path: Path) -> None:
    lines, recordings = tmp_path / "results.jsonl", tmp_path / "calls"
    lines.write_text(document.read_text(encoding="utf-8") + "\nnot JSON\n" + document.read_text(encoding="utf-8"))
    recordings.mkdir()
    shutil.copyfile(OTHER, recordings / "anger.wav")

    assert "2 reports" in run(lines, "-o", tmp_path / "one")
    assert "1 report" in run(recordings, "-o", tmp_path / "two")

    assert "data:audio/mp4" in (tmp_path / "two" / "anger.wav.html").read_text(encoding="utf-8")
    (recordings / "anger.wav").unlink()
    with pytest.raises(ResultUnreadable, match="calls has no result documents and no recordings"):
        run(recordings, "-o", tmp_path / "three")
    with pytest.raises(ResultUnreadable, match="--audio is the recording of one result"):
        run(lines, "--audio", OTHER)
