"""Every command writes to streams of any encoding, to closed ones and to a pipe without a reader, and obeys Ctrl-C."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
import typer.main

from core.cli import app as cli
from core.errors import NotAudio
from core.model.classifier import EmotionClassifier
from core.results import Result, Source
from tests.conftest import ROOT

_NAME = "é平😀"
"""Characters that ASCII, Latin-1 and UTF-16 encode differently."""

_COMMANDS = {
    "": ["--version"],
    "classify": ["classify", f"{_NAME}.wav"],
    "report": ["report", "result.json", "--out", f"{_NAME}.html"],
    "evaluate": ["evaluate", "manifest.csv", "--out", _NAME],
    "train": ["train", "manifest.csv", "--from", _NAME, "--out", "trained"],
    "convert": ["convert", f"{_NAME}.wav", "--out", "out"],
    "demo": ["demo", "--samples", _NAME, "--model", _NAME],
    "local": ["local", "--inbox", "inbox", "--model", _NAME],
    "backfill": ["backfill", "--stack", _NAME],
    "forget": ["forget", _NAME, "--stack", _NAME],
    "redrive": ["redrive", "--stack", _NAME],
    "status": ["status", "--stack", _NAME],
    "benchmark": ["benchmark", "--stack", _NAME],
    "results": ["results", "--folder", "results"],
    "schema": ["schema"],
    "model list": ["model", "list"],
    "model pull": ["model", "pull", "--from", "checkpoint", "--out", _NAME],
    "model export": ["model", "export", "checkpoint", "out", "--precision", _NAME],
}
"""Command -> arguments with which it prints these characters, in its output or its error, as far as it can."""

_FORMS = {"classify": ["--json", "--csv"], "results": ["--json", "--csv"], "evaluate": ["--json"]}

_SILENT = ("demo", "local", "backfill", "forget", "redrive", "status", "benchmark", "train", "model export")
"""Commands whose arguments above make them fail, so that they print on standard error only."""


def _commands(group: Any, name: str = "") -> Iterator[str]:
    if not hasattr(group, "commands"):
        yield name
        return
    for part, command in group.commands.items():
        yield from _commands(command, f"{name} {part}".strip())


ALL_COMMANDS = ["", *_commands(typer.main.get_command(cli.app))]
CASES = [(name, form) for name in ALL_COMMANDS for form in ("", *_FORMS.get(name, ()))]


def _arguments(name: str, form: str) -> list[str]:
    return [*_COMMANDS[name], *filter(None, [form])]


@pytest.fixture
def folder(
    tmp_path: Path,
    tone: Path,
    package: Path,
    classifier: EmotionClassifier,
    small_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A working folder with a file for every command."""
    shutil.copy(tone, tmp_path / f"{_NAME}.wav")
    (tmp_path / "manifest.csv").write_text(f"path,emotion\n{_NAME}.wav,anger\n{_NAME}2.wav,anger\n", encoding="utf-8")
    (tmp_path / "checkpoint").symlink_to(small_checkpoint)
    (tmp_path / "results").mkdir()
    result = Result.failed(Source(key=f"{_NAME}.wav"), classifier.identity, NotAudio(_NAME))
    for file in ("result.json", f"results/{_NAME}.json"):
        (tmp_path / file).write_text(result.to_json(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIO_EMOTION_MODEL_DIR", str(package))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def _run(arguments: list[str], stdout: TextIO | None, stderr: TextIO | None, patch: pytest.MonkeyPatch) -> int:
    with patch.context() as streams:
        streams.setattr(sys, "argv", ["audio-emotion", *arguments])
        streams.setattr(sys, "stdout", stdout)
        streams.setattr(sys, "stderr", stderr)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)


def test_every_command_is_tested() -> None:
    assert set(_COMMANDS) == set(ALL_COMMANDS)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1"])
@pytest.mark.parametrize(("name", "form"), CASES)
def test_characters_that_the_encoding_lacks_are_escaped(
    name: str, form: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))

    status = _run(_arguments(name, form), stdout, stderr, monkeypatch)

    written = [stream.buffer.getvalue().decode(encoding) for stream in (stdout, stderr)]
    assert status == int(name in _SILENT or name == "evaluate")
    if name not in ("", "convert", "evaluate", "schema", "model list") or ("--json" in form and name != "evaluate"):
        assert "\\u5e73\\ud83d\\ude00" in "".join(written)
    if form == "--json" and name != "evaluate":
        assert json.loads(written[0])["source"]["key"] == f"{_NAME}.wav"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_pipe_without_a_reader_ends_the_command(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with open(writing, "w", encoding="utf-8") as stdout:
        assert _run(_arguments(name, form), stdout, stderr, monkeypatch) == 1

    assert "Traceback" not in stderr.buffer.getvalue().decode()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("name", "form"), CASES)
def test_closed_streams_end_the_command(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")

    assert _run(_arguments(name, form), None, stderr, monkeypatch) == 1
    if name not in _SILENT:
        message = stderr.buffer.getvalue().decode()
        assert message.endswith("audio-emotion: Standard output is closed.\n")
    assert _run(_arguments(name, form), None, None, monkeypatch) == 1


class _Interrupting(io.StringIO):
    """A stream at whose first line the user presses Ctrl-C."""

    def write(self, text: str) -> int:
        signal.raise_signal(signal.SIGINT)
        return len(text)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("name", "form"), CASES)
def test_ctrl_c_ends_the_command_without_a_traceback(name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()

    status = _run(_arguments(name, form), _Interrupting(), _Interrupting() if name in _SILENT else stderr, monkeypatch)

    assert status == 130
    assert "Traceback" not in stderr.getvalue()


@pytest.mark.parametrize("redirection", ["| true", ">&-", ">/dev/full", "2>&- >&-"])
def test_a_process_prints_no_traceback_at_its_exit(redirection: str) -> None:
    program = f"set -o pipefail; {sys.executable} -W error -m core.cli schema {redirection}"
    done = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 1
    assert not done.stderr or done.stderr.startswith("audio-emotion: ")
    assert done.stderr.count("\n") <= 1
