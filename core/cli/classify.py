"""`audio-emotion classify`: classify files, and print a table, JSON lines or CSV."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from core import settings
from core.cli.classifier import load_classifier
from core.cli.csv_output import csv_header, csv_rows, csv_writer
from core.cli.tables import OutputFormat, progress_bar, result_table, timelines
from core.errors import NotAudio
from core.pipeline import Pipeline
from core.results import Result, Source
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings


def classify_files(files: Sequence[Path], model_dir: Path, *, form: OutputFormat) -> int:
    """Classify each file and print the results; return the exit status."""
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
    pipeline = Pipeline(load_classifier(model_dir), limits, segmentation)
    results = _results(files, pipeline, form)
    if form == "table":
        return _show(results)
    failed = False
    rows = csv_writer(sys.stdout)
    if form == "csv":
        rows.writerow(csv_header(pipeline.model.labels))
    for result in results:
        failed |= result.status == "failed"
        if form == "json":
            sys.stdout.write(result.to_json() + "\n")
        else:
            rows.writerows(csv_rows(result, result.model.labels))
        sys.stdout.flush()
    return int(failed)


def _show(results: Iterable[Result]) -> int:
    console = Console()
    done = list(results)
    console.print(result_table(done))
    for timeline in timelines(done, console.width):
        console.print(timeline)
    return int(any(result.status == "failed" for result in done))


def _progress(form: OutputFormat) -> Progress:
    """Return a progress bar on stderr, shown if stderr is a terminal that does not also show the output lines."""
    notes = Console(stderr=True)
    is_shown = notes.is_terminal and (form == "table" or not sys.stdout.isatty())
    return progress_bar(notes, transient=True, disable=not is_shown)


def _results(files: Sequence[Path], pipeline: Pipeline, form: OutputFormat) -> Iterator[Result]:
    with _progress(form) as progress:
        yield from (_result(file, pipeline) for file in progress.track(files, description="classifying"))


def _result(file: Path, pipeline: Pipeline) -> Result:
    key = os.fsencode(file).decode("utf-8", "replace")
    source = Source(key=key, size_bytes=file.stat().st_size if file.is_file() else None)
    if not file.exists():
        return Result.failed(source, pipeline.model, NotAudio("There is no such file."))
    if not file.is_file():
        return Result.failed(source, pipeline.model, NotAudio("This is a folder or a device, not a file."))
    return pipeline.run(file.resolve(), source)
