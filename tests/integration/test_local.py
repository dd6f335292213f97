"""The local stack: the event source mapping, workers, folders, `demo` and `local`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from moto.s3.models import S3Backend

from core.cli.local import function_settings, run_demo, run_local
from core.delivery.s3_errors import WriteConflict
from core.delivery.storage import Storage
from core.errors import FolderRefused, PackageRefused
from core.local.folders import result_files
from core.local.stack import RESULTS_BUCKET, Stack, StackOptions, running_stack
from core.local.workers import EventSourceMapping, load_handler, running_workers
from core.model.package import WEIGHTS_FILE
from core.paths import SAMPLES
from tests.conftest import ROOT
from tests.support.faults.fault_proxy import Fault, faulty

OPTIONS = StackOptions(visibility_timeout_s=1, max_receive_count=2, batch_size=2)


@pytest.fixture
def stack(aws_server: str) -> Iterator[Stack]:
    with running_stack(OPTIONS, aws_server) as running:
        yield running


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    give_up_at_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at_s, "the condition did not become true in time"
        time.sleep(0.1)


def drain(mapping: EventSourceMapping) -> int:
    taken = 0
    while count := mapping.poll(wait_s=0):
        taken += count
    return taken


def test_a_message_that_fails_is_retried_and_ends_in_the_dead_letter_queue(
    stack: Stack, tmp_path: Path, advance_queue_time: Callable[[float], None]
) -> None:
    counts: list[tuple[str, str]] = []

    def function(event: dict[str, Any], _: object) -> dict[str, Any]:
        failures = []
        for record in event["Records"]:
            if "bad" in record["body"]:
                counts.append((record["messageId"], record["attributes"]["ApproximateReceiveCount"]))
                failures.append({"itemIdentifier": record["messageId"]})
        return {"batchItemFailures": failures}

    (tmp_path / "file").write_bytes(b"x")
    stack.upload(tmp_path / "file", "good")
    stack.upload(tmp_path / "file", "bad")
    mapping = EventSourceMapping(stack.sqs, stack.queue_url, function, OPTIONS)
    assert drain(mapping) == 3  # the test event, and one for each upload
    advance_queue_time(1.1)
    assert drain(mapping) == 1
    assert [count for _, count in counts] == ["1", "2"]
    advance_queue_time(1.1)
    assert drain(mapping) == 0
    assert stack.dead_letters() == 1


def test_a_function_that_raises_loses_no_message(
    stack: Stack, tmp_path: Path, advance_queue_time: Callable[[float], None]
) -> None:
    def function(*_: object) -> None:
        raise ZeroDivisionError

    (tmp_path / "file").write_bytes(b"x")
    stack.upload(tmp_path / "file")
    mapping = EventSourceMapping(stack.sqs, stack.queue_url, function, OPTIONS)
    taken = drain(mapping)
    advance_queue_time(1.1)
    assert drain(mapping) == taken


def test_the_handler_is_loaded_by_its_name_in_the_template() -> None:
    from handlers.s3_upload import handler

    assert load_handler("handlers.s3_upload.handler") is handler


def test_workers_turn_uploads_into_results_and_end_on_request(
    aws_server: str, package: Path, speech: bytes, tmp_path: Path
) -> None:
    (tmp_path / "speech.wav").write_bytes(speech)
    (tmp_path / "text.txt").write_bytes(b"text")
    started = time.monotonic()
    # The visibility timeout is longer than OPTIONS' one second, because a busy machine needs more time.
    with (
        running_stack(endpoint=aws_server) as stack,
        running_workers(stack, package, tmp_path / "function.log", count=2),
    ):
        for name in ("speech.wav", "text.txt"):
            stack.upload(tmp_path / name)
        wait_until(lambda: len(stack.results()) == 2)
        documents = {json.loads(stack.result(key))["status"] for key in stack.results()}
        assert stack.dead_letters() == 0
    assert time.monotonic() - started < 40
    assert documents == {"classified", "failed"}


def test_results_become_files_below_the_folder_whatever_their_keys_are(stack: Stack, tmp_path: Path) -> None:
    for key in ("results/a/b.json", "results/../../escape.json", "results//etc/x.json", f"results/{'录' * 300}.json"):
        stack.s3.put_object(Bucket="audio-emotion-results", Key=key, Body=b"{}")
    with result_files(stack, tmp_path / "deep" / "results", "local") as files:
        written = files.fetch_new()
        assert len(set(written)) == 4
        assert all(file.resolve().is_relative_to(tmp_path / "deep" / "results") for file in written)
        assert files.fetch_new() == []
        stack.s3.put_object(Bucket="audio-emotion-results", Key="results/a/b.json", Body=b"[]")
        assert [file.read_bytes() for file in files.fetch_new()] == [b"[]"]


def test_one_of_several_concurrent_conditional_writes_succeeds(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    write, storage = S3Backend.put_object, Storage(stack.s3)
    existing = storage.put(RESULTS_BUCKET, "b", b"0", content_type="text/plain", metadata={}, replaces=None)

    def write_slowly(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.1)  # in which the others would check their conditions
        return write(*arguments, **options)

    def is_written(key: str, replaces: str | None, body: bytes) -> bool:
        try:
            storage.put(RESULTS_BUCKET, key, body, content_type="text/plain", metadata={}, replaces=replaces)
        except WriteConflict:
            return False
        return True

    monkeypatch.setattr(S3Backend, "put_object", write_slowly)
    bodies = [b"1", b"2", b"3"]
    with ThreadPoolExecutor(len(bodies)) as pool:
        for key, replaces in (("a", None), ("b", existing)):
            assert sum(pool.map(partial(is_written, key, replaces), bodies)) == 1


def test_new_results_are_returned_once_and_leases_never(stack: Stack) -> None:
    for key in ("claims/1", "results/a b+c.json", "results/a b+c.json", "results/高.json"):
        stack.s3.put_object(Bucket="audio-emotion-results", Key=key, Body=b"{}")
    assert stack.take_new_results() == ["results/a b+c.json", "results/高.json"]
    assert stack.take_new_results() == []


def test_a_worker_that_is_killed_is_replaced(stack: Stack, package: Path, tmp_path: Path) -> None:
    with running_workers(stack, package, tmp_path / "function.log", count=2) as workers:
        first, second = workers.processes
        workers.kill(0)
        workers.check()
        assert first.returncode == -signal.SIGKILL
        assert workers.processes[0].pid != first.pid
        assert workers.processes[1] is second
    assert all(worker.poll() is not None for worker in workers.processes)


def test_the_function_gets_the_settings_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANNELS", "2")  # another program's
    monkeypatch.setenv("AUDIO_EMOTION_MAX_CHANNELS", "8")
    monkeypatch.setenv("AUDIO_EMOTION_INFERENCE_THREADS", "3")

    settings = function_settings()

    assert (settings["CHANNELS"], settings["MAX_CHANNELS"]) == ("auto", "8")
    assert settings["INFERENCE_THREADS"] == "3"


@contextmanager
def running_local(folder: Path, *options: str | Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `audio-emotion local` in a folder, with a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "core.cli", "local", *map(str, options)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def drop(recording: bytes, file: Path) -> None:
    """Put a recording into an inbox that a stack is about to create."""
    wait_until(file.parent.is_dir)
    file.write_bytes(recording)


def test_local_classifies_new_files_and_ends_cleanly_on_ctrl_c(package: Path, speech: bytes, tmp_path: Path) -> None:
    (tmp_path / "out" / "results").mkdir(parents=True)
    (tmp_path / "out" / "results" / "a.wav.json").write_text("mine")
    with running_local(tmp_path, "--model", package, "--delete-results") as process:
        drop(speech, tmp_path / "inbox" / "a.wav")
        drop(speech, tmp_path / "inbox" / "b.wav")
        result = tmp_path / "out" / "results" / "a.wav-2.json"
        other = tmp_path / "out" / "results" / "b.wav.json"
        wait_until(lambda: result.exists() and other.exists(), 60)
        (tmp_path / "inbox" / "b.wav").unlink()
        wait_until(lambda: not other.exists(), 20)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"Traceback" not in stdout + stderr
    assert [stdout.count(word) for word in (b"duration", b"a.wav ", b"b.wav ")] == [1, 1, 1]
    assert b"Deleted the result of b.wav" in stdout
    assert json.loads(result.read_bytes())["status"] == "classified"
    assert (tmp_path / "out" / "results" / "a.wav.json").read_text() == "mine"


def test_folders_that_contain_each_other_are_refused(tmp_path: Path, package: Path) -> None:
    """Otherwise every result would be uploaded, and its result too."""
    for inbox, out in ((".", "out/results"), ("a", "a"), ("out/inbox", "out")):
        with pytest.raises(FolderRefused, match="overlap"):
            run_local(tmp_path / inbox, tmp_path / out, package, 1)
    assert list(tmp_path.iterdir()) == []


def test_demo_keeps_the_files_of_other_programs(
    package: Path, speech: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, out = tmp_path / "samples", tmp_path / "out"
    (samples / "folder.wav").mkdir(parents=True)
    (samples / "a.wav").write_bytes(speech)
    (samples / ".DS_Store").write_bytes(b"x")
    kept = [out / "api" / "0.json", out / "a.json"]
    for file in kept:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"schema_version": "1.0"}')
    (tmp_path / "function.log").write_text("mine\n")

    assert run_demo(samples, out, package) == 0

    assert "a.wav" in capsys.readouterr().out
    assert json.loads((out / "a.wav.json").read_bytes())["status"] == "classified"
    assert all(file.exists() for file in kept)
    assert (tmp_path / "function.log").read_text().startswith("mine\n{")


@pytest.mark.slow
def test_demo_serves_a_checkpoint(small_checkpoint: Path, speech: bytes, tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "a.wav").write_bytes(speech)
    assert run_demo(tmp_path / "samples", tmp_path / "out", small_checkpoint) == 0
    assert json.loads((tmp_path / "out" / "a.wav.json").read_bytes())["status"] == "classified"


def test_make_clean_keeps_the_results() -> None:
    done = subprocess.run(["make", "--dry-run", "clean"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "build" in done.stdout.split()
    assert "out" not in done.stdout.split()


def test_a_damaged_model_is_refused_at_once(copied_package: Path, tmp_path: Path) -> None:
    with (copied_package / WEIGHTS_FILE).open("ab") as weights:
        weights.write(b"x")
    with pytest.raises(PackageRefused):
        run_demo(SAMPLES, tmp_path / "out", copied_package)
    with pytest.raises(PackageRefused):
        run_local(tmp_path / "in", tmp_path / "out", copied_package, 1)


def processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the program of every process that has not ended."""
    command = ["ps", "-A", "-o", "pid=,ppid=,stat=,comm="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(maxsplit=3) for line in lines]
    return {int(pid): (int(parent), program) for pid, parent, state, program in rows if not state.startswith("Z")}


def descendants(pid: int) -> dict[int, str]:
    """Return the children of a process, their children, and so on, with the program of each."""
    running, found = processes(), {pid}
    while more := {child for child, (parent, _) in running.items() if parent in found} - found:
        found |= more
    return {child: running[child][1] for child in found - {pid}}


def test_no_worker_or_decoder_survives_a_killed_parent(package: Path, speech: bytes, tmp_path: Path) -> None:
    """The decoder hangs, so that no closed pipe ends it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ffmpeg").write_text("#!/bin/sh\nexec sleep 600\n")
    (programs / "ffmpeg").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    with running_local(tmp_path, "--model", package, "--workers", "2", PATH=path) as process:
        drop(speech, tmp_path / "inbox" / "a.wav")
        wait_until(lambda: any(program.endswith("sleep") for program in descendants(process.pid).values()), 60)
        started = descendants(process.pid).keys()
        assert len(started) == 3
        process.kill()
        process.communicate(timeout=30)  # ends once no worker holds the pipes
        try:
            wait_until(lambda: not started & processes().keys(), 20)
        finally:
            for pid in started & processes().keys():
                os.kill(pid, signal.SIGKILL)


def test_a_worker_that_cannot_finish_ends_all_the_same(stack: Stack, package: Path, tmp_path: Path) -> None:
    """An S3 call that the parent's end interrupts may turn the exit into a retry."""
    program = (
        "import sys, threading\n"
        "from core.local import workers\n"
        "workers._MAX_EXIT_S = 0.2\n"
        "def poll(self):\n"
        "    try:\n"
        "        print('polling', flush=True)\n"
        "        threading.Event().wait()\n"
        "    except SystemExit:\n"
        "        print('interrupted', flush=True)\n"
        "        threading.Event().wait()\n"
        "workers.EventSourceMapping.poll = poll\n"
        "workers.run_worker(sys.argv[1], workers.StackOptions())\n"
    )
    environment = {**os.environ, **stack.environment(package), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, stack.queue_url]
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"polling\n"
    stdout, _ = worker.communicate(timeout=30)
    assert (stdout, worker.returncode) == (b"interrupted\n", 1)


HOSTILE_VARIABLES = {
    "AWS_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_SESSION_TOKEN": "real",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
}


def test_the_stack_never_talks_to_aws_or_a_proxy(package: Path, speech: bytes, tmp_path: Path) -> None:
    """Every address that the variables and the configuration file name belongs to a server that counts connections."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        address = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        configuration = tmp_path / "config"
        configuration.write_text(
            "[profile production]\nignore_configured_endpoint_urls = true\n"
            "aws_access_key_id = x\naws_secret_access_key = x\n"
            f"services = s\n[services s]\ns3 =\n  endpoint_url = {address}\n"
        )
        names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SQS", "HTTP_PROXY", "HTTPS_PROXY")
        variables = dict.fromkeys((*names, "http_proxy", "https_proxy", "ALL_PROXY"), address)
        variables |= {**HOSTILE_VARIABLES, "AWS_CONFIG_FILE": str(configuration), "NO_PROXY": ""}
        with running_local(tmp_path, "--model", package, **variables) as process:
            drop(speech, tmp_path / "inbox" / "a.wav")
            result = tmp_path / "out" / "results" / "a.wav.json"
            wait_until(lambda: result.exists() or process.poll() is not None, 60)
        assert json.loads(result.read_bytes())["status"] == "classified"
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_a_stack_ignores_a_missing_profile_and_leaves_the_variables_as_they_are(
    aws_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in HOSTILE_VARIABLES.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with running_stack(endpoint=aws_server) as stack:
        assert stack.results() == {}
        assert dict(os.environ) == before


def test_a_queue_that_fails_loses_no_message(
    stack: Stack, tmp_path: Path, advance_queue_time: Callable[[float], None]
) -> None:
    taken: list[str] = []

    def function(event: dict[str, Any], _: object) -> dict[str, Any]:
        taken.extend(record["body"] for record in event["Records"] if "file" in record["body"])
        return {}

    (tmp_path / "file").write_bytes(b"x")
    with faulty(stack.endpoint) as proxy:
        sqs = proxy.client("sqs")
        mapping = EventSourceMapping(sqs, stack.queue_url, function, OPTIONS)
        drain(mapping)
        stack.upload(tmp_path / "file")
        proxy.plan = lambda call: Fault.RESET if call.operation == "ReceiveMessage" else None
        assert mapping.poll(wait_s=0) == 0
        proxy.plan = lambda call: Fault.INTERNAL_ERROR if call.operation == "DeleteMessage" else None
        assert mapping.poll(wait_s=0) == 1
        proxy.plan = lambda _: None
        advance_queue_time(1.1)
        assert drain(mapping) == 1
    assert len(taken) == 2
    assert stack.dead_letters() == 0
