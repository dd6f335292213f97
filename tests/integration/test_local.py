"""The local stack: the event source mapping, workers, folders, `demo` and `local`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from core.cli.local import function_settings
from core.local.folders import Inbox, ResultFiles
from core.local.stack import Stack, StackOptions, running_stack
from core.local.workers import EventSourceMapping, load_handler, running_workers
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
    files = ResultFiles(stack, tmp_path / "deep" / "results")
    written = files.fetch_new()
    assert len(set(written)) == 4
    assert all(file.resolve().is_relative_to(tmp_path / "deep" / "results") for file in written)
    assert files.fetch_new() == []
    stack.s3.put_object(Bucket="audio-emotion-results", Key="results/a/b.json", Body=b"[]")
    assert [file.read_bytes() for file in files.fetch_new()] == [b"[]"]


def test_new_results_are_returned_once_and_leases_never(stack: Stack) -> None:
    for key in ("claims/1", "results/a b+c.json", "results/a b+c.json", "results/高.json"):
        stack.s3.put_object(Bucket="audio-emotion-results", Key=key, Body=b"{}")
    assert stack.take_new_results() == ["results/a b+c.json", "results/高.json"]
    assert stack.take_new_results() == []


def test_a_large_inbox_is_uploaded_completely_in_several_passes(stack: Stack, tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / f"{number:03d}.wav").write_bytes(b"x")
    inbox = Inbox(stack, tmp_path)
    uploaded: list[str] = []
    while keys := inbox.upload_new() or (not uploaded and inbox.upload_new()):
        assert len(keys) <= 50
        uploaded += keys
    assert uploaded == [f"{number:03d}.wav" for number in range(120)]


def test_a_worker_that_is_killed_is_replaced(stack: Stack, package: Path, tmp_path: Path) -> None:
    with running_workers(stack, package, tmp_path / "function.log", count=2) as workers:
        first, second = workers.processes
        workers.kill(0)
        workers.check()
        assert first.returncode == -signal.SIGKILL
        assert workers.processes[0].pid != first.pid
        assert workers.processes[1] is second
    assert all(worker.poll() is not None for worker in workers.processes)


def test_the_inbox_uploads_a_file_once_it_has_stopped_growing(stack: Stack, tmp_path: Path) -> None:
    inbox = Inbox(stack, tmp_path)
    file = tmp_path / "calls" / "a.wav"
    file.parent.mkdir()
    file.write_bytes(b"12")
    assert inbox.upload_new() == []
    file.write_bytes(b"1234")
    assert inbox.upload_new() == []
    assert inbox.upload_new() == ["calls/a.wav"]
    assert inbox.upload_new() == []
    file.write_bytes(b"another")
    assert inbox.upload_new() == []
    assert inbox.upload_new() == ["calls/a.wav"]


def test_the_function_gets_the_settings_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANNELS", "2")  # another program's
    monkeypatch.setenv("AUDIO_EMOTION_MAX_CHANNELS", "8")
    monkeypatch.setenv("AUDIO_EMOTION_INFERENCE_THREADS", "3")

    settings = function_settings()

    assert (settings["CHANNELS"], settings["MAX_CHANNELS"]) == ("auto", "8")
    assert settings["INFERENCE_THREADS"] == "3"


def test_local_classifies_new_files_and_ends_cleanly_on_ctrl_c(package: Path, speech: bytes, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "core.cli", "local", "--model", str(package)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        wait_until((tmp_path / "inbox").is_dir)
        (tmp_path / "inbox" / "a.wav").write_bytes(speech)
        result = tmp_path / "out" / "results" / "a.wav.json"
        wait_until(result.exists, 60)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert b"Traceback" not in stdout + stderr
    assert json.loads(result.read_bytes())["status"] == "classified"


def test_a_queue_that_fails_loses_no_message(
    stack: Stack, tmp_path: Path, advance_queue_time: Callable[[float], None]
) -> None:
    taken: list[str] = []

    def function(event: dict[str, Any], _: object) -> dict[str, Any]:
        taken.extend(record["body"] for record in event["Records"] if "file" in record["body"])
        return {}

    (tmp_path / "file").write_bytes(b"x")
    with faulty(stack.endpoint) as proxy:
        sqs = boto3.client(
            "sqs",
            endpoint_url=proxy.endpoint,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
        )
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
