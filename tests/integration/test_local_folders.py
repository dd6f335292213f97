"""The folders of `demo` and `local`: which files they upload, write, replace and delete."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import FolderRefused
from core.local.folders import Inbox, result_files
from core.local.stack import RESULTS_BUCKET, UPLOADS_BUCKET, Stack, running_stack
from core.paths import is_ignored
from tests.support.faults.fault_proxy import Fault, faulty


@pytest.fixture
def stack(aws_server: str) -> Iterator[Stack]:
    with running_stack(endpoint=aws_server) as running:
        yield running


class Clock:
    """A clock that stands still until it is advanced."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def upload(stack: Stack, folder: Path, clock: Clock) -> Callable[[], list[str]]:
    """A function that lets some seconds pass, and then makes one pass over the inbox."""
    inbox = Inbox(stack, folder, clock)

    def one_pass(seconds: float = 10.0) -> list[str]:
        clock.now_s += seconds
        return inbox.upload_new()

    return one_pass


def put(stack: Stack, **documents: bytes) -> None:
    for name, body in documents.items():
        stack.s3.put_object(Bucket=RESULTS_BUCKET, Key=f"results/{name}", Body=body)


# The inbox


def test_a_file_is_uploaded_once_it_has_not_changed_for_two_seconds(
    upload: Callable[..., list[str]], folder: Path
) -> None:
    file = folder / "calls" / "a.wav"
    file.parent.mkdir()
    file.write_bytes(b"1234")
    assert upload() == []
    assert upload(1.9) == []
    assert upload(0.2) == ["calls/a.wav"]
    assert upload() == []


def test_a_file_that_grows_in_bursts_settles_for_longer(upload: Callable[..., list[str]], folder: Path) -> None:
    file = folder / "a.wav"
    for number in range(4):
        with file.open("ab") as stream:
            stream.write(b"burst")
        assert upload(9.9 if number else 0) == []
    assert upload(19.7) == []
    assert upload(0.2) == ["a.wav"]
    file.write_bytes(b"another")
    assert upload(3600) == []
    assert upload(59.9) == []
    assert upload(0.2) == ["a.wav"]


def test_a_file_that_changes_without_growing_is_not_complete(upload: Callable[..., list[str]], folder: Path) -> None:
    """A program that reserves the space first writes into a file of the final size."""
    file = folder / "a.wav"
    file.write_bytes(b"\0\0\0\0")
    assert upload() == []
    for number in range(1, 5):
        os.utime(file, ns=(number, number))
        assert upload(3) == []
    assert upload(9.9) == []
    assert upload(0.2) == ["a.wav"]


def test_a_file_that_comes_back_is_uploaded_again(upload: Callable[..., list[str]], folder: Path) -> None:
    file = folder / "a.wav"
    file.write_bytes(b"1")
    upload()
    assert upload() == ["a.wav"]
    file.rename(folder.parent / "a.wav")
    assert upload() == []
    (folder.parent / "a.wav").rename(file)
    assert upload() == []
    assert upload() == ["a.wav"]


def test_a_large_inbox_is_uploaded_completely_in_several_passes(upload: Callable[..., list[str]], folder: Path) -> None:
    for number in range(120):
        (folder / f"{number:03d}.wav").write_bytes(b"x")
    assert upload() == []
    uploaded: list[str] = []
    while keys := upload():
        assert len(keys) <= 50
        uploaded += keys
    assert uploaded == [f"{number:03d}.wav" for number in range(120)]


def test_hidden_incomplete_and_system_files_are_ignored(upload: Callable[..., list[str]], folder: Path) -> None:
    ignored = [
        *(".hidden.wav", ".cache/a.wav", ".a.wav.Xy12Zw", "~$a.wav", "a.wav~", "Thumbs.db", "desktop.ini", ".DS_Store"),
        *("a.wav.part", "a.wav.PART", "b.tmp", "c.wav.crdownload", "d.wav.filepart", "e.wav.download/e.wav"),
        *("__MACOSX/._a.wav", "$RECYCLE.BIN/a.wav", "@eaDir/a.wav/x", "System Volume Information/x"),
    ]
    for name in (*ignored, "partial.wav", "thumbs.db.wav", "tmp/a.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    upload()
    assert sorted(upload()) == ["partial.wav", "thumbs.db.wav", "tmp/a.wav"]
    assert not is_ignored("a.part.wav")


def test_a_file_that_cannot_be_read_is_retried_ever_more_rarely(
    stack: Stack, folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[float] = []

    class Failing(Stack):
        def upload(self, file: Path, key: str | None = None) -> str:
            if file.name == "bad.wav" and clock.now_s < 1000:
                attempts.append(clock.now_s)
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))
            return super().upload(file, key)

    inbox = Inbox(Failing(**vars(stack)), folder, clock)
    for name in ("bad.wav", "good.wav"):
        (folder / name).write_bytes(b"x")
    uploaded = []
    for second in range(1100):
        clock.now_s = second
        uploaded += inbox.upload_new()
    assert uploaded == ["good.wav", "bad.wav"]
    assert attempts[:5] == [2, 3, 5, 9, 17]
    assert 15 <= len(attempts) <= 25
    assert caplog.messages == [f"{folder}/bad.wav cannot be uploaded: Input/output error. Retrying."]


def test_an_upload_that_the_network_breaks_is_retried_and_one_that_s3_refuses_waits_for_a_change(
    stack: Stack, folder: Path, clock: Clock
) -> None:
    for name in ("broken.wav", "refused.wav"):
        (folder / name).write_bytes(b"x")
    faults = {"broken.wav": Fault.RESET, "refused.wav": Fault.REFUSED}
    with faulty(stack.endpoint) as proxy:
        s3 = proxy.client("s3")
        inbox = Inbox(replace(stack, s3=s3), folder, clock)

        def one_pass() -> list[str]:
            clock.now_s += 100
            return inbox.upload_new()

        proxy.plan = lambda call: faults.get(call.path.rpartition("/")[2])
        assert [one_pass() for _ in range(3)] == [[], [], []]
        proxy.plan = lambda _: None
        assert one_pass() == ["broken.wav"]
        assert one_pass() == []
        (folder / "refused.wav").write_bytes(b"changed")
        assert one_pass() == []
        assert one_pass() == ["refused.wav"]


def test_every_file_name_can_be_uploaded(upload: Callable[..., list[str]], stack: Stack, folder: Path) -> None:
    names = [b"caf\xe9.wav", b"x" * 251 + b".wav", "录".encode() * 85, b"a b+c%.wav", b"A.wav", b"a.wav", b"[red].wav"]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(b"x")
    upload()
    keys = upload()
    assert len(keys) == len(names)
    assert "caf\\xe9.wav" in keys
    assert {item["Key"] for item in stack.s3.list_objects_v2(Bucket=UPLOADS_BUCKET)["Contents"]} == set(keys)


def test_an_inbox_that_is_away_for_a_while_is_waited_for(
    upload: Callable[..., list[str]], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "a.wav").write_bytes(b"x")
    upload()
    assert upload() == ["a.wav"]
    folder.rename(folder.parent / "away")
    assert [upload() for _ in range(3)] == [[], [], []]
    assert caplog.messages == [f"{folder}: No such file or directory. Waiting for the folder."]
    (folder.parent / "away" / "b.wav").write_bytes(b"x")
    (folder.parent / "away").rename(folder)
    upload()
    assert upload() == ["b.wav"]


# The results


def test_only_unchanged_files_of_the_same_command_are_deleted(stack: Stack, tmp_path: Path) -> None:
    with result_files(stack, tmp_path, "local") as files:
        put(stack, **{"local.json": b'{"schema_version": 1}'})
        files.fetch_new()
    with result_files(stack, tmp_path, "demo") as files:
        put(stack, **{"a.json": b"{}", "deep/b.json": b"{}", "page.html": b"<p>", "edited.json": b"{}"})
        put(stack, **{"moved.json": b"{}", "linked.json": b"{}"})
        files.fetch_new()
    (tmp_path / "edited.json").write_bytes(b"{ }")
    (tmp_path / "moved.json").rename(tmp_path / "kept.json")
    (tmp_path / "linked.json").rename(tmp_path / "target.json")
    (tmp_path / "linked.json").symlink_to("target.json")
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "x.json").write_bytes(b'{"schema_version": 1}')

    with result_files(stack, tmp_path, "demo") as files:
        files.clear()
    left = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("[!.]*") if file.is_file()}

    assert left == {"local.json", "edited.json", "kept.json", "linked.json", "target.json", "api/x.json"}


def test_a_record_that_names_a_file_outside_the_folder_deletes_nothing(stack: Stack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with result_files(stack, out, "demo") as files:
        put(stack, **{"a.json": b"{}"})
        files.fetch_new()
    (tmp_path / "a.json").write_bytes(b"{}")
    record = out / ".audio-emotion-demo"
    record.write_text(record.read_text().replace('"a.json"', '"../a.json"') + '\n{"key": 1}\n[]\n{"ke')

    with result_files(stack, out, "demo") as files:
        files.clear()

    assert (tmp_path / "a.json").exists()


def test_a_result_replaces_the_earlier_one_of_its_recording_but_no_other_file(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_bytes(b"mine")
    put(stack, **{"own.json": b"1", "a.json": b"1", "edited.json": b"1"})
    with result_files(stack, tmp_path, "local") as files:
        assert {file.name for file in files.fetch_new()} == {"own-2.json", "a.json", "edited.json"}
    (tmp_path / "edited.json").write_bytes(b"edited")

    put(stack, **{"own.json": b"2", "a.json": b"2", "edited.json": b"2"})
    with result_files(stack, tmp_path, "local") as files:  # after a restart
        assert {file.name for file in files.fetch_new()} == {"own-2.json", "a.json", "edited-2.json"}
        put(stack, **{"a.json": b"3"})
        files.fetch_new()

    contents = {file.name: file.read_bytes() for file in tmp_path.glob("*.json")}
    assert contents == {
        "own.json": b"mine",
        "own-2.json": b"2",
        "a.json": b"3",
        "edited.json": b"edited",
        "edited-2.json": b"2",
    }


def test_names_that_clash_get_a_number(stack: Stack, tmp_path: Path) -> None:
    """A file and a folder can have the same name in S3, or names that only differ in their case on macOS."""
    (tmp_path / "folder.json").mkdir()
    long = "x" * 250 + ".json"
    (tmp_path / long).write_bytes(b"mine")
    names = ("a.wav.json", "a.wav.json/b.wav.json", "c.json/d.json", "c.json", "folder.json", long)
    with result_files(stack, tmp_path, "local") as files:
        for name in names:
            put(stack, **{name: name.encode()})
            assert len(files.fetch_new()) == 1
        put(stack, **dict.fromkeys(names, b"new"))
        files.fetch_new()

    written = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()}
    assert written - {".audio-emotion-local", long} >= {
        "a.wav.json",
        "a.wav-2.json/b.wav.json",
        "c.json/d.json",
        "c-2.json",
        "folder-2.json",
    }
    assert len(written) == len(names) + 2
    assert all(len(part.encode()) <= 255 for name in written for part in name.split("/"))
    assert (tmp_path / long).read_bytes() == b"mine"


def test_a_result_that_cannot_be_written_is_written_later(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(stack, **{"a.json": b"1", "b.json": b"2"})

    write = Path.write_bytes

    def full(file: Path, document: bytes) -> None:
        write(file, document[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "disk")

    with result_files(stack, tmp_path, "local") as files:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            assert [files.fetch_new() for _ in range(3)] == [[], [], []]
        assert caplog.messages == ["disk: No space left on device. Retrying."]
        assert [file.name for file in tmp_path.iterdir()] == [".audio-emotion-local"]
        assert {file.name: file.read_bytes() for file in files.fetch_new()} == {"a.json": b"1", "b.json": b"2"}


def finish(stack: Stack, key: str, status: str = "classified") -> None:
    """Store the result of the newest version of an upload."""
    etag = stack.s3.head_object(Bucket=UPLOADS_BUCKET, Key=key)["ETag"].strip('"')
    put(stack, **{f"{key}.json": json.dumps({"status": status, "source": {"key": key, "etag": etag}}).encode()})


def test_only_changed_and_failed_recordings_are_classified_after_a_restart(
    stack: Stack, tmp_path: Path, folder: Path, clock: Clock
) -> None:
    def restart(made_by: str = "model") -> list[str]:
        with result_files(stack, tmp_path / "out", "local", made_by) as files:
            inbox = Inbox(stack, folder, clock, files.has_result)
            inbox.upload_new()
            clock.now_s += 100
            keys = inbox.upload_new()
            for key in keys:
                finish(stack, key, "failed" if key == "failed.wav" else "classified")
            files.fetch_new()
        return keys

    for name in ("a.wav", "b.wav", "failed.wav"):
        (folder / name).write_bytes(name.encode())
    assert restart() == ["a.wav", "b.wav", "failed.wav"]
    os.utime(folder / "a.wav", ns=(1, 1))
    assert restart() == ["failed.wav"]
    (folder / "a.wav").write_bytes(b"A.wav")
    assert restart() == ["a.wav", "failed.wav"]
    assert restart("other model") == ["a.wav", "b.wav", "failed.wav"]
    (tmp_path / "out" / "b.wav.json").unlink()
    assert restart("other model") == ["b.wav", "failed.wav"]


def test_the_results_of_deleted_recordings_are_deleted_unless_they_were_changed(
    stack: Stack, tmp_path: Path, folder: Path, clock: Clock
) -> None:
    out = tmp_path / "out"
    for name in ("kept.wav", "gone.wav", "edited.wav"):
        (folder / name).write_bytes(name.encode())
    inbox = Inbox(stack, folder, clock)
    inbox.upload_new()
    clock.now_s += 100
    with result_files(stack, out, "local") as files:
        for key in inbox.upload_new():
            finish(stack, key)
        files.fetch_new()
    (out / "edited.wav.json").write_text("edited")
    for name in ("gone.wav", "edited.wav"):
        (folder / name).unlink()
    inbox.upload_new()
    assert inbox.keys == frozenset({"kept.wav"})

    with result_files(stack, out, "local") as files:  # after a restart
        assert sorted(files.delete_except(inbox.keys)) == ["edited.wav", "gone.wav"]
        assert files.delete_except(inbox.keys) == []

    assert sorted(file.name for file in out.glob("*.json")) == ["edited.wav.json", "kept.wav.json"]
    folder.rename(tmp_path / "away")
    inbox.upload_new()
    assert inbox.keys is None


def test_a_folder_that_is_deleted_comes_back(stack: Stack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with result_files(stack, out, "local") as files:
        (out / ".audio-emotion-local").unlink()
        out.rmdir()
        put(stack, **{"a.json": b"1"})
        assert [file.read_bytes() for file in files.fetch_new()] == [b"1"]


def test_an_s3_that_does_not_answer_loses_no_result(stack: Stack, tmp_path: Path) -> None:
    with faulty(stack.endpoint) as proxy:
        s3 = proxy.client("s3")
        proxy.plan = lambda _: Fault.RESET
        put(stack, **{"a.json": b"1"})
        with result_files(replace(stack, s3=s3), tmp_path, "local") as files:
            assert files.fetch_new() == []
            proxy.plan = lambda _: None
            assert [file.name for file in files.fetch_new()] == ["a.json"]


def test_a_second_process_of_the_same_command_is_refused(stack: Stack, tmp_path: Path) -> None:
    with result_files(stack, tmp_path, "local"):
        with (
            pytest.raises(FolderRefused, match=r"Another `audio-emotion local` is writing to .* with --out\."),
            result_files(stack, tmp_path, "local"),
        ):
            pass
        with result_files(stack, tmp_path, "demo"):
            pass
    with result_files(stack, tmp_path, "local"):
        pass


def test_a_file_system_without_locks_is_no_obstacle(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("core.local.folders.fcntl.flock", flock)
    with result_files(stack, tmp_path, "local"):
        pass
