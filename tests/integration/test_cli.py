"""The command line: output, errors and exit status."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jsonschema
import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from core import __version__
from core.cli.app import app, main
from core.emotions import label_styles
from core.formatting import clock
from core.settings import CLI_PREFIX
from tests.conftest import ROOT

PROGRAM = [sys.executable, "-W", "error", "-m", "core.cli"]
"""The program in a separate process, with warnings as errors."""


@dataclass(frozen=True)
class Done:
    status: int
    stdout: str
    stderr: str


class Run(Protocol):
    def __call__(self, *arguments: str | Path, **environment: str) -> Done: ...


@pytest.fixture
def run(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, in the test's own folder and with the demo model."""

    def command(*arguments: str | Path, **environment: str) -> Done:
        monkeypatch.chdir(tmp_path)
        for name, value in {f"{CLI_PREFIX}MODEL_DIR": str(package), "COLUMNS": "200", **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["audio-emotion", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return Done(int(ended.value.code or 0), shown.out, shown.err)

    return command


def test_the_program_runs_in_a_separate_process(tone: Path, package: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "classify", tone.name],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AUDIO_EMOTION_MODEL_DIR": str(package)},
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode == 0, done.stderr
    assert "tone.wav" in done.stdout


def test_the_table_has_a_row_for_each_recording(run: Run, tone: Path) -> None:
    done = run("classify", tone.name)

    assert done.status == 0
    header, row = (line for line in done.stdout.splitlines() if line.strip())
    assert header.split() == ["recording", "duration", "emotion", "time"]
    assert row.startswith("tone.wav")
    assert "2.0 s" in row


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    """Return every command by its words, such as `model pull`."""
    found: dict[str, Any] = {}

    def collect(group: Any, start: str) -> None:
        for name, command in group.commands.items():
            words = f"{start} {name}".strip()
            if hasattr(command, "commands"):
                collect(command, words)
            else:
                found[words] = command

    collect(typer.main.get_command(app), "")
    return found


def test_no_help_names_a_type_of_flags(commands: dict[str, Any]) -> None:
    for words in ("", "model", *commands):
        done = CliRunner().invoke(app, [*words.split(), "--help"])
        assert done.exit_code == 0
        assert "bool" not in done.stdout


def test_every_help_has_examples_that_the_command_understands(commands: dict[str, Any]) -> None:
    for words, command in commands.items():
        title, *examples = command.epilog.splitlines()
        assert title == "Examples:"
        assert f"audio-emotion {words}" in examples[-1]
        for line in examples:
            program, *arguments = shlex.split(re.split(" [<>] ", line)[0])
            assert program == "audio-emotion"
            named = next(each for each in commands if arguments[: len(each.split())] == each.split())
            commands[named].make_context(named, arguments[len(named.split()) :])


def test_json_prints_one_document_per_line_and_nothing_else(run: Run, tone: Path, tmp_path: Path) -> None:
    (tmp_path / "a b.wav").write_bytes(tone.read_bytes())

    done = run("classify", "--json", "tone.wav", "a b.wav")

    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.status == 0
    assert [document["source"]["key"] for document in documents] == ["tone.wav", "a b.wav"]
    schema = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
    for document in documents:
        jsonschema.validate(document, schema)


def test_the_demo_model_is_announced_once_on_stderr(run: Run, tone: Path, package: Path) -> None:
    if not json.loads((package / "manifest.json").read_text())["demo"]:
        pytest.skip("the demo package does not exist")

    done = run("classify", "--json", tone, tone)

    assert done.stderr.count("demo model") == 1
    assert "demo model" not in done.stdout
    assert all(json.loads(line)["model"]["demo"] is True for line in done.stdout.splitlines())


def test_a_file_that_fails_does_not_stop_the_others(run: Run, tone: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a recording")

    done = run("classify", "--json", "notes.txt", "missing.wav", "tone.wav")

    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.status == 1
    assert [document["status"] == "failed" for document in documents] == [True, True, False]
    assert documents[1]["error"]["message"] == "There is no such file."


def test_a_missing_file_is_an_error_in_the_table(run: Run) -> None:
    done = run("classify", "missing.wav")

    assert done.status == 1
    assert "failed: There is no such file." in done.stdout


@pytest.mark.parametrize(
    ("options", "on_the_same_terminal"), [([], False), (["--json"], False), (["--csv"], False), (["--json"], True)]
)
def test_progress_is_shown_on_a_terminal_but_not_between_output_lines(
    options: list[str], on_the_same_terminal: bool, tone: Path, package: Path, tmp_path: Path
) -> None:
    ours, terminal = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "classify", *options, "tone.wav", "tone.wav"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "AUDIO_EMOTION_MODEL_DIR": str(package),
            "TERM": "xterm",
        },
        stdout=terminal if on_the_same_terminal else subprocess.PIPE,
        stderr=terminal,
        stdin=subprocess.DEVNULL,
    ) as process:
        os.close(terminal)
        written = _read_all(ours)
        stdout = process.stdout.read() if process.stdout else b""

    assert process.returncode == 0
    assert [text in written for text in ("2/2", "tone.wav  ")] == [not on_the_same_terminal] * 2
    if not on_the_same_terminal:
        assert b"\x1b" not in stdout
        assert stdout.count(b"tone.wav") == 2


def _read_all(terminal: int) -> str:
    written = b""
    try:
        while piece := os.read(terminal, 65536):
            written += piece
    except OSError:  # Linux's answer once no process has the terminal open
        pass
    os.close(terminal)
    return written.decode()


def test_a_stereo_call_has_a_timeline_for_each_channel(run: Run, tmp_path: Path) -> None:
    one, rate = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    other, _ = soundfile.read(ROOT / "samples" / "neutral.flac", dtype="float32")
    pause = np.zeros(2 * rate, np.float32)
    sides = [[one, pause, 0 * other, pause], [0 * one, pause, other, pause]]
    soundfile.write(tmp_path / "call.wav", np.stack([np.concatenate(side) for side in sides], axis=1), rate)

    document = json.loads(run("classify", "--json", "call.wav").stdout)
    shown = run("classify", "call.wav").stdout.splitlines()

    parts = [channel["utterances"][0] for channel in document["channels"]]
    assert [len(channel["utterances"]) for channel in document["channels"]] == [1, 1]
    duration_s = document["audio"]["duration_s"]
    for number, part in enumerate(parts):
        (bar,) = (line.split()[2] for line in shown if line.startswith(f"channel {number}"))
        letter = label_styles(document["model"]["labels"])[part["emotion"]].letter
        begins, ends = (part[name] / duration_s * len(bar) for name in ("start_s", "end_s"))
        spoken = bar.strip("·")
        assert spoken == letter.upper() + letter * (len(spoken) - 1)
        assert bar.index(spoken) == pytest.approx(begins, abs=1)
        assert bar.index(spoken) + len(spoken) == pytest.approx(ends, abs=1)
        row = [str(number), clock(part["start_s"], digits=1), clock(part["end_s"], digits=1), part["emotion"]]
        assert [line.split()[:4] for line in shown].count(row) == 1


def test_control_characters_in_a_name_are_replaced(run: Run, tone: Path, tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J[red]x.wav").write_bytes(tone.read_bytes())

    done = run("classify", "\x1b[2J[red]x.wav")

    assert done.status == 0
    assert "\x1b[2J" not in done.stdout
    assert "[2J[red]x.wav" in done.stdout


@pytest.mark.parametrize("model", ["missing-folder", "."])
def test_a_folder_without_a_model_is_a_one_line_error(model: str, run: Run, tone: Path) -> None:
    done = run("classify", tone, "--model", model)

    assert done.status == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("audio-emotion: ")
    assert "contains neither a serving package" in line


def test_a_damaged_package_is_a_one_line_error(run: Run, tone: Path, copied_package: Path) -> None:
    (copied_package / "model.onnx").write_bytes(b"damaged")

    done = run("classify", tone, "--model", copied_package)

    (line,) = done.stderr.splitlines()
    assert done.status == 1
    assert "does not match the hash" in line


def test_an_invalid_setting_is_a_one_line_error_that_names_the_variable(run: Run, tone: Path) -> None:
    done = run("classify", tone, AUDIO_EMOTION_MAX_DURATION_S="long")

    assert done.status == 1
    (line,) = done.stderr.splitlines()
    assert "AUDIO_EMOTION_MAX_DURATION_S" in line


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    """A recording whose two channels carry the same speech, so that `auto` mixes them."""
    speech, rate = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    soundfile.write(tmp_path / "stereo.wav", np.stack([speech, speech], axis=1), rate)
    return tmp_path / "stereo.wav"


def _channels(done: Done) -> int:
    return len(json.loads(done.stdout)["channels"])


def test_a_variable_of_another_program_does_not_break_a_command(run: Run, stereo: Path) -> None:
    done = run("classify", "--json", stereo, CHANNELS="2")

    assert done.status == 0, done.stderr
    assert _channels(done) == 1


def test_a_setting_is_read_under_its_prefix(run: Run, stereo: Path) -> None:
    assert _channels(run("classify", "--json", stereo, AUDIO_EMOTION_CHANNELS="split")) == 2


def test_a_setting_of_1_0_is_still_read_without_its_prefix(
    run: Run, stereo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _channels(run("classify", "--json", stereo, CHANNELS="split")) == 2
    assert "AUDIO_EMOTION_CHANNELS" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "used"), [("", "b-model", "b-model"), ("a-model", "", "a-model"), ("a-model", "b-model", "b-model")]
)
def test_a_variable_names_the_model_and_the_prefixed_one_wins(
    old: str, new: str, used: str, run: Run, tone: Path
) -> None:
    done = run("classify", tone, MODEL_DIR=old, AUDIO_EMOTION_MODEL_DIR=new)

    assert done.status == 1
    assert used in done.stderr


def test_help_names_the_variables_with_their_prefix(run: Run) -> None:
    shown = run("classify", "--help").stdout

    assert "AUDIO_EMOTION_MODEL_DIR" in shown
    assert "AUDIO_EMOTION_CHANNELS" in shown


def test_version_prints_the_version(run: Run) -> None:
    done = run("--version")

    assert (done.status, done.stdout) == (0, f"audio-emotion {__version__}\n")


def test_help_names_every_command(run: Run) -> None:
    done = run("--help")

    assert done.status == 0
    for command in ("classify", "convert", "model", "demo", "local"):
        assert command in done.stdout


def test_the_help_of_a_command_has_its_options_and_exit_status(run: Run) -> None:
    done = run("classify", "--help")

    assert done.status == 0
    assert "--json" in done.stdout
    assert "exit status is 1" in done.stdout


def test_convert_overwrites_no_file(run: Run, tone: Path, tmp_path: Path) -> None:
    before = tone.read_bytes()

    done = run("convert", "tone.wav", "tone.wav", "--out", ".")

    assert done.status == 0
    assert tone.read_bytes() == before
    assert sorted(file.name for file in tmp_path.glob("*.wav")) == ["tone-2.wav", "tone-3.wav", "tone.wav"]
    assert soundfile.info(tmp_path / "tone-2.wav").samplerate == 16_000


def test_convert_names_the_file_that_failed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a recording")

    done = run("convert", "notes.txt", "--out", "out")

    assert done.status == 1
    assert done.stderr.startswith("notes.txt: ")
    assert list((tmp_path / "out").iterdir()) == []


def test_converting_into_a_file_is_a_one_line_error(run: Run, tone: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()

    done = run("convert", tone, "--out", "out")

    assert done.status == 1
    assert done.stderr == "audio-emotion: out: File exists.\n"


def test_a_checkpoint_is_pulled_exported_and_classified_with(
    run: Run, tone: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    pulled = run("model", "pull", "--from", small_checkpoint, "--out", "checkpoint")
    assert (pulled.status, pulled.stderr) == (0, "")
    assert "hubert-base-ch" in pulled.stdout

    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "tone.wav").write_bytes(tone.read_bytes())
    (tmp_path / "speech" / "README").write_text("not a recording")
    exported = run("model", "export", "checkpoint", "package", "--precision", "fp32", "--calibration", "speech")
    assert exported.status == 0, exported.stderr
    assert "fp32" in exported.stdout

    classified = run("classify", "--json", tone, "--model", "package")
    document = json.loads(classified.stdout)
    assert document["model"]["id"] == "xmj2002/hubert-base-ch-speech-emotion-recognition"
    assert document["model"]["revision"] == "local"
    assert document["model"]["precision"] == "fp32"


def test_pulling_from_an_empty_folder_is_a_one_line_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    done = run("model", "pull", "--from", "empty", "--out", "checkpoint")

    assert (done.status, done.stdout) == (1, "")
    assert done.stderr.startswith("audio-emotion: empty ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "checkpoint").exists()


def test_an_unknown_precision_is_a_one_line_error(run: Run, small_checkpoint: Path) -> None:
    done = run("model", "export", small_checkpoint, "package", "--precision", "int4")

    assert done.status == 1
    (line,) = done.stderr.splitlines()
    assert all(name in line for name in ("int4", "auto", "int8", "int8-ffn", "fp32"))


def test_the_schema_is_the_one_in_the_repository(run: Run) -> None:
    done = run("schema")

    assert json.loads(done.stdout) == json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
