"""`audio-emotion demo` and `audio-emotion local`: the whole pipeline on this machine."""

import hashlib
import json
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console

from core import settings
from core.cli.classifier import load_classifier, load_separator, speaker_settings
from core.cli.tables import ResultRows, progress_bar, result_table
from core.errors import FolderRefused
from core.formatting import counted, printable
from core.local.folders import Inbox, ResultFiles, result_files
from core.local.stack import Stack, running_stack
from core.local.workers import Workers, running_workers
from core.paths import is_ignored
from core.results import Result
from core.scratch import warn_if_too_small
from core.settings import CLI_PREFIX, MediaLimits, ModelSettings, ScoreSettings, SegmentationSettings, SpeakerMode

EXPECTATIONS = "expected.json"
"""A file in the folder of samples with the emotion of each."""

_MIN_ACCURACY = 0.95
_MAX_WAIT_S = 120.0
_POLL_INTERVAL_S = 0.2
_PAUSE_PER_POLL = 2.0
"""Pause after a poll, relative to its duration. Polling thousands of files must leave the processor to the workers."""


def run_demo(samples: Path, out: Path, model_dir: Path) -> int:
    """Upload every sample, wait for the results and print them; return the exit status."""
    console = Console()
    files = _recordings_in(samples)
    load_classifier(model_dir)  # so that a damaged model is reported here rather than in the workers' log
    log = out.parent / "function.log"
    with (
        running_stack() as stack,
        result_files(stack, out, "demo") as documents,
        _workers(stack, model_dir, log) as workers,
    ):
        documents.clear()
        for file in files:
            stack.upload(file)
        results = _wait_for(len(files), documents, workers, console)
    console.print(result_table(sorted(results, key=lambda result: result.source.key)))
    console.print(f"Results: {out}/  Log: {log}", highlight=False)
    if len(results) < len(files):
        console.print(f"[red]{len(files) - len(results)} of {len(files)} recordings have no result.[/red]")
        return 1
    return _compare(results, samples / EXPECTATIONS, console)


def _recordings_in(samples: Path) -> list[Path]:
    names = (file for file in samples.iterdir() if file.is_file() and not is_ignored(file.name))
    return sorted(file for file in names if file.suffix not in (".json", ".md"))


def _workers(
    stack: Stack, model_dir: Path, log: Path, count: int = 1, speakers: SpeakerMode | None = None
) -> AbstractContextManager[Workers]:
    return running_workers(stack, model_dir.resolve(), log, count, settings=function_settings(speakers))


def function_settings(speakers: SpeakerMode | None = None) -> dict[str, str]:
    """Return the command line's settings as the function's variables, whose names have no prefix."""
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
    threads = settings.read(ModelSettings, prefix=CLI_PREFIX).inference_threads
    separation = speaker_settings(speakers)
    values = {
        **limits.model_dump(),
        **segmentation.model_dump(),
        **separation.model_dump(),
        **settings.read(ScoreSettings, prefix=CLI_PREFIX).model_dump(),
        "speakers_model": separation.speakers_model.resolve(),
        "inference_threads": threads or "",
    }
    return {name.upper(): str(value) for name, value in values.items()}


def _wait_for(count: int, documents: ResultFiles, workers: Workers, console: Console) -> list[Result]:
    results: list[Result] = []
    give_up_at_s = time.monotonic() + _MAX_WAIT_S
    with progress_bar(console) as progress:
        task = progress.add_task("classifying", total=count)
        while len(results) < count and time.monotonic() < give_up_at_s:
            new = documents.fetch_new()
            results += [Result.model_validate_json(file.read_bytes()) for file in new if file.suffix == ".json"]
            progress.update(task, completed=len(results))
            workers.check()
            if not new:
                time.sleep(_POLL_INTERVAL_S)
    return results


def _compare(results: list[Result], expectations: Path, console: Console) -> int:
    if not expectations.exists():
        return 0
    expected: dict[str, Any] = json.loads(expectations.read_text(encoding="utf-8"))
    known = [result for result in results if result.source.key in expected and not result.model.dimensions]
    correct = [result for result in known if result.emotion == expected[result.source.key]["emotion"]]
    if not known:
        return 0
    accuracy = len(correct) / len(known)
    colour = "green" if accuracy >= _MIN_ACCURACY else "red"
    console.print(f"[{colour}]{len(correct)} of {len(known)} recordings classified as expected.[/{colour}]")
    return int(accuracy < _MIN_ACCURACY)


def run_local(
    inbox: Path,
    out: Path,
    model_dir: Path,
    workers: int,
    speakers: SpeakerMode | None = None,
    *,
    delete_results: bool = False,
) -> int:
    """Classify the files of the inbox until Ctrl-C; return the exit status.

    Parameters
    ----------
    delete_results
        Whether to delete the results of recordings that are deleted from the inbox.
    """
    console = Console()
    _check_apart(inbox, out)
    inbox.mkdir(parents=True, exist_ok=True)
    # So that a damaged network is reported here rather than in the workers' log.
    model = load_classifier(model_dir).identity
    load_separator(speakers)
    # A shell makes its background jobs ignore SIGINT, and supervisors send SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    warn_if_too_small(settings.read(MediaLimits, prefix=CLI_PREFIX).max_size_bytes)
    log = out.parent / "function.log"
    made_by = hashlib.sha256(json.dumps([model.model_dump(), function_settings(speakers)]).encode()).hexdigest()
    with (
        running_stack() as stack,
        result_files(stack, out, "local", made_by) as documents,
        _workers(stack, model_dir, log, workers, speakers) as running,
    ):
        console.print(f"Copy recordings into {inbox}/. The results appear in {out}/. Press Ctrl-C to stop.")
        try:
            rows = ResultRows(console, model)
            watched = Inbox(stack, inbox, is_finished=documents.has_result)
            _serve_inbox(watched, documents, running, console, rows, delete_results=delete_results)
        except KeyboardInterrupt:
            console.print("Stopping after the current recording.")
    return 0


def _check_apart(inbox: Path, out: Path) -> None:
    """Check that neither folder contains the other, because results in the inbox would be uploaded for ever.

    Raises
    ------
    FolderRefused
        If one contains the other.
    """
    inside, outside = inbox.resolve(), out.resolve()
    if inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise FolderRefused(f"{inbox}/ and {out}/ overlap. Choose folders that do not contain each other.")


def _serve_inbox(
    inbox: Inbox,
    documents: ResultFiles,
    workers: Workers,
    console: Console,
    rows: ResultRows,
    *,
    delete_results: bool,
) -> None:
    pending: set[str] = set()
    with console.status("") as waiting:  # shown on a terminal only
        while True:
            began_s = time.monotonic()
            pending |= set(inbox.upload_new())
            for file in documents.fetch_new():
                if file.suffix == ".json":
                    result = Result.model_validate_json(file.read_bytes())
                    pending.discard(result.source.key)
                    rows.print(result)
            if delete_results and inbox.keys is not None:
                for key in documents.delete_except(inbox.keys):
                    console.print(f"Deleted the result of {printable(key)}", markup=False, highlight=False)
            waiting.update(f"{counted(len(pending), 'recording')} in progress" if pending else "Waiting for recordings")
            workers.check()
            time.sleep(max(_POLL_INTERVAL_S, _PAUSE_PER_POLL * (time.monotonic() - began_s)))
