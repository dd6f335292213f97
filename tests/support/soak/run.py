"""Soak test: thousands of recordings through the embedded stack while S3, the queue and the workers fail.

The exit status is 1 if a result is lost, inference is repeated, or a worker's memory grows. Uploads keep the queue
short, so the latencies are those of a busy system without a backlog. Run `make soak`, or
`python -m tests.support.soak.run --help`.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from core.local.stack import UPLOADS_BUCKET, Stack, StackOptions, running_stack
from core.local.workers import Workers, running_workers
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source
from core.settings import MediaLimits, SegmentationSettings
from tests.support.faults.fault_proxy import FaultyEndpoint, faulty
from tests.support.soak.account import Log, Sample
from tests.support.soak.recordings import Recording, bad_recordings, good_recordings
from tests.support.soak.report import report

_MODEL = Path("models/demo/package")
_MAX_VARIANTS = 48
"""The number of different files. Each is uploaded under many keys, because encoding takes longer than classifying."""
_SETTINGS = {"DEADLINE_MARGIN_S": "4", "S3_READ_TIMEOUT_S": "3", "INFERENCE_THREADS": "1"}
_WAITING_FOR_EACH_WORKER = 4
_POLL_INTERVAL_S = 0.1
_SAMPLE_INTERVAL_S = 1.0
_STUCK_AFTER_S = 600.0
_MAX_REDRIVES = 3


Upload = tuple[str, Recording]
"""A key and its recording."""


@dataclass(frozen=True)
class Settings:
    """Parameters of a soak."""

    count: int
    workers: int
    seed: int
    fault_rate: float
    kills: int
    bad_share: float = 0.02
    duplicate_share: float = 0.05
    timeout_s: float = 60.0

    @property
    def options(self) -> StackOptions:
        """The stack's options: a lease expires before the message is visible again, as on AWS."""
        return StackOptions(self.timeout_s, round(1.1 * self.timeout_s), max_receive_count=5)


@dataclass
class Course:
    """Everything that is recorded during a soak."""

    settings: Settings
    started_s: float = field(default_factory=time.time)
    expected: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploaded_at_s: dict[str, float] = field(default_factory=dict)
    duplicates: int = 0
    kills: int = 0
    redriven: int = 0
    stuck: bool = False
    log: Log = field(default_factory=Log)
    memory: dict[int, list[Sample]] = field(default_factory=dict)
    stack_memory_mb: list[float] = field(default_factory=list)
    stack_cpu_s: float = 0.0
    workers_cpu_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def done(self) -> int:
        """The number of uploads that have a result."""
        return len(self.log.done_at_s)


class Soak:
    """One run: uploads, duplicates and kills, checked ten times a second."""

    def __init__(
        self, stack: Stack, workers: Workers, uploads: Sequence[tuple[str, Recording]], course: Course
    ) -> None:
        self._stack = stack
        self._workers = workers
        self._waiting = list(reversed(uploads))
        self._course = course
        self._chance = random.Random(course.settings.seed)
        self._late_duplicates: list[str] = []
        self._etags: dict[str, str] = {}
        self._log_file = workers.log_file.open("rb")
        self._half_line = b""
        self._sampled_s = 0.0
        self._progress_s = time.monotonic()

    def run(self) -> None:
        """Run until every upload has its result and the queue is empty, or until nothing changes for ten minutes."""
        with self._log_file:
            self._run()
        self._course.elapsed_s = max(self._course.log.done_at_s.values()) - self._course.started_s
        self._course.workers_cpu_s += sum(_cpu_s(worker.pid) for worker in self._workers.processes)

    def _run(self) -> None:
        while not self._course.stuck and (self._waiting or not self._is_drained()):
            done = self._course.done
            self._read_log()
            self._upload_some()
            self._duplicate_late()
            self._kill_one()
            self._sample()
            if self._course.done > done:
                self._progress_s = time.monotonic()
            self._course.stuck = time.monotonic() - self._progress_s > _STUCK_AFTER_S
            time.sleep(_POLL_INTERVAL_S)

    def _read_log(self) -> None:
        *lines, self._half_line = (self._half_line + self._log_file.read()).split(b"\n")
        for line in lines:
            self._course.log.read(line)

    def _upload_some(self) -> None:
        room = self._course.settings.workers * _WAITING_FOR_EACH_WORKER
        while self._waiting and len(self._course.uploaded_at_s) - self._course.done < room:
            key, recording = self._waiting.pop()
            self._course.uploaded_at_s[key] = time.time()
            answer = self._stack.s3.put_object(Bucket=UPLOADS_BUCKET, Key=key, Body=recording.path.read_bytes())
            self._etags[key] = answer["ETag"].strip('"')
            if self._chance.random() < self._course.settings.duplicate_share:
                self._course.duplicates += 1
                if self._chance.random() < 0.5:
                    self._notify_again(key)
                else:
                    self._late_duplicates.append(key)
            self._read_log()

    def _duplicate_late(self) -> None:
        for key in [key for key in self._late_duplicates if key in self._course.log.done_at_s]:
            self._late_duplicates.remove(key)
            self._notify_again(key)

    def _notify_again(self, key: str) -> None:
        """Send S3's notification again."""
        about = {"bucket": {"name": UPLOADS_BUCKET}, "object": {"key": quote_plus(key), "eTag": self._etags[key]}}
        record = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": about}
        self._stack.sqs.send_message(QueueUrl=self._stack.queue_url, MessageBody=json.dumps({"Records": [record]}))

    def _kill_one(self) -> None:
        """Kill the first worker when it is due. The others live on, so that their memory can be measured."""
        course = self._course
        due = course.done * (course.settings.kills + 1) // course.settings.count
        if course.kills < min(due, course.settings.kills):
            course.workers_cpu_s += _cpu_s(self._workers.processes[0].pid)
            self._workers.kill(0)
            course.kills += 1

    def _sample(self) -> None:
        if time.monotonic() - self._sampled_s < _SAMPLE_INTERVAL_S:
            return
        self._sampled_s = time.monotonic()
        for worker in self._workers.processes:
            sample = Sample(time.time(), _rss_mb(worker.pid))
            self._course.memory.setdefault(worker.pid, []).append(sample)
        self._course.stack_memory_mb.append(_rss_mb(os.getpid()))

    def _is_drained(self) -> bool:
        if self._course.done < len(self._course.uploaded_at_s) or self._late_duplicates:
            return False
        answer = self._stack.sqs.get_queue_attributes(
            QueueUrl=self._stack.queue_url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        if any(int(count) for count in answer["Attributes"].values()):
            return False
        return not self._redrive()

    def _redrive(self) -> int:
        """Move the dead letters back, as an operator does, and return how many."""
        if self._course.redriven >= _MAX_REDRIVES * max(1, self._course.settings.count // 10):
            return 0
        source, moved = self._stack.dead_letter_queue_url, 0
        while messages := self._stack.sqs.receive_message(QueueUrl=source).get("Messages", []):
            self._stack.sqs.send_message(QueueUrl=self._stack.queue_url, MessageBody=messages[0]["Body"])
            self._stack.sqs.delete_message(QueueUrl=source, ReceiptHandle=messages[0]["ReceiptHandle"])
            moved += 1
        self._course.redriven += moved
        return moved


def _rss_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next((int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS")), 0.0)


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process and of its children that have ended, such as ffmpeg."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def expected_results(recordings: Sequence[Recording]) -> dict[Path, dict[str, Any]]:
    """Return each file's result document without a queue, S3 or faults."""
    pipeline = Pipeline(EmotionClassifier.load(_MODEL, threads=1), MediaLimits(), SegmentationSettings())
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        # The function names every recording like this, and ffmpeg's messages depend on the extension.
        nameless = Path(folder) / "recording"
        for recording in recordings:
            shutil.copyfile(recording.path, nameless)
            results[recording.path] = json.loads(pipeline.run(nameless, Source(key="-")).to_json())
    return results


def plan_uploads(settings: Settings, folder: Path) -> list[Upload]:
    """Return the uploads in a random order."""
    chance = random.Random(settings.seed)
    bad_count = round(settings.count * settings.bad_share)
    good = good_recordings(folder, min(settings.count, _MAX_VARIANTS), settings.seed)
    bad = bad_recordings(folder, settings.seed)
    chosen = [bad[number % len(bad)] for number in range(bad_count)]
    chosen += [good[number % len(good)] for number in range(settings.count - bad_count)]
    chance.shuffle(chosen)
    return [(f"calls/{number:05d} + {one.path.name}", one) for number, one in enumerate(chosen)]


@contextmanager
def _environment(settings: Settings, folder: Path) -> Iterator[tuple[Stack, FaultyEndpoint, Workers]]:
    # A separate TMPDIR: a function that starts elsewhere on this machine clears the shared one.
    scratch = folder / "tmp"
    scratch.mkdir()
    own = {"SOAK_NOTES": str(folder / "notes.jsonl"), "TMPDIR": str(scratch)}
    with (
        running_stack(settings.options) as stack,
        faulty(stack.endpoint, seed=settings.seed, rate=settings.fault_rate) as proxy,
    ):
        behind_proxy = replace(stack, endpoint=proxy.endpoint)
        with running_workers(
            behind_proxy,
            _MODEL.resolve(),
            folder / "function.log",
            settings.workers,
            handler="tests.support.soak.worker.handler",
            settings={**_SETTINGS, **own},
        ) as workers:
            yield stack, proxy, workers


def soak(settings: Settings, folder: Path) -> int:
    """Run a soak, print the report and return the exit status."""
    print(f"Making recordings in {folder} …", flush=True)
    uploads = plan_uploads(settings, folder)
    distinct = {recording.path: recording for _, recording in uploads}
    expected = expected_results(list(distinct.values()))
    with _environment(settings, folder) as (stack, proxy, workers):
        course = Course(settings, expected={key: expected[recording.path] for key, recording in uploads})
        print(f"{settings.count} uploads of {len(distinct)} different files, {settings.workers} workers …", flush=True)
        cpu_s = time.process_time()
        Soak(stack, workers, uploads, course).run()
        course.stack_cpu_s = time.process_time() - cpu_s
        return report(course, stack, proxy, (folder / "notes.jsonl").read_bytes().splitlines())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="number of recordings")
    parser.add_argument("--workers", type=int, default=3, help="number of processes that run the function")
    parser.add_argument("--seed", type=int, default=1, help="seed of the recordings, the faults and the duplicates")
    parser.add_argument("--faults", type=float, default=0.02, help="share of the requests to S3 and SQS that fail")
    parser.add_argument("--kills", type=int, help="how often a worker is killed (default: once in 100 recordings)")
    parser.add_argument("--keep", type=Path, help="folder that keeps the recordings, the log and the notes")
    given = parser.parse_args(arguments)
    kills = given.count // 100 if given.kills is None else given.kills
    settings = Settings(given.count, given.workers, given.seed, given.faults, kills)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        return soak(settings, given.keep)
    with tempfile.TemporaryDirectory(prefix="audio-emotion-soak-") as folder:
        return soak(settings, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
