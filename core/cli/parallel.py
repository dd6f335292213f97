"""Classifies files one after the other, or in several worker processes: docs/decisions/0046-worker-processes.md."""

import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from core import settings
from core.checkpoints import loading
from core.cli.classifier import score_settings, speaker_settings
from core.cli.journal import FileVersion
from core.errors import AudioEmotionError, GivenUp, WorkerEnded
from core.library.recordings import classify_file, descriptor_of, source_of
from core.model.classifier import default_threads
from core.model.labels import parse_only, parse_renamed
from core.pipeline import Pipeline
from core.results import Model, Result
from core.settings import CLI_PREFIX, MediaLimits, ModelSettings, SegmentationSettings, SpeakerMode
from core.speakers.separation import SpeakerSeparator

_MIN_FILES_PER_WORKER = 8
"""A worker takes about as long to start as to classify this number of short files."""

_context = get_context("spawn")  # a fork would copy the locks of ONNX Runtime's threads


@dataclass(frozen=True)
class PipelineOptions:
    """The options of `classify` that change a result, besides the settings in the environment."""

    model_dir: Path
    labels: str = ""
    only: str = ""
    speakers: SpeakerMode | None = None
    unsure_below: float | None = None

    def pipeline(self, threads: int | None = None) -> Pipeline:
        """Load the model.

        Parameters
        ----------
        threads
            The number of threads to compute with; by default, that of the settings.
        """
        threads = threads or default_threads(settings.read(ModelSettings, prefix=CLI_PREFIX))
        renamed, only = parse_renamed(self.labels), parse_only(self.only)
        return Pipeline(
            loading.load_classifier(self.model_dir, threads, renamed=renamed, only=only),
            settings.read(MediaLimits, prefix=CLI_PREFIX),
            settings.read(SegmentationSettings, prefix=CLI_PREFIX),
            SpeakerSeparator(speaker_settings(self.speakers), threads),
            score_settings(self.unsure_below),
        )


def number_of_workers(files: Sequence[Path], requested: int | None) -> int:
    """Return the number of worker processes; 1 if this process should classify the files.

    By default, each processor has a worker if there are enough files. Only this process can read standard input.
    """
    if any(descriptor_of(file) is not None for file in files):
        return 1
    return requested or max(1, min(default_threads(ModelSettings()), len(files) // _MIN_FILES_PER_WORKER))


@dataclass(frozen=True)
class Task:
    """A file to classify: its number among the files, and its version before it was read."""

    number: int
    file: Path
    version: FileVersion | None
    is_retry: bool = False


Finished = tuple[Task, Result]


def classify_here(tasks: Iterator[Task], pipeline: Pipeline) -> Iterator[Finished]:
    """Classify files one after the other, in this process."""
    return ((task, classify_file(task.file, pipeline)) for task in tasks)


def classify_in_workers(
    tasks: Iterator[Task], options: PipelineOptions, model: Model, count: int
) -> Iterator[Finished]:
    """Classify files in worker processes, and yield them in the order in which they are finished.

    If a worker is killed, another one tries its file once more. If that one is killed too, the file gets a `failed`
    result. Only one file for each worker is taken from the iterator at a time.

    Raises
    ------
    WorkerEnded
        If a worker ends before it has loaded the model.
    AudioEmotionError
        If a worker raises one, because the disk is full, for example.
    """
    interrupted: deque[Task] = deque()
    with ExitStack() as cleanup:
        busy = {worker.connection: worker for worker in (_Worker.start(options, cleanup) for _ in range(count))}
        while busy:
            for connection in wait(list(busy)):
                worker = busy.pop(connection)  # type: ignore[call-overload]
                task, answer = worker.task, worker.answer()
                if answer is None:
                    worker = _Worker.start(options, cleanup)
                elif next_task := interrupted.popleft() if interrupted else next(tasks, None):
                    worker.give(next_task)
                if answer is None or worker.task:
                    busy[worker.connection] = worker
                if task is None:
                    continue  # the worker has started
                if isinstance(answer, Result):
                    yield task, answer
                elif not task.is_retry:
                    interrupted.append(replace(task, is_retry=True))
                else:
                    yield task, Result.failed(source_of(task.file), model, GivenUp(_KILLED))


_KILLED = "The process that classified the recording was killed twice, perhaps because the memory was full."


class _Worker:
    """A worker process, and the file that it classifies; None while it loads the model."""

    def __init__(self, process: Any, connection: "Connection[Any, Any]") -> None:
        self._process = process
        self.connection = connection
        self.task: Task | None = None

    @classmethod
    def start(cls, options: PipelineOptions, cleanup: ExitStack) -> "_Worker":
        connection, theirs = _context.Pipe()
        process = _context.Process(target=_work, args=(theirs, options), daemon=True)
        with _without_ctrl_c():
            process.start()
        theirs.close()
        worker = cls(process, connection)
        cleanup.callback(worker._end)
        return worker

    def give(self, task: Task) -> None:
        """Have the worker classify a file."""
        self.task = task
        with suppress(BrokenPipeError):  # `answer` says so
            self.connection.send(task.file)

    def answer(self) -> Result | bool | None:
        """Return the result of the task, True once the worker has started, or None if it was killed."""
        task, self.task = self.task, None
        try:
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            self._end()
            if task is None:
                raise WorkerEnded(
                    f"A worker process ended before it had loaded the model (exit status {self._process.exitcode}). "
                    "Try fewer --jobs, if the memory is full."
                ) from error
            return None
        if isinstance(answer, AudioEmotionError):
            raise answer
        assert isinstance(answer, Result | bool)  # sent by `_work`
        return answer

    def _end(self) -> None:
        self.connection.close()
        self._process.terminate()
        self._process.join()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Block SIGINT, which processes that start meanwhile inherit, as do their decoders.

    Ctrl-C reaches every process of the terminal's foreground group, but the parent process decides when they end.
    """
    resource_tracker.ensure_running()  # it unblocks SIGINT when it starts
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _work(connection: "Connection[Any, Any]", options: PipelineOptions) -> None:
    """Classify the files of a connection until it is closed."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        pipeline = options.pipeline(threads=1)
        connection.send(True)
        while True:
            connection.send(classify_file(connection.recv(), pipeline))
    except AudioEmotionError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return


def _exit_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # because this is a worker
    parent.join()
    os._exit(1)
