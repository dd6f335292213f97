"""`audio-emotion evaluate`: classify labelled recordings and compute metrics. A run continues an interrupted one."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core import settings
from core.cli.classifier import load_classifier
from core.cli.journal import FileVersion, Journal, hash_of, version_of
from core.cli.tables import FailureLog, classification_progress
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


def evaluate_manifest(manifest: Path, model_dir: Path, out: Path, names: str, *, as_json: bool, fresh: bool) -> int:
    """Classify the recordings of a manifest and print the metrics; return the exit status.

    Recordings that cannot be read do not count in the metrics. The others that fail count as wrong.
    """
    classifier = load_classifier(model_dir)
    errors = FailureLog(Console(stderr=True))
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

    def __init__(self, classifier: EmotionClassifier, manifest: Path, out: Path, errors: FailureLog, *, fresh: bool):
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
        made_by = hash_of(pipeline)
        # It also marks the folder as that of an evaluation, even if all recordings fail.
        journal = Journal(self.out / _FINISHED, made_by, "heard", fresh=self._fresh)
        is_empty = True
        for classified in _classified(readable, pipeline, journal, self.errors):
            is_empty = False
            yield classified
        if is_empty:
            raise ManifestUnreadable(f"None of the recordings in {self.manifest} can be read.")


def _is_readable(path: Path, errors: FailureLog) -> bool:
    try:
        check_file(path)
    except RecordingError as error:
        errors.report(str(path), error)
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
    recordings: list[_RecordingT], pipeline: Pipeline, journal: Journal, errors: FailureLog
) -> Iterator[tuple[_RecordingT, _Predicted]]:
    """Yield each recording with its prediction, from the journal if it has one. A failed one is tried again."""
    finished: dict[FileVersion, _Predicted] = {
        version: value for version, value in journal.entries() if value != FAILED
    }
    with classification_progress(errors.console) as progress:
        task = progress.add_task("", total=len(recordings))
        for item in recordings:
            progress.update(task, description=printable(item.path.name))
            version = version_of(item.path)
            predicted, error = (finished[version], None) if version in finished else _predicted(item.path, pipeline)
            if error:
                errors.report(str(item.path), error.message)
            elif version and version not in finished:
                journal.add(version, predicted)
                finished[version] = predicted
            if error is None or error.code not in _UNREADABLE:
                yield item, predicted
            progress.advance(task)


def _predicted(path: Path, pipeline: Pipeline) -> tuple[_Predicted, Error | None]:
    result = classify_file(path, pipeline)
    return result.dimensions or result.emotion or (FAILED if result.error else NO_SPEECH), result.error


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
