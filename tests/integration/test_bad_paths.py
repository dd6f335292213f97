"""Recordings on the command line: one that cannot be read ends no run; standard input and folders are read."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from core.audio.conversion import convert
from core.cli.convert import convert_files
from core.errors import RecordingNotFound, RecordingTooLarge, RecordingUnreadable
from core.library.recordings import open_recording, recordings_in
from core.settings import MediaLimits, SegmentationSettings
from tests.conftest import ROOT

_WITHOUT_ROOTS_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""The superuser may read files without permission unless these rights are dropped."""


@dataclass(frozen=True)
class Done:
    status: int
    stdout: bytes
    stderr: bytes


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, package: Path) -> Run:
    """Run the command line in a separate process, without the superuser's rights over files."""

    def command(*arguments: str | bytes, stdin: bytes = b"") -> Done:
        prefix = _WITHOUT_ROOTS_RIGHTS if os.geteuid() == 0 else []
        done = subprocess.run(
            [*prefix, sys.executable, "-W", "error", "-m", "core.cli", *arguments],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "AUDIO_EMOTION_MODEL_DIR": str(package),
                "COLUMNS": "10000",
            },
            input=stdin,
            capture_output=True,
            timeout=200,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return command


@pytest.fixture
def bad_paths(tmp_path: Path) -> dict[str, str]:
    """Return paths that cannot be read -> a part of the sentence about each."""
    (tmp_path / "unreadable.wav").touch(mode=0)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.wav").touch()
    (tmp_path / "secret").chmod(0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling.wav").symlink_to("nowhere.wav")
    (tmp_path / "one.wav").symlink_to("other.wav")
    (tmp_path / "other.wav").symlink_to("one.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "text.wav").write_text("not a recording")
    (tmp_path / "nothing.wav").touch()
    return {
        "missing.wav": "There is no such file.",
        f"{'x' * 252}.wav": "File name too long",
        "text.wav/a.wav": "There is no such file.",
        "unreadable.wav": "The file cannot be read: Permission denied.",
        "secret": "The file cannot be read: Permission denied.",
        "secret/a.wav": "The file cannot be read: Permission denied.",
        "empty": "The folder contains no recordings.",
        "dangling.wav": "The link points to a file that does not exist.",
        "one.wav": "Too many levels of symbolic links",
        "pipe.wav": "This is a named pipe.",
        "/dev/null": "This is a device or a socket, not a file.",
        "text.wav": "",
        "nothing.wav": "The file is empty (0 bytes).",
    }


@pytest.fixture
def good_paths(tmp_path: Path, tone: Path) -> list[bytes]:
    """Return recordings with names that other programs may misread."""
    names = [b"tone.wav", b"./-y.wav", b"two\nlines.wav", b"latin1-\xe9.wav", b"%d [red] {}.wav", b"x" * 251 + b".wav"]
    for name in names[1:]:
        shutil.copy(tone, tmp_path / os.fsdecode(name))
    return names


@pytest.mark.parametrize("command", ["classify", "convert", "evaluate"])
def test_each_bad_path_gets_one_sentence_and_the_other_recordings_are_read(
    command: str, run: Run, bad_paths: dict[str, str], good_paths: list[bytes], tmp_path: Path
) -> None:
    bad = [path for path in bad_paths if command != "evaluate" or path != "empty"]
    files = [*map(os.fsencode, bad), *good_paths]
    if command == "classify":
        done = run("classify", "--json", *files)
        documents = [json.loads(line) for line in done.stdout.splitlines()]
        sentences = {
            document["source"]["key"]: document["error"]["message"] for document in documents if "error" in document
        }
        read = [document["source"]["key"] for document in documents if "error" not in document]
        codes = {document["source"]["key"]: document["error"]["code"] for document in documents if "error" in document}
        assert codes["missing.wav"] == codes["dangling.wav"] == "not_found"
        assert codes["unreadable.wav"] == codes["pipe.wav"] == codes["secret"] == "unreadable"
        assert len(read) == len(good_paths)
    elif command == "convert":
        done = run("convert", "--out", "out", *files)
        sentences = dict(line.split(": ", 1) for line in done.stderr.decode().splitlines())
        assert len(list((tmp_path / "out").iterdir())) == len(good_paths)
        assert all(soundfile.info(os.fsencode(file)).duration == 2.0 for file in (tmp_path / "out").iterdir())
    else:
        # A manifest is UTF-8, so it cannot name the recording whose name is not.
        good = [name for name in map(os.fsdecode, good_paths) if name.isprintable() or "\n" in name]
        rows = "".join(f'"{name}",anger\n' for name in (*bad, *good))
        (tmp_path / "manifest.csv").write_text("path,emotion\n" + rows, encoding="utf-8")
        done = run("evaluate", "manifest.csv", "--json")
        lines = [line for line in done.stderr.decode().splitlines() if "demo model" not in line and ": " in line]
        sentences = dict(line.split(": ", 1) for line in lines)
        # The two recordings that can be read but are not audio count as wrong.
        assert json.loads(done.stdout)["recordings"] == len(good) + 2

    assert done.status == 1
    assert b"Traceback" not in done.stderr
    assert set(sentences) == set(bad)
    for path in bad:
        assert bad_paths[path] in sentences[path]
        assert sentences[path].endswith((".", ")"))


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
def test_a_recording_is_read_from_standard_input(name: str, run: Run, tone: Path, tmp_path: Path) -> None:
    classified = run("classify", "--json", name, stdin=tone.read_bytes())
    converted = run("convert", name, "--out", "out", stdin=tone.read_bytes())

    document = json.loads(classified.stdout)
    assert document["source"] == {"key": name, "size_bytes": tone.stat().st_size}
    assert document["audio"]["duration_s"] == 2.0
    assert converted.status == 0, converted.stderr
    assert soundfile.info(tmp_path / "out" / "stdin.wav").duration == 2.0


def test_standard_input_has_the_limit_and_the_temporary_folder_of_uploads(
    tone: Path, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = MediaLimits(max_size_bytes=tone.stat().st_size)
    before = set(temporary_folder.iterdir())
    with tone.open("rb") as file:
        name = Path(f"/dev/fd/{file.fileno()}")
        with open_recording(name, limits) as copy:
            assert copy.read_bytes() == tone.read_bytes()
            assert copy.parent.parent == temporary_folder
        file.seek(0)
        with (
            pytest.raises(RecordingTooLarge, match="more bytes than the limit"),
            open_recording(name, MediaLimits(max_size_bytes=tone.stat().st_size - 1)),
        ):
            pass
    assert set(temporary_folder.iterdir()) == before


def test_a_closed_descriptor_and_a_terminal_are_refused() -> None:
    ours, terminal = os.openpty()
    name = Path(f"/dev/fd/{terminal}")
    with pytest.raises(RecordingUnreadable, match="terminal"), open_recording(name, MediaLimits()):
        pass
    os.close(ours)
    os.close(terminal)
    with pytest.raises(RecordingUnreadable, match="Bad file"), open_recording(name, MediaLimits()):
        pass


def test_a_folder_means_the_visible_recordings_directly_in_it(tmp_path: Path) -> None:
    for name in ("b.wav", "a.OPUS", ".hidden.wav", "notes.txt", "deep/c.wav", "folder.wav/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("link", "x" * 256):
        (tmp_path / f"to {name[:4]}").symlink_to(f"to {name}")
    other = Path("other.wav")

    assert list(recordings_in([other, tmp_path])) == [other, tmp_path / "a.OPUS", tmp_path / "b.wav"]
    assert list(recordings_in([tmp_path / "folder.wav"])) == [tmp_path / "folder.wav"]


def test_a_file_that_is_removed_while_it_is_read_is_not_found(tone: Path, tmp_path: Path) -> None:
    def decode() -> None:
        with open_recording(tone, MediaLimits()) as path:
            tone.unlink()
            convert(path, tmp_path, "converted", MediaLimits(), SegmentationSettings())

    with pytest.raises(RecordingNotFound, match="There is no such file"):
        decode()


def test_files_that_are_replaced_while_they_are_read_do_not_end_the_run(
    tone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flicker = tmp_path / "flicker.wav"
    done = subprocess.Popen(
        ["sh", "-c", 'while :; do cp "$1" "$2"; rm "$2"; echo text >"$2"; rm "$2"; done', "-", tone, flicker]
    )
    try:
        ends_at_s = time.monotonic() + 3
        while time.monotonic() < ends_at_s:
            assert convert_files([flicker, tone], tmp_path / "out") in (0, 1)
            assert "tone.wav ->" in capsys.readouterr().out.replace("\n", " ")
    finally:
        done.kill()
        done.wait()
