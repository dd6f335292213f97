"""`audio-emotion evaluate`: classify labelled recordings and compute metrics. A run continues an interrupted one."""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core import settings
from core.cli.classifier import load_classifier
from core.errors import FolderRefused, ManifestUnreadable, RecordingError, RecordingNotFound, RecordingUnreadable
from core.evaluation.dimensions import DimensionsReport, RatedPrediction, compute_dimension_metrics, values_beyond
from core.evaluation.emotions import (
    FAILED,
    NO_SPEECH,
    Metrics,
    Prediction,
    columns_of,
    compute_metrics,
    confusion_matrix_svg,
)
from core.evaluation.manifest import LabelledRecording, RatedRecording, parse_names, read_manifest, read_rated_manifest
from core.formatting import counted, printable
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.recordings import check_file, classify_file
from core.results import Error, Model
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings

_FINISHED = "finished.jsonl"
_METRICS = "figures.json"
_CONFUSION_MATRIX = "confusion.svg"
_UNREADABLE = (RecordingNotFound.code, RecordingUnreadable.code)

_RecordingT = TypeVar("_RecordingT", LabelledRecording, RatedRecording)
_Predicted = str | dict[str, float]
"""The emotion, `NO_SPEECH`, `FAILED`, or the values of the dimensions."""
_FileVersion = tuple[str, int, int]
"""Path, size in bytes and modification time, which change when a recording is replaced."""


def evaluate_manifest(manifest: Path, model_dir: Path, out: Path, names: str, *, as_json: bool, fresh: bool) -> int:
    """Classify the recordings of a manifest and print the metrics; return the exit status.

    Recordings that cannot be read do not count in the metrics. The others that fail count as wrong.
    """
    classifier = load_classifier(model_dir)
    errors = _Errors(Console(stderr=True))
    run = _Run(classifier, manifest, out, errors, fresh=fresh)
    evaluate = _evaluate_dimensions if classifier.identity.dimensions else _evaluate_emotions
    metrics = evaluate(run, classifier.identity, names)
    (out / _METRICS).write_text(metrics.to_json() + "\n", encoding="utf-8")
    if as_json:
        sys.stdout.write(metrics.to_json() + "\n")
        return int(errors.count > 0)
    console = Console()
    if isinstance(metrics, DimensionsReport):
        _show_dimensions(metrics, console)
        console.print(f"Metrics and predictions: {out}/", highlight=False, markup=False)
    else:
        _show(metrics, classifier.identity.labels, console)
        console.print(f"Metrics, confusion matrix and predictions: {out}/", highlight=False, markup=False)
    return int(errors.count > 0)


def _evaluate_emotions(run: "_Run", model: Model, names: str) -> Metrics:
    labelled, skipped = read_manifest(run.manifest, model.labels, parse_names(names, model.labels))
    for name, count in skipped.items():
        run.errors.note(
            f"Skipped {counted(count, 'recording')} labelled {name!r}, which is not an emotion of the model. "
            "--map can translate it."
        )
    rows = [Prediction(str(item.path), item.emotion, str(predicted)) for item, predicted in run.classify(labelled)]
    metrics = compute_metrics(rows)
    (run.out / _CONFUSION_MATRIX).write_text(confusion_matrix_svg(metrics, model.labels), encoding="utf-8")
    return metrics


def _evaluate_dimensions(run: "_Run", model: Model, names: str) -> DimensionsReport:
    if names:
        raise ManifestUnreadable("--map translates emotions, but the model returns values of dimensions.")
    rated, has_emotions = read_rated_manifest(run.manifest, model.names)
    if has_emotions:
        run.errors.note(f"The column emotion is ignored, because the model returns {', '.join(model.names)}.")
    if model.dimensions_range:
        for name, (low, high) in values_beyond(rated, model.dimensions_range).items():
            run.errors.note(
                f"The column {name} has values from {low:g} to {high:g}, but the model's range is "
                f"{model.dimensions_range[0]:g} to {model.dimensions_range[1]:g}. Scale the column to the model's "
                "range, because the concordance compares values."
            )
    rows = [
        RatedPrediction(item.values, predicted if isinstance(predicted, dict) else {})
        for item, predicted in run.classify(rated)
    ]
    (run.out / _CONFUSION_MATRIX).unlink(missing_ok=True)  # of another model
    return compute_dimension_metrics(rows)


class _Run:
    """The classification of a manifest's recordings."""

    def __init__(self, classifier: EmotionClassifier, manifest: Path, out: Path, errors: "_Errors", *, fresh: bool):
        self.manifest = manifest
        self.out = out
        self.errors = errors
        self._classifier = classifier
        self._fresh = fresh

    def classify(self, recordings: Sequence[_RecordingT]) -> Iterator[tuple[_RecordingT, _Predicted]]:
        """Yield each recording that can be read, with its prediction."""
        limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
        segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
        # Before the classification, which may take an hour.
        readable = [item for item in recordings if _is_readable(item.path, self.errors)]
        pipeline = Pipeline(self._classifier, limits, segmentation)
        _prepare(self.out)
        made_by = "\n".join((pipeline.model.fingerprint, limits.model_dump_json(), segmentation.model_dump_json()))
        file = self.out / _FINISHED
        finished = _Finished(file, hashlib.sha256(made_by.encode()).hexdigest(), fresh=self._fresh)
        is_empty = True
        for classified in _classified(readable, pipeline, finished, self.errors):
            is_empty = False
            yield classified
        if is_empty:
            raise ManifestUnreadable(f"None of the recordings in {self.manifest} can be read.")


class _Errors:
    """Prints one sentence on stderr for each recording that fails, and counts them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.count = 0

    def note(self, sentence: str) -> None:
        self.console.print(sentence, markup=False)

    def report(self, path: Path, message: object) -> None:
        self.count += 1
        self.console.print(f"[red]{escape(printable(f'{path}: {message}'))}[/red]", soft_wrap=True)


def _is_readable(path: Path, errors: _Errors) -> bool:
    try:
        check_file(path)
    except RecordingError as error:
        errors.report(path, error)
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
    recordings: list[_RecordingT], pipeline: Pipeline, finished: "_Finished", errors: _Errors
) -> Iterator[tuple[_RecordingT, _Predicted]]:
    columns = (TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors.console) as progress:
        for item in progress.track(recordings, description=""):
            predicted, error = _predicted(item.path, pipeline, finished)
            if error:
                errors.report(item.path, error.message)
            if error is None or error.code not in _UNREADABLE:
                yield item, predicted


def _predicted(path: Path, pipeline: Pipeline, finished: "_Finished") -> tuple[_Predicted, Error | None]:
    """Return the prediction for a recording; a failed one is tried again in the next run."""
    version = _version_of(path)
    predicted = finished.prediction(version) if version else None
    if predicted:
        return predicted, None
    result = classify_file(path, pipeline)
    predicted = result.dimensions or result.emotion or (FAILED if result.error else NO_SPEECH)
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

    def _parsed(self, text: str) -> Iterator[tuple[_FileVersion, _Predicted]]:
        for line in text.splitlines():
            try:
                row = json.loads(line)
                if row["made_by"] == self._made_by and row["heard"] != FAILED:
                    yield (row["path"], row["size_bytes"], row["modified_ns"]), row["heard"]
            except (ValueError, KeyError, TypeError):
                continue

    def prediction(self, version: _FileVersion) -> _Predicted | None:
        return self._rows.get(version)

    def add(self, version: _FileVersion, predicted: _Predicted) -> None:
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


def _show_dimensions(metrics: DimensionsReport, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("dimension")
    for name in ("recordings", "concordance", "correlation"):
        table.add_column(name, justify="right")
    for name, row in metrics.dimensions.items():
        table.add_row(
            escape(printable(name)), f"{row.recordings:,}", _coefficient(row.concordance), _coefficient(row.correlation)
        )
    console.print(table)
    console.print(
        f"{counted(metrics.recordings, 'recording')}, {metrics.without_values:,} without values: they have no "
        "speech, or failed.",
        highlight=False,
    )


def _coefficient(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
