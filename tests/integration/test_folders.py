"""`classify` on many files: worker processes, the files that it writes, and runs that continue."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from core.cli import parallel
from core.cli.app import main
from core.cli.journal import Journal
from core.cli.parallel import Task, classify_in_workers, number_of_workers
from core.errors import AudioEmotionError, DiskUnavailable, WorkerEnded
from core.library.recordings import classify_file, files_listed_in, recordings_in
from core.pipeline import Pipeline
from core.results import Result
from tests.conftest import ROOT
from tests.support.deadly import MODEL, DeadlyOptions

ANGER = ROOT / "samples" / "anger.wav"


@pytest.fixture
def calls(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with three recordings in `calls` and the folders in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIO_EMOTION_MODEL_DIR", str(package))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("b.wav", "a/c.wav", "a/deep/d.wav"):
        (tmp_path / "calls" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ANGER, tmp_path / "calls" / name)
    return tmp_path / "calls"


@pytest.fixture
def classified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that this process classifies."""
    names: list[str] = []

    def recorded(file: Path, pipeline: Pipeline) -> Result:
        names.append(str(file))
        return classify_file(file, pipeline)

    monkeypatch.setattr(parallel, "classify_file", recorded)
    return names


def classify(*arguments: str, status: int = 0) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["audio-emotion", "classify", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == status


def documents(file: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    found = {document["source"]["key"]: document for document in lines}
    assert len(found) == len(lines)
    return found


# Which files


def test_folders_in_folders_are_included_on_request(calls: Path) -> None:
    for name in (".hidden/x.wav", "@eaDir/x.wav", "a/x.wav.part", "a/notes.txt"):
        (calls / name).parent.mkdir(exist_ok=True)
        (calls / name).touch()
    (calls / "loop").symlink_to(".")

    assert list(recordings_in([Path("calls")])) == [Path("calls/b.wav")]
    assert list(recordings_in([Path("calls"), Path("x.wav")], is_recursive=True)) == [
        *(Path("calls", name) for name in ("b.wav", "a/c.wav", "a/deep/d.wav")),
        Path("x.wav"),
    ]
    assert list(recordings_in([Path("calls/.hidden/none")], is_recursive=True)) == [Path("calls/.hidden/none")]


@pytest.mark.parametrize(
    "text", [b"a b.wav\n\ncaf\xe9.wav", b"\xef\xbb\xbfa b.wav\r\ncaf\xe9.wav\r\n", b"a b.wav\0caf\xe9.wav\0"]
)
def test_a_list_has_a_path_on_each_line_or_between_null_bytes(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(text)

    assert files_listed_in(tmp_path / "list") == [Path("a b.wav"), Path(os.fsdecode(b"caf\xe9.wav"))]


def test_paths_are_read_from_standard_input(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"calls/a\nmissing.wav\n")
    os.close(writing)
    stdin = os.dup(0)
    os.dup2(reading, 0)
    try:
        classify("--json", "calls/b.wav", "--files-from", "-", status=1)
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(reading)

    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["source"]["key"] for each in shown] == ["calls/b.wav", "calls/a/c.wav", "missing.wav"]


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name recordings or folders"),
        (["calls", "--resume"], "--resume needs --out"),
        (["calls", "--out", "results.txt"], "--out must end in .jsonl, .csv, .parquet"),
        (["calls", "--out", "results.csv", "--json"], "instead of --json and --csv"),
        (["calls", "--out", "results.jsonl", "--per", "recording"], "--per needs"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classify(*arguments, status=2)

    assert sentence in capsys.readouterr().err


@pytest.mark.usefixtures("calls")
def test_a_missing_list_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    classify("--files-from", "missing", status=1)

    assert capsys.readouterr().err == "audio-emotion: missing: No such file or directory.\n"


# The table


@pytest.mark.usefixtures("calls")
def test_the_table_has_each_row_as_soon_as_it_is_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classified: list[str] = []
    shown: list[str] = []

    def looked_at(file: Path, pipeline: Pipeline) -> Result:
        shown.append(capsys.readouterr().out)
        classified.append(str(file))
        return classify_file(file, pipeline)

    monkeypatch.setattr(parallel, "classify_file", looked_at)
    classify("calls", "--recursive")

    lines = [line for text in (*shown, capsys.readouterr().out) for line in text.splitlines() if line.strip()]
    assert [text.count("anger") for text in shown] == [0, 1, 1]
    assert [line.split()[0] for line in lines] == ["recording", *classified]
    assert len({line.index(" s ") for line in lines[1:]}) == 1


# Workers


def tasks(folder: Path, *names: str) -> Iterator[Task]:
    for number, name in enumerate(names):
        (folder / name).touch()
        yield Task(number, folder / name, None)


def test_a_file_that_kills_its_worker_gets_a_sentence_and_the_others_are_classified(tmp_path: Path) -> None:
    names = ["a.wav", "kill.wav", "b.wav", "kill-once.wav", "c.wav"]

    finished = list(classify_in_workers(tasks(tmp_path, *names), DeadlyOptions(tmp_path), MODEL, 2))

    outcomes = {task.file.name: result.error.code if result.error else result.status for task, result in finished}
    assert outcomes == {**dict.fromkeys(names, "no_speech"), "kill.wav": "given_up"}
    assert len(finished) == len(names)
    (error,) = (result.error for _, result in finished if result.error)
    assert "was killed twice" in error.message


def test_files_are_taken_only_when_a_worker_is_free(tmp_path: Path) -> None:
    taken: list[int] = []

    def counted() -> Iterator[Task]:
        for task in tasks(tmp_path, *(f"{number}.wav" for number in range(20))):
            taken.append(task.number)
            yield task

    for count, _ in enumerate(classify_in_workers(counted(), DeadlyOptions(tmp_path), MODEL, 1), 1):
        assert len(taken) <= count + 1
    assert taken == list(range(20))


@pytest.mark.parametrize(
    ("model", "name", "error"), [("unloadable", "a.wav", WorkerEnded), ("model", "full.wav", DiskUnavailable)]
)
def test_an_error_that_no_recording_causes_ends_the_run(
    model: str, name: str, error: type[AudioEmotionError], tmp_path: Path
) -> None:
    with pytest.raises(error):
        list(classify_in_workers(tasks(tmp_path, name), DeadlyOptions(tmp_path / model), MODEL, 1))


def test_processors_have_a_worker_each_if_there_are_enough_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "default_threads", lambda _: 4)
    files = [Path(f"{number}.wav") for number in range(100)]

    assert [number_of_workers(files[:count], None) for count in (1, 15, 16, 24, 100)] == [1, 1, 2, 3, 4]
    assert number_of_workers(files[:2], 3) == 3
    assert number_of_workers([*files, Path("-")], 4) == 1


def test_workers_return_what_this_process_returns_and_in_the_same_order(
    calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (calls / "a" / "bad.wav").write_text("not a recording")
    shown = []
    for jobs in ("1", "2"):
        classify("calls", "--recursive", "--json", "--jobs", jobs, status=1)
        shown.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
        for document in shown[-1]:
            del document["processing"]

    assert shown[0] == shown[1]
    assert len(shown[0]) == 4


# Files with results


@pytest.mark.usefixtures("calls", "classified")
def test_every_format_has_the_same_rows(calls: Path) -> None:
    (calls / "=bad.wav").write_text("not a recording")
    for name in ("r.jsonl", "r.csv", "r.parquet"):
        classify("calls", "--recursive", "--out", name, "--jobs", "1", status=1)

    with open("r.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = parquet.read_table("r.parquet")
    typed = table.to_pylist()
    found = documents("r.jsonl")
    assert [row["recording"] for row in rows] == [row["recording"] for row in typed] == list(found)
    assert table.column_names == list(rows[0])
    for row, other in zip(rows, typed, strict=True):
        document = found[row["recording"]]
        assert row["status"] == other["status"] == document["status"]
        assert other["demo"] is document["model"]["demo"]
        if document["status"] == "classified":
            (part,) = document["channels"][0]["utterances"]
            assert (float(row["anger"]), other["anger"]) == (part["scores"]["anger"],) * 2
            assert (row["error"], other["error"], other["channel"]) == ("", None, 0)
        else:
            assert (row["anger"], other["anger"], other["error_code"]) == ("", None, "not_audio")


@pytest.mark.usefixtures("calls")
def test_a_file_may_have_a_row_for_each_recording() -> None:
    classify("calls", "--recursive", "--out", "r.parquet", "--per", "recording")

    table = parquet.read_table("r.parquet")
    assert table.num_rows == 3
    assert "mean_anger" in table.column_names


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_file_of_another_program_is_not_replaced(resume: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.csv").write_text("mine")

    classify("calls", "--out", "r.csv", *resume, status=1)

    assert Path("r.csv").read_text() == "mine"
    assert "another file with --out." in capsys.readouterr().err


def test_a_run_continues_by_path_size_time_model_and_settings(
    calls: Path, classified: list[str], copied_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newly(*arguments: str, status: int = 0) -> list[str]:
        before = len(classified)
        classify("calls", "--recursive", "--out", "r.jsonl", "--resume", *arguments, status=status)
        return [name.removeprefix("calls/") for name in classified[before:]]

    every = ["b.wav", "a/c.wav", "a/deep/d.wav"]
    assert newly() == every
    assert newly() == []
    os.utime(calls / "b.wav", ns=(1, 1))
    assert newly() == ["b.wav"]
    with (calls / "b.wav").open("ab") as file:
        file.write(b"x")
    os.utime(calls / "b.wav", ns=(1, 1))
    assert newly() == ["b.wav"]
    (calls / "new.wav").write_text("not a recording")
    assert [newly(status=1) for _ in range(2)] == [["new.wav"]] * 2
    shutil.copy(ANGER, calls / "new.wav")
    assert newly() == ["new.wav"]
    every.insert(1, "new.wav")
    assert newly("--labels", "anger=cross") == every
    assert {each.get("emotion") for each in documents("r.jsonl").values()} == {"cross"}
    monkeypatch.setenv("AUDIO_EMOTION_CHANNELS", "split")
    assert newly() == every
    manifest = json.loads((copied_package / "manifest.json").read_text())
    (copied_package / "manifest.json").write_text(json.dumps({**manifest, "revision": "other"}))
    assert newly("--model", str(copied_package)) == every
    (calls / "b.wav").unlink()
    assert newly("--model", str(copied_package)) == []
    assert len(documents("r.jsonl")) == 4


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("name", ["r.jsonl", "r.csv", "r.parquet"])
def test_a_run_continues_one_that_was_killed_while_it_wrote(name: str, classified: list[str]) -> None:
    classify("calls", "--recursive", "--out", name, "--jobs", "1")
    complete = Path(name).read_bytes()
    journal = Path(f"{name}.progress")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    Path(name).write_bytes(complete[: len(complete) // 2])

    classify("calls", "--recursive", "--out", name, "--resume")

    assert classified == [*(f"calls/{each}" for each in ("b.wav", "a/c.wav", "a/deep/d.wav")), "calls/a/deep/d.wav"]
    if name == "r.parquet":
        assert parquet.read_table(name).num_rows == 3
    else:
        assert len(Path(name).read_bytes().splitlines()) == len(complete.splitlines())
    assert len(journal.read_bytes().splitlines()) == 4


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    give_up_at_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at_s, "the condition did not become true in time"
        time.sleep(0.02)


def children_of(parent: int) -> list[int]:
    """Return the worker processes of a process."""
    tasks = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in tasks}
    return [child for child, command in commands.items() if b"spawn_main" in command]


def exists(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_an_interrupt_while_a_result_is_written_counts_the_result(
    calls: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ANGER, calls / "other.wav")
    add = Journal.add

    def interrupted(*arguments: Any) -> None:
        add(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Journal, "add", interrupted)

    classify("calls", "--recursive", "--out", "r.jsonl", "--jobs", "1", status=130)

    assert "Stopped: 1 of 4 recordings finished." in capfd.readouterr().err
    assert len(Path("r.jsonl").read_bytes().splitlines()) == 1


@pytest.mark.parametrize(("end", "name"), [("ctrl-c", "r.jsonl"), ("ctrl-c", "r.parquet"), ("kill", "r.csv")])
def test_nothing_is_lost_when_workers_are_killed_or_the_run_ends_early(
    end: str, name: str, calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(24):
        shutil.copy(ANGER, calls / f"{number}.wav")
    journal = Path(f"{name}.progress")

    def finished() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    command = [sys.executable, "-W", "error", "-m", "core.cli", "classify", "calls", "--out", name, "--jobs", "2"]
    run = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: finished() >= 2)
        workers = children_of(run.pid)
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: finished() >= 5)
        workers = children_of(run.pid)
        assert len(workers) == 2
        if end == "ctrl-c":
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        else:
            run.kill()
        _, errors = run.communicate(timeout=60)
        wait_until(lambda: not any(map(exists, workers)))
    finally:
        run.kill()
        run.wait()
    assert run.returncode == (130 if end == "ctrl-c" else -signal.SIGKILL)
    assert "Traceback" not in errors
    kept = finished()
    assert 5 <= kept < 25
    if end == "ctrl-c":
        assert f"Stopped: {kept} of 25 recordings finished. Continue with --resume." in " ".join(errors.split())
    if name == "r.parquet":
        assert parquet.read_table(name).num_rows == kept

    classify("calls", "--out", name, "--resume", "--jobs", "2")

    rows = parquet.read_table(name).num_rows if name == "r.parquet" else len(Path(name).read_bytes().splitlines())
    assert rows == 25 + (name == "r.csv")
    assert finished() == 25
    assert capsys.readouterr().out.endswith(f"Wrote {name}: 25 recordings, {kept} of them by an earlier run.\n")
