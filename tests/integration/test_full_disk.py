"""A full disk is named, and what did not fit can be sent again. Leftovers of killed processes are removed in Lambda."""

import errno
import logging
import os
import re
import resource
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx2
import pytest

from core.cli import local as local_command
from core.delivery.s3_errors import translated_errors
from core.errors import DiskUnavailable, StorageUnavailable
from core.local.stack import UPLOADS_BUCKET, running_stack
from core.model.classifier import EmotionClassifier
from core.online.folder_store import FolderResultStore
from core.online.recogniser import Recogniser
from core.pipeline import Pipeline
from core.results import Source
from core.scratch import disk_errors, remove_leftovers, scratch_folder, warn_if_too_small
from core.settings import (
    ApiSettings,
    MediaLimits,
    ModelSettings,
    ScoreSettings,
    SegmentationSettings,
    SpeakerSettings,
    StorageSettings,
)
from handlers import processing
from handlers.api.service import Service
from tests.conftest import ROOT
from tests.integration.test_api_process import started
from tests.support.small_disk import on_small_disk

ANGER = ROOT / "samples" / "anger.wav"
FULL = "The temporary folder is full ("


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder for a small disk."""
    folder = tmp_path / "small"
    folder.mkdir()
    return folder


def run_on_small_disk(program: str, small: Path, **environment: str) -> list[str]:
    """Run a program whose temporary folder is on a disk of 1 MB, and return its lines."""
    command = on_small_disk(small, [sys.executable, "-c", program], kilobytes=1024)
    own = {**os.environ, "TMPDIR": str(small), "POWERTOOLS_LOG_LEVEL": "CRITICAL", **environment}
    done = subprocess.run(command, env=own, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow beyond 512 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ------------------------------------------------------------------------------------------------------- the function


DELIVER = f"""
from core.delivery import Upload
from core.errors import TransientError
from handlers.processing import delivery
for key in ("large.wav", "small.wav"):
    try:
        print(delivery().deliver(Upload({UPLOADS_BUCKET!r}, key)).kind)
    except TransientError as error:
        print(type(error).__name__, error)
"""


def test_a_recording_without_room_on_the_disk_is_retried(aws_server: str, package: Path, small: Path) -> None:
    with running_stack(endpoint=aws_server) as stack:
        stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="large.wav", Body=bytes(3_000_000))
        stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key="small.wav", Body=ANGER.read_bytes())

        large, after = run_on_small_disk(DELIVER, small, **stack.environment(package))

        assert large.startswith(f"DiskUnavailable {FULL}")
        assert after == "stored"
        assert list(stack.results()) == ["results/small.wav.json"]


# ------------------------------------------------------------------------------------------------------------ the API


def test_the_api_answers_503_on_a_full_disk_and_recovers(
    package: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def refusal(answer: httpx2.Response) -> str:
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["code"] == "unavailable"
        return str(answer.json()["detail"])

    def post(size_bytes: int) -> httpx2.Response:
        return httpx2.post(f"{server.address}/recognize/", files={"file": bytes(size_bytes)}, timeout=60)

    with started(package, tmp_path, tmp_kilobytes=3000) as server:
        # The form needs 4.2 MB; a smaller form has room, but not its copy.
        refusals = [refusal(post(size_bytes)) for size_bytes in (4_200_000, 2_000_000)]
        upload = httpx2.post(f"{server.address}/uploads").json()
        form = {"url": upload["url"], "data": upload["fields"]}
        posted = (httpx2.post(**form, files={"file": bytes(size)}, timeout=60) for size in (8_000_000, 2_000_000))
        refusals += map(refusal, posted)
        again = httpx2.post(**form, files={"file": ANGER.read_bytes()}, timeout=60)
        small = httpx2.post(f"{server.address}/recognize/", files={"file": ANGER.read_bytes()}, timeout=60)
        server.process.terminate()
        _, errors = server.process.communicate(timeout=30)
    log = capfd.readouterr().out

    assert all(detail.startswith(FULL) and str(tmp_path) not in detail for detail in refusals)
    assert (again.status_code, small.status_code) == (204, 200)
    assert "Traceback" not in log + errors
    assert log.count('"error":"DiskUnavailable"') == 4
    assert log.count(f'"reason":"{FULL}') == 4


def test_a_result_without_room_in_its_folder_is_a_transient_error(
    classifier: EmotionClassifier, tmp_path: Path
) -> None:
    result = Pipeline(classifier, MediaLimits(), SegmentationSettings()).run(ANGER, Source(key="x"))
    store = FolderResultStore(ApiSettings(results_folder=tmp_path), 1)

    with no_room(), pytest.raises(DiskUnavailable, match="The results folder is full"):
        store.store("an-id", result)

    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    store.store("an-id", result)
    assert isinstance(store.find("an-id"), bytes)


def test_the_result_of_an_upload_without_room_in_its_folder_is_unavailable(
    classifier: EmotionClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = FolderResultStore(ApiSettings(results_folder=tmp_path / "results"), 1_000_000)
    recogniser = Recogniser(Pipeline(classifier, MediaLimits(), SegmentationSettings()), store)
    upload = store.create_upload("")
    (tmp_path / "results").touch()  # a file, so that no folder can be created

    store.submit(upload.fields["key"], BytesIO(ANGER.read_bytes()), recogniser)
    store.close()

    with pytest.raises(DiskUnavailable, match="The results folder cannot be written"):
        store.find(upload.id)


# --------------------------------------------------------------------------------------------------- the command line


CONVERSATION = ROOT / "samples" / "conversation.ogg"
NO_ROOM = "(No space left on device|File too large)"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["results", "--folder", ".", "--csv"], rf"audio-emotion: {NO_ROOM}"),
        (["report", "result.json", "-o", "small/page.html"], rf"audio-emotion: small/page\.html .*{NO_ROOM}"),
        (["report", "result.json", "--audio", str(CONVERSATION), "-o", "page.html"], r".*folder may be full"),
        (["convert", str(CONVERSATION), "--out", "small"], rf".*conversation\.ogg: {NO_ROOM}"),
    ],
    ids=["temporary table", "page", "sound of a page", "converted recording"],
)
def test_a_command_on_a_full_disk_ends_with_a_sentence(
    arguments: list[str], reason: str, classifier: EmotionClassifier, small: Path
) -> None:
    result = Pipeline(classifier, MediaLimits(), SegmentationSettings()).run(CONVERSATION, Source(key="x" * 40_000))
    (small.parent / "result.json").write_text(result.to_json(), encoding="utf-8")
    command = on_small_disk(small, [sys.executable, "-m", "core.cli", *arguments], kilobytes=16)
    environment = {**os.environ, "TMPDIR": str(small), "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        command, env=environment, cwd=small.parent, check=False, capture_output=True, text=True, timeout=120
    )

    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.fullmatch(rf"{reason}\.", last)


# ---------------------------------------------------------------------------------------------------------- the errors


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named(number: int) -> None:
    with pytest.raises(DiskUnavailable) as refusal, disk_errors():
        raise OSError(number, "a secret path")

    assert str(refusal.value) == f"{FULL}{os.strerror(number)})."


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES, errno.EMFILE])
def test_another_fault_of_the_disk_is_no_fault_of_s3(number: int) -> None:
    with pytest.raises(DiskUnavailable) as refusal, translated_errors("a/b"), disk_errors():
        raise OSError(number, "a secret path")

    assert str(refusal.value) == f"The temporary folder cannot be written ({os.strerror(number)})."


def test_a_broken_connection_is_a_fault_of_s3() -> None:
    with pytest.raises(StorageUnavailable, match="S3 could not be reached"), disk_errors(), translated_errors("a/b"):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def test_a_folder_that_cannot_be_created_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")

    with pytest.raises(DiskUnavailable, match="The temporary folder cannot be written"), scratch_folder():
        pass


# ---------------------------------------------------------------------------------------------------- check at start


Usage = namedtuple("Usage", ["total", "used", "free"])


def test_a_temporary_folder_that_is_too_small_causes_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(3_000, 1_000, 2_000))

    warn_if_too_small(2_000)
    assert caplog.messages == []
    warn_if_too_small(2_001)

    (message,) = caplog.messages
    assert message.startswith(
        f"The temporary folder {tmp_path} has 2,000 bytes free, but a recording may have 2,001 bytes (MAX_SIZE_BYTES)."
    )


def test_no_temporary_folder_at_all_causes_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")

    warn_if_too_small(1)

    assert caplog.messages == ["The temporary folder cannot be written: No such file or directory."]


@pytest.mark.parametrize("program", ["function", "API", "local"])
def test_programs_with_a_temporary_folder_check_it_at_start(
    program: str,
    package: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(3_000, 1_000, 2_000))
    monkeypatch.setenv("RESULTS_BUCKET", "a-bucket")
    monkeypatch.setenv("MODEL_DIR", str(package))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

    if program == "function":
        processing.delivery.__wrapped__()
    elif program == "API":
        model = ModelSettings(model_dir=package)
        Service.load(
            model,
            ApiSettings(),
            MediaLimits(),
            SegmentationSettings(),
            SpeakerSettings(),
            ScoreSettings(),
            StorageSettings(),
        )
    else:
        monkeypatch.setattr(local_command, "running_stack", _stop)
        with pytest.raises(KeyboardInterrupt):
            local_command.run_local(tmp_path / "inbox", tmp_path / "out", package, 1)

    assert [record.levelno for record in caplog.records if "MAX_SIZE_BYTES" in record.message] == [logging.WARNING]


def _stop() -> None:
    raise KeyboardInterrupt


# ---------------------------------------------------------------------------------------------------------- leftovers


ENTRY_POINTS = ("handlers.s3_upload", "handlers.batch_operations", "handlers.api.on_lambda")

START = """
import importlib, os, pathlib, sys
left = pathlib.Path(os.environ["TMPDIR"]) / "recording-left" / "recording"
for name in sys.argv[1:]:
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"x")
    importlib.import_module(name)
    print(name, left.exists())
"""


@pytest.mark.parametrize("is_lambda", [True, False])
def test_only_lambda_removes_leftovers_at_start(is_lambda: bool, package: Path, tmp_path: Path) -> None:
    """On a laptop, the folders may belong to another process."""
    own = {"MODEL_DIR": str(package), "RESULTS_BUCKET": "a-bucket", "UPLOADS_BUCKET": "another"}
    environment = {**os.environ, **own, "TMPDIR": str(tmp_path), "AWS_DEFAULT_REGION": "eu-central-1"}
    if is_lambda:
        environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] = "1769"
    command = [sys.executable, "-c", START, *ENTRY_POINTS]

    done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)

    assert done.stdout.splitlines() == [f"{name} {not is_lambda}" for name in ENTRY_POINTS]


FILL_AND_START = """
import os, pathlib, tempfile
folder = pathlib.Path(os.environ["TMPDIR"])
left = folder / "recording-left" / "recording"
left.parent.mkdir()
try:
    with left.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
except OSError:
    pass
import handlers.s3_upload
print(left.exists(), tempfile.gettempdir() == str(folder))
"""


def test_a_leftover_that_fills_the_disk_is_removed(package: Path, small: Path) -> None:
    own = {"MODEL_DIR": str(package), "RESULTS_BUCKET": "a-bucket", "AWS_DEFAULT_REGION": "eu-central-1"}

    lines = run_on_small_disk(FILL_AND_START, small, AWS_LAMBDA_FUNCTION_MEMORY_SIZE="1769", **own)

    assert lines[-1] == "False True"


def test_only_recordings_are_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("recording-1", "other"):
        (tmp_path / name).mkdir()

    with scratch_folder() as folder:
        assert folder.exists()
        remove_leftovers()
        assert not folder.exists()

    assert [file.name for file in tmp_path.iterdir()] == ["other"]
