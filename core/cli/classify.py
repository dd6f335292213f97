"""`audio-emotion classify`: classify files, and print a table, JSON lines or CSV, or write them to a file."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import Progress

from core.cli.journal import hash_of, version_of
from core.cli.parallel import (
    Finished,
    PipelineOptions,
    Task,
    classify_here,
    classify_in_workers,
    number_of_workers,
)
from core.cli.result_file import check_result_file, delayed_interrupt, open_result_file
from core.cli.tables import (
    FailureLog,
    OutputFormat,
    ResultRows,
    classification_progress,
    show_demo_notice,
    timelines,
)
from core.formatting import counted, printable
from core.results import Model, Result
from core.results.csv_table import CsvRow, CsvTable, csv_writer

_MAX_TIMELINES = 20
"""Recordings with a timeline below the table. The results of more are not kept in memory."""


def classify_files(
    files: Sequence[Path],
    options: PipelineOptions,
    *,
    form: OutputFormat,
    per: CsvRow = "utterance",
    jobs: int | None = None,
) -> int:
    """Classify each file and print the results in the same order; return the exit status."""
    output = Console()
    # On the terminal that shows the output lines, a bar would break them up, except that of the table's own console.
    console = output if form == "table" and output.is_terminal else Console(stderr=True)
    is_shown = console.is_terminal and (form == "table" or not output.is_terminal)
    run = _Run(files, options, jobs)
    printer = _PRINTERS[form](output, run.model, per, files)
    failed = False
    with classification_progress(console, disable=not is_shown) as progress:
        for result in _in_order(run.results(files, progress)):
            failed |= result.status == "failed"
            printer.print(result)
    printer.finish()
    return int(failed)


def classify_into_file(
    files: Sequence[Path],
    options: PipelineOptions,
    out: Path,
    *,
    per: CsvRow = "utterance",
    jobs: int | None = None,
    resume: bool = False,
) -> int:
    """Classify each file and write the results in the order in which they are finished; return the exit status.

    Raises
    ------
    FolderRefused
        If the file exists and is not to be continued.
    """
    check_result_file(out, resume=resume)
    run = _Run(files, options, jobs)
    failures = FailureLog(Console(stderr=True))
    kept = count = 0
    try:
        with open_result_file(out, run.model, run.made_by, per, resume=resume) as results:
            remaining = [file for file in files if str(file) not in results.finished]
            kept = count = len(files) - len(remaining)
            with classification_progress(failures.console) as progress:
                for task, result in run.results(remaining, progress, finished=count):
                    with delayed_interrupt():
                        results.write(result, task.version)
                        count += 1
                    if result.error:
                        failures.report(result.source.key, result.error.message)
    except KeyboardInterrupt:
        failures.note(f"Stopped: {count:,} of {counted(len(files), 'recording')} finished. Continue with --resume.")
        raise
    earlier = f", {kept:,} of them by an earlier run" if kept else ""
    failed = f", {failures.count:,} failed" if failures.count else ""
    Console().print(f"Wrote {out}: {counted(count, 'recording')}{earlier}{failed}.", highlight=False, markup=False)
    return int(failures.count > 0)


class _Run:
    """The classification of files in this process or in workers.

    Attributes
    ----------
    model
        The model's identity.
    made_by
        The hash of the model and the settings.
    """

    def __init__(self, files: Sequence[Path], options: PipelineOptions, jobs: int | None) -> None:
        self._options = options
        self._workers = number_of_workers(files, jobs)
        # Loaded also for workers, because a damaged model is reported here, and a header has the model's labels.
        pipeline = options.pipeline()
        self.model = pipeline.model
        self.made_by = hash_of(pipeline)
        self._pipeline = pipeline if self._workers == 1 else None
        if self.model.demo:
            show_demo_notice()

    def results(self, files: Sequence[Path], progress: Progress, *, finished: int = 0) -> Iterator[Finished]:
        """Yield each file with its result, in the order in which they are finished.

        Parameters
        ----------
        finished
            The number of files that an earlier run has finished.
        """
        bar = progress.add_task("classifying", total=finished + len(files), completed=finished)

        def tasks() -> Iterator[Task]:
            for number, file in enumerate(files):
                progress.update(bar, description=printable(file.name))
                yield Task(number, file, version_of(file))

        if self._pipeline:
            pairs = classify_here(tasks(), self._pipeline)
        else:
            pairs = classify_in_workers(tasks(), self._options, self.model, self._workers)
        for pair in pairs:
            progress.advance(bar)
            yield pair


def _in_order(finished: Iterable[Finished]) -> Iterator[Result]:
    """Yield the results in the order of their files. Those that are finished early wait."""
    early: dict[int, Result] = {}
    number = 0
    for task, result in finished:
        early[task.number] = result
        while number in early:
            yield early.pop(number)
            number += 1


class _Printer(Protocol):
    """Prints results in one format."""

    def __init__(self, console: Console, model: Model, per: CsvRow, files: Sequence[Path]) -> None: ...

    def print(self, result: Result) -> None: ...

    def finish(self) -> None: ...


class _Table:
    """A row for each recording, and timelines below the table if there are only a few recordings."""

    def __init__(self, console: Console, model: Model, _: CsvRow, files: Sequence[Path]) -> None:
        self._console = console
        self._rows = ResultRows(console, model, map(str, files))
        self._has_timelines = len(files) <= _MAX_TIMELINES
        self._results: list[Result] = []

    def print(self, result: Result) -> None:
        self._rows.print(result)
        if self._has_timelines:
            self._results.append(result)

    def finish(self) -> None:
        for timeline in timelines(self._results, self._console.width):
            self._console.print(timeline)


class _JsonLines:
    def __init__(self, *_: object) -> None:
        pass

    def print(self, result: Result) -> None:
        sys.stdout.write(result.to_json() + "\n")
        sys.stdout.flush()

    def finish(self) -> None:
        pass


class _Csv:
    def __init__(self, _: Console, model: Model, per: CsvRow, __: Sequence[Path]) -> None:
        self._table = CsvTable.of([model], per)
        self._rows = csv_writer(sys.stdout)
        self._rows.writerow(self._table.header)

    def print(self, result: Result) -> None:
        self._rows.writerows(self._table.rows(result))
        sys.stdout.flush()

    def finish(self) -> None:
        pass


_PRINTERS: dict[OutputFormat, type[_Printer]] = {"table": _Table, "json": _JsonLines, "csv": _Csv}
