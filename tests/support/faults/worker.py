"""A process that forks workers, each of which runs the function as Lambda would, one call of S3 or SQS at a time.

A worker sends each call to its driver and waits for the answer. The driver decides which worker moves next, what AWS
answers, and between which two calls a worker is killed. The forking process has all modules imported, no threads and no
connection, so replacing a killed worker takes milliseconds.

    python -m tests.support.faults.worker SOCKET
"""

import ctypes
import io
import logging
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.response import StreamingBody

import core.deadline
import core.delivery.delivery
import core.delivery.lease
import core.delivery.storage
import handlers.batch_operations
import handlers.processing
import handlers.s3_upload
from core.delivery import Delivery
from core.delivery.queue import UploadQueue
from core.delivery.storage import Storage
from core.settings import FunctionSettings, read
from tests.support.quick_pipeline import QuickPipeline

_SET_PARENT_DEATH_SIGNAL = 1


@dataclass
class _Clock:
    """The driver's clock, in place of the machine's."""

    now_s: float = 0.0

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, _: float) -> None:
        """Return at once, because the driver decides which worker moves next."""


@dataclass
class _Context:
    """Lambda's context object."""

    clock: _Clock
    ends_at_s: float
    aws_request_id: str = "request"
    function_name: str = "audio-emotion"
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 3008
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:audio-emotion"

    def get_remaining_time_in_millis(self) -> int:
        return round((self.ends_at_s - self.clock.now_s) * 1000)


@dataclass
class _Driver:
    """The driver, as a client of S3 and SQS and as the observer of inferences."""

    line: Connection
    clock: _Clock = field(default_factory=_Clock)

    def ask(self, *what: Any) -> Any:
        """Send a request, and return the driver's answer once it is this worker's turn."""
        self.line.send(what)
        self.clock.now_s, outcome, value = self.line.recv()
        if outcome == "refused":
            raise ClientError(value, what[1])
        if outcome == "lost":
            raise ReadTimeoutError(endpoint_url="http://s3")
        return value

    def on_inference(self, content: bytes) -> None:
        self.ask("inference", content)

    def __getattr__(self, operation: str) -> Any:
        def call(**request: Any) -> Any:
            answer = self.ask("call", operation, request)
            if "Body" in answer:
                answer["Body"] = StreamingBody(io.BytesIO(answer["Body"]), len(answer["Body"]))
            return answer

        return call


def serve(path: str) -> None:
    """Fork a worker for each connection."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # killed workers leave no zombies
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)  # a killed driver leaves no process behind
    driver = _Driver(None)  # type: ignore[arg-type]
    pipeline = QuickPipeline(driver.on_inference)
    with Listener(path, family="AF_UNIX") as listener:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            line = listener.accept()
            assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads cannot be forked safely"
            if os.fork() == 0:
                driver.line = line
                _work(driver, pipeline)
                os._exit(0)
            line.close()


def _work(driver: _Driver, pipeline: QuickPipeline) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable()
    random.seed(0)
    for module in (core.deadline, core.delivery.delivery, core.delivery.lease):
        module.time = driver.clock  # type: ignore[attr-defined]
    # In this thread, because the driver may take any time to answer.
    core.delivery.storage._run_until = lambda deadline, read, key: read()
    driver.line.send(os.getpid())
    while True:
        try:
            event, environment, driver.clock.now_s, ends_at_s = driver.line.recv()
        except EOFError:
            return
        os.environ.update(environment)
        settings = read(FunctionSettings)
        queue = UploadQueue(settings.queue_url, driver)  # type: ignore[arg-type]
        delivery = Delivery(Storage(driver), pipeline, settings, queue)  # type: ignore[arg-type]
        handlers.processing.delivery = lambda delivery=delivery: delivery  # type: ignore[assignment]
        handlers.processing.queue = lambda _, queue=queue: queue  # type: ignore[assignment]
        function = handlers.s3_upload if "Records" in event else handlers.batch_operations
        answer = function.handler(event, _Context(driver.clock, ends_at_s))
        driver.line.send(("done", answer))


if __name__ == "__main__":
    serve(sys.argv[1])
