"""`audio-emotion classify`: classify files, and print a table, JSON lines or CSV."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from core import settings
from core.cli.classifier import load_classifier, load_separator
from core.cli.csv_output import CsvRow, CsvTable, csv_writer
from core.cli.tables import OutputFormat, progress_bar, result_table, timelines
from core.pipeline import Pipeline
from core.recordings import classify_file, recordings_in
from core.results import Result
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings, SpeakerMode


def classify_files(
    files: Sequence[Path],
    model_dir: Path,
    *,
    form: OutputFormat,
    labels: str = "",
    only: str = "",
    speakers: SpeakerMode | None = None,
    per: CsvRow = "utterance",
) -> int:
    """Classify each file and print the results; return the exit status."""
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
    classifier = load_classifier(model_dir, labels=labels, only=only)
    pipeline = Pipeline(classifier, limits, segmentation, load_separator(speakers))
    results = _results(files, pipeline, form)
    if form == "table":
        return _show(results)
    failed = False
    rows = csv_writer(sys.stdout)
    table = CsvTable(pipeline.model.names, pipeline.model.labels, per)
    if form == "csv":
        rows.writerow(table.header)
    for result in results:
        failed |= result.status == "failed"
        if form == "json":
            sys.stdout.write(result.to_json() + "\n")
        else:
            rows.writerows(table.rows(result))
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
        recordings = list(recordings_in(files))
        for file in progress.track(recordings, description="classifying"):
            yield classify_file(file, pipeline)
