"""`audio-emotion evaluate`: classify labelled recordings and compute metrics. A run continues an interrupted one."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core import settings
from core.cli.classifier import load_classifier
from core.cli.classify import classify_file
from core.cli.recordings import check_file
from core.errors import FolderRefused, ManifestUnreadable, RecordingError, RecordingNotFound, RecordingUnreadable
from core.evaluation import (
    FAILED,
    NO_SPEECH,
    LabelledRecording,
    Metrics,
    Prediction,
    columns_of,
    compute_metrics,
    confusion_matrix_svg,
    parse_names,
    read_manifest,
)
from core.formatting import counted, printable
from core.pipeline import Pipeline
from core.results import Error
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings

_FINISHED = "finished.jsonl"
_METRICS = "figures.json"
_CONFUSION_MATRIX = "confusion.svg"
_UNREADABLE = (RecordingNotFound.code, RecordingUnreadable.code)

_FileVersion = tuple[str, int, int]
"""Path, size in bytes and modification time, which change when a recording is replaced."""


def evaluate_manifest(manifest: Path, model_dir: Path, out: Path, names: str, *, as_json: bool, fresh: bool) -> int:
    """Classify the recordings of a manifest and print the metrics; return the exit status.

    Recordings that cannot be read do not count in the metrics. The others that fail count as wrong.
    """
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
    classifier = load_classifier(model_dir)
    labels = classifier.identity.labels
    labelled, skipped = read_manifest(manifest, labels, parse_names(names, labels))
    notes = Console(stderr=True)
    for name, count in skipped.items():
        notes.print(
            f"Skipped {counted(count, 'recording')} labelled {name!r}, which is not an emotion of the model. "
            "--map can translate it.",
            markup=False,
        )
    errors = _Errors(notes)
    # Before the classification, which may take an hour.
    readable = [item for item in labelled if _is_readable(item, errors)]
    pipeline = Pipeline(classifier, limits, segmentation)
    _prepare(out)
    made_by = "\n".join((classifier.identity.fingerprint, limits.model_dump_json(), segmentation.model_dump_json()))
    finished = _Finished(out / _FINISHED, hashlib.sha256(made_by.encode()).hexdigest(), fresh=fresh)
    rows = list(_classified(readable, pipeline, finished, errors))
    if not rows:
        raise ManifestUnreadable(f"None of the recordings in {manifest} can be read.")
    metrics = compute_metrics(rows)
    (out / _METRICS).write_text(metrics.to_json() + "\n", encoding="utf-8")
    (out / _CONFUSION_MATRIX).write_text(confusion_matrix_svg(metrics, labels), encoding="utf-8")
    if as_json:
        sys.stdout.write(metrics.to_json() + "\n")
        return int(errors.count > 0)
    console = Console()
    _show(metrics, labels, console)
    console.print(f"Metrics, confusion matrix and predictions: {out}/", highlight=False, markup=False)
    return int(errors.count > 0)


class _Errors:
    """Prints one sentence on stderr for each recording that fails, and counts them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.count = 0

    def report(self, path: Path, message: object) -> None:
        self.count += 1
        self.console.print(f"[red]{escape(printable(f'{path}: {message}'))}[/red]", soft_wrap=True)


def _is_readable(item: LabelledRecording, errors: _Errors) -> bool:
    try:
        check_file(item.path)
    except RecordingError as error:
        errors.report(item.path, error)
        return False
    return True


def _prepare(out: Path) -> None:
    """Create the folder, or check that its files are those of an earlier evaluation.

    Raises
    ------
    FolderRefused
        If they are not.
    """
    out.mkdir(parents=True, exist_ok=True)
    finished = out / _FINISHED
    if finished.exists():
        with finished.open("rb") as file:
            start = file.readline()
        foreign = [] if b'"made_by"' in start or not start else [finished]
    else:
        foreign = [file for file in (out / _METRICS, out / _CONFUSION_MATRIX) if file.exists()]
    if foreign:
        raise FolderRefused(f"{foreign[0]} is not a file of an earlier evaluation. Choose another folder with --out.")


def _classified(
    labelled: list[LabelledRecording], pipeline: Pipeline, finished: "_Finished", errors: _Errors
) -> Iterator[Prediction]:
    columns = (TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors.console) as progress:
        for item in progress.track(labelled, description=""):
            predicted, error = _predicted(item.path, pipeline, finished)
            if error:
                errors.report(item.path, error.message)
            if error is None or error.code not in _UNREADABLE:
                yield Prediction(str(item.path), item.emotion, predicted)


def _predicted(path: Path, pipeline: Pipeline, finished: "_Finished") -> tuple[str, Error | None]:
    """Return the prediction for a recording; a failed one is tried again in the next run."""
    version = _version_of(path)
    predicted = finished.prediction(version) if version else None
    if predicted:
        return predicted, None
    result = classify_file(path, pipeline)
    predicted = result.emotion or (FAILED if result.error else NO_SPEECH)
    if version and result.error is None:
        finished.add(version, predicted)
    return predicted, result.error


def _version_of(path: Path) -> _FileVersion | None:
    try:
        status = path.stat()
    except OSError:
        return None  # the file was removed since it was checked
    return str(path), status.st_size, status.st_mtime_ns


class _Finished:
    """The predictions of earlier runs with the same model and settings, in a file with one line for each recording.

    Parameters
    ----------
    made_by
        Hash of the model and the settings.
    fresh
        Whether to discard earlier predictions.
    """

    def __init__(self, file: Path, made_by: str, *, fresh: bool) -> None:
        self._file = file
        self._made_by = made_by
        if fresh:
            file.unlink(missing_ok=True)
        file.touch()  # marks the folder as that of an evaluation, even if all recordings fail
        text = file.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):
            # An earlier run was killed while it wrote this line. The next line must not be appended to it.
            with file.open("a", encoding="utf-8") as unfinished:
                unfinished.write("\n")
        self._rows = dict(self._parsed(text))

    def _parsed(self, text: str) -> Iterator[tuple[_FileVersion, str]]:
        for line in text.splitlines():
            try:
                row = json.loads(line)
                if row["made_by"] == self._made_by and row["heard"] != FAILED:
                    yield (row["path"], row["size_bytes"], row["modified_ns"]), row["heard"]
            except (ValueError, KeyError, TypeError):
                continue

    def prediction(self, version: _FileVersion) -> str | None:
        return self._rows.get(version)

    def add(self, version: _FileVersion, predicted: str) -> None:
        path, size_bytes, modified_ns = version
        row = {"path": path, "size_bytes": size_bytes, "modified_ns": modified_ns, "heard": predicted}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"made_by": self._made_by}) + "\n")
        self._rows[version] = predicted


def _show(metrics: Metrics, labels: tuple[str, ...], console: Console) -> None:
    columns = columns_of(metrics, labels)
    table = Table(box=None, pad_edge=False, header_style="bold", title="rows: label, columns: prediction")
    table.add_column("")
    for name in (*columns, "recall"):
        table.add_column(name, justify="right")
    for emotion, row in metrics.confusion.items():
        counts = [str(row[name]) if row.get(name) else "[dim]·[/dim]" for name in columns]
        table.add_row(emotion, *counts, f"{metrics.recall[emotion]:.1%}")
    console.print(table)
    console.print(
        f"{counted(metrics.recordings, 'recording')}: {metrics.unweighted_accuracy:.1%} unweighted accuracy "
        f"(mean recall), {metrics.weighted_accuracy:.1%} weighted accuracy (share that is correct).",
        highlight=False,
    )
