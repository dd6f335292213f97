"""`audio-emotion classify`: files in; tables, JSON lines or CSV out."""

import csv
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from rich.console import Console

from core import settings
from core.cli.tables import result_table, show_demo_notice, timelines
from core.errors import NotAudio
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Result, Source

if TYPE_CHECKING:
    import _csv

Form = Literal["table", "json", "csv"]


def classify_files(files: Iterable[Path], model_dir: Path, *, form: Form) -> int:
    """Classify each file and show the results; returns the exit status."""
    classifier = EmotionClassifier.load(model_dir)
    if classifier.identity.demo:
        show_demo_notice()
    pipeline = Pipeline(classifier, settings.read(settings.MediaLimits))
    results = _results(files, pipeline)
    if form == "table":
        return _show(results)
    failed = False
    rows = csv_writer(sys.stdout)
    if form == "csv":
        rows.writerow(_csv_header(pipeline.model.labels))
    for result in results:
        failed |= result.status == "failed"
        if form == "json":
            sys.stdout.write(result.to_json() + "\n")
        else:
            rows.writerows(_csv_rows(result))
        sys.stdout.flush()
    return int(failed)


def _show(results: Iterable[Result]) -> int:
    console = Console()
    done = list(results)
    console.print(result_table(done))
    for timeline in timelines(done, console.width):
        console.print(timeline)
    return int(any(result.status == "failed" for result in done))


class _LineFeeds:
    """What rows are written to that are to end with a line feed alone.

    The csv module quotes a carriage return within a cell only where rows end with one, and a spreadsheet takes one that
    is not quoted for the end of the row: what follows would begin a cell of its own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> None:
        self._stream.write(row.removesuffix("\r\n") + "\n")


def csv_writer(stream: TextIO) -> "_csv.Writer":
    """What writes rows in which no text can break out of its cell."""
    return csv.writer(_LineFeeds(stream), lineterminator="\r\n")


def _csv_header(labels: Iterable[str]) -> list[str]:
    return ["recording", "status", "channel", "start_s", "end_s", "emotion", "score", *labels, "error"]


def _csv_rows(result: Result) -> Iterator[list[object]]:
    """One row for each utterance; one that says why, if there is none."""
    start = [_harmless(result.source.key), result.status]
    labels = result.model.labels
    for channel in result.channels or ():
        for part in channel.utterances:
            scores = [part.scores.get(label, "") for label in labels]
            yield [*start, channel.channel, part.start_s, part.end_s, part.emotion, part.score, *scores, ""]
    if not result.channels:
        message = result.error.message if result.error else ""
        yield [*start, "", "", "", "", "", *("" for _ in labels), _harmless(message)]


def _harmless(text: str) -> str:
    """A spreadsheet takes what begins like this for a formula, and runs it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _results(files: Iterable[Path], pipeline: Pipeline) -> Iterator[Result]:
    for file in files:
        source = Source(
            key=os.fsencode(file).decode("utf-8", "replace"), size_bytes=file.stat().st_size if file.is_file() else None
        )
        if not file.exists():
            yield pipeline.failed(source, NotAudio("There is no such file."))
        elif not file.is_file():
            yield pipeline.failed(source, NotAudio("This is a folder or a device, not a file."))
        else:
            yield pipeline.run(file.resolve(), source)
