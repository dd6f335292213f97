"""`audio-emotion evaluate`: classify labelled recordings and compute metrics. A run continues an interrupted one."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core import settings
from core.cli.classifier import load_classifier
from core.cli.journal import FileVersion, Journal, hash_of, version_of
from core.cli.tables import FailureLog, classification_progress
from core.errors import FolderRefused, ManifestUnreadable, RecordingError, RecordingNotFound, RecordingUnreadable
from core.evaluation.calibration import reliability_diagram_svg
from core.evaluation.dimensions import DimensionsReport, RatedPrediction, compute_dimension_metrics, values_beyond
from core.evaluation.emotions import FAILED, NO_SPEECH, Prediction, columns_of, confusion_matrix_svg
from core.evaluation.manifest import LabelledRecording, RatedRecording, parse_names, read_manifest, read_rated_manifest
from core.evaluation.page import SUBSET_HEADER, evaluation_page, subset_cells, subset_tables
from core.evaluation.predictions import percent
from core.evaluation.report import TELEPHONE_RATE_HZ, EmotionReport, Subset, compare_models, report_of
from core.formatting import counted, printable
from core.library.recordings import check_file, classify_file
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Error, Model
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings

_FINISHED = "finished.jsonl"
_METRICS = "figures.json"
_CONFUSION_MATRIX = "confusion.svg"
_RELIABILITY = "reliability.svg"
_PAGE = "evaluation.html"
_UNREADABLE = (RecordingNotFound.code, RecordingUnreadable.code)

_RecordingT = TypeVar("_RecordingT", LabelledRecording, RatedRecording)


class _Outcome(TypedDict):
    """A model's answer for a recording, as in the journal."""

    predicted: str | dict[str, float]
    """The emotion, `NO_SPEECH`, `FAILED`, or the values of the dimensions."""
    score: float | None
    """The score of the emotion."""
    speech_s: float | None
    sample_rate_hz: int | None
    """The recording's; None if it could not be probed."""


def evaluate_manifest(
    manifest: Path, model_dir: Path, out: Path, names: str, *, as_json: bool, fresh: bool, compare: Path | None = None
) -> int:
    """Classify the recordings of a manifest and print the metrics; return the exit status.

    Recordings that cannot be read do not count in the metrics. The others that fail count as wrong.

    Parameters
    ----------
    compare
        The folder of another model to compare with.
    """
    classifier = load_classifier(model_dir)
    other = load_classifier(compare) if compare else None
    for each in (classifier, other):
        if other and each and each.identity.dimensions:
            raise ManifestUnreadable(f"--compare needs models of emotions, but {each.identity.id} returns dimensions.")
    errors = FailureLog(Console(stderr=True))
    run = _Run(classifier, manifest, out, errors, fresh=fresh)
    report: EmotionReport | DimensionsReport
    if classifier.identity.dimensions:
        report = _evaluate_dimensions(run, classifier.identity, names)
    else:
        report = _evaluate_emotions(run, classifier.identity, names, other)
    (out / _METRICS).write_text(report.to_json() + "\n", encoding="utf-8")
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
        return int(errors.count > 0)
    console = Console()
    if isinstance(report, DimensionsReport):
        _show_dimensions(report, console)
        console.print(f"Metrics and predictions: {out}/", highlight=False, markup=False)
    else:
        _show(report, classifier.identity, console)
        console.print(f"Page, metrics, pictures and predictions: {out}/", highlight=False, markup=False)
    return int(errors.count > 0)


def _evaluate_emotions(run: "_Run", model: Model, names: str, other: EmotionClassifier | None) -> EmotionReport:
    rows = _classified_emotions(run, model, names)
    report = report_of(rows, model.labels)
    if other:
        others = _classified_emotions(run.with_model(other), other.identity, names)
        comparison = compare_models(rows, others, model.labels, other.identity)
        if comparison is None:
            run.errors.note("The models have fewer than two labels of the manifest in common, so they do not compare.")
        report = replace(report, comparison=comparison)
    pictures = {
        _CONFUSION_MATRIX: confusion_matrix_svg(report.metrics, model.labels),
        _RELIABILITY: report.calibration and reliability_diagram_svg(report.calibration),
        _PAGE: evaluation_page(report, model, run.manifest.name),
    }
    for name, text in pictures.items():
        if text:
            (run.out / name).write_text(text, encoding="utf-8")
        else:
            (run.out / name).unlink(missing_ok=True)
    return report


def _classified_emotions(run: "_Run", model: Model, names: str) -> list[Prediction]:
    labelled, skipped = read_manifest(run.manifest, model.labels, parse_names(names, model.labels))
    for name, count in skipped.items():
        reason = f"labelled {name!r}, which is not an emotion of {model.id}. --map can translate it."
        run.errors.note(f"Skipped {counted(count, 'recording')} {reason if name else 'without an emotion.'}")
    return [
        Prediction(
            str(item.path),
            item.emotion,
            str(outcome["predicted"]),
            score=outcome["score"],
            speaker=item.speaker,
            condition=item.condition or _measured_condition(outcome),
            speech_s=outcome["speech_s"],
        )
        for item, outcome in run.classify(_once(labelled, run.errors))
    ]


def _once(recordings: Sequence[LabelledRecording], errors: FailureLog) -> list[LabelledRecording]:
    """Return each recording once."""
    by_path = {item.path: item for item in recordings}
    if repeated := len(recordings) - len(by_path):
        repeats = "repeats a recording, and does" if repeated == 1 else "repeat recordings, and do"
        errors.note(f"{counted(repeated, 'line')} of the manifest {repeats} not count.")
    return list(by_path.values())


def _measured_condition(outcome: _Outcome) -> str:
    rate_hz = outcome["sample_rate_hz"]
    if rate_hz is None:
        return ""
    return "telephone band" if rate_hz <= TELEPHONE_RATE_HZ else "wide band"


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
        RatedPrediction(item.values, values if isinstance(values := outcome["predicted"], dict) else {})
        for item, outcome in run.classify(rated)
    ]
    for name in (_CONFUSION_MATRIX, _RELIABILITY, _PAGE):  # of another model
        (run.out / name).unlink(missing_ok=True)
    return compute_dimension_metrics(rows)


class _Run:
    """The classification of a manifest's recordings."""

    def __init__(self, classifier: EmotionClassifier, manifest: Path, out: Path, errors: FailureLog, *, fresh: bool):
        self.manifest = manifest
        self.out = out
        self.errors = errors
        self._classifier = classifier
        self._fresh = fresh

    def with_model(self, classifier: EmotionClassifier) -> "_Run":
        """Return a run of the same recordings with another model, after this one."""
        return _Run(classifier, self.manifest, self.out, self.errors, fresh=False)

    def classify(self, recordings: Sequence[_RecordingT]) -> Iterator[tuple[_RecordingT, _Outcome]]:
        """Yield each recording that can be read, with its prediction."""
        limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
        segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
        # Before the classification, which may take an hour.
        readable = [item for item in recordings if _is_readable(item.path, self.errors)]
        pipeline = Pipeline(self._classifier, limits, segmentation)
        _prepare(self.out)
        made_by = hash_of(pipeline)
        # It also marks the folder as that of an evaluation, even if all recordings fail.
        journal = Journal(self.out / _FINISHED, made_by, "outcome", fresh=self._fresh)
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
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise FolderRefused(f"{out} is not a folder. Choose another one with --out.") from error
    finished = out / _FINISHED
    if finished.exists():
        with finished.open("rb") as file:
            start = file.readline()
        foreign = [] if b'"made_by"' in start or not start else [finished]
    else:
        foreign = [out / name for name in (_METRICS, _CONFUSION_MATRIX, _RELIABILITY, _PAGE) if (out / name).exists()]
    if foreign:
        raise FolderRefused(f"{foreign[0]} is not a file of an earlier evaluation. Choose another folder with --out.")


def _classified(
    recordings: list[_RecordingT], pipeline: Pipeline, journal: Journal, errors: FailureLog
) -> Iterator[tuple[_RecordingT, _Outcome]]:
    """Yield each recording with its prediction, from the journal if it has one. A failed one is tried again."""
    finished: dict[FileVersion, _Outcome] = dict(journal.entries())
    with classification_progress(errors.console) as progress:
        task = progress.add_task("", total=len(recordings))
        for item in recordings:
            progress.update(task, description=printable(item.path.name))
            version = version_of(item.path)
            outcome, error = (finished[version], None) if version in finished else _outcome(item.path, pipeline)
            if error:
                errors.report(str(item.path), error.message)
            elif version and version not in finished:
                journal.add(version, outcome)
                finished[version] = outcome
            if error is None or error.code not in _UNREADABLE:
                yield item, outcome
            progress.advance(task)


def _outcome(path: Path, pipeline: Pipeline) -> tuple[_Outcome, Error | None]:
    result = classify_file(path, pipeline)
    return {
        "predicted": result.dimensions or result.emotion or (FAILED if result.error else NO_SPEECH),
        "score": result.score,
        "speech_s": result.speech_s,
        "sample_rate_hz": result.audio.sample_rate_hz if result.audio else None,
    }, result.error


def _show(report: EmotionReport, model: Model, console: Console) -> None:
    metrics = report.metrics
    columns = columns_of(metrics, model.labels)
    table = Table(box=None, pad_edge=False, header_style="bold", title="rows: label, columns: prediction")
    table.add_column("")
    for name in (*columns, "recall"):
        table.add_column(name, justify="right")
    for emotion, row in metrics.confusion.items():
        counts = [str(row[name]) if row.get(name) else "[dim]·[/dim]" for name in columns]
        table.add_row(emotion, *counts, f"{metrics.recall[emotion]:.1%}")
    console.print(table)
    accuracy = report.figures.unweighted_accuracy
    console.print(
        f"{counted(metrics.recordings, 'recording')}: {metrics.unweighted_accuracy:.1%} unweighted accuracy "
        f"(mean recall; {accuracy.low:.1%} to {accuracy.high:.1%}), {metrics.weighted_accuracy:.1%} weighted accuracy "
        "(share that is correct).",
        highlight=False,
    )
    for title, subsets in subset_tables(report):
        _show_subsets(title, subsets, console)
    if report.comparison:
        compared = ((model, report.comparison.figures), (report.comparison.model, report.comparison.others))
        accuracies = (f"{printable(each.id)}: {percent(figures.unweighted_accuracy)}." for each, figures in compared)
        console.print(*accuracies, highlight=False, markup=False)
    for note in (*(report.comparison.in_words if report.comparison else ()), *report.notes):
        console.print(note, highlight=False, markup=False)


def _show_subsets(title: str, subsets: Mapping[str, Subset], console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (title, *SUBSET_HEADER):
        table.add_column(name, justify="left" if name == title else "right")
    for name, subset in subsets.items():
        table.add_row(escape(printable(name)), *subset_cells(subset))
    console.print(table)


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
