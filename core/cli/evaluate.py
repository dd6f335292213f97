"""`audio-emotion evaluate`: classify labelled recordings and compute metrics. A run continues an interrupted one."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core import settings
from core.cli.classifier import load_classifier
from core.errors import FolderRefused, ManifestUnreadable
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
from core.results import Source
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings

_FINISHED = "finished.jsonl"
_METRICS = "figures.json"
_CONFUSION_MATRIX = "confusion.svg"
_MAX_NAMED = 20

_FileVersion = tuple[str, int, int]
"""Path, size in bytes and modification time, which change when a recording is replaced."""


def evaluate_manifest(manifest: Path, model_dir: Path, out: Path, names: str, *, as_json: bool, fresh: bool) -> int:
    """Classify the recordings of a manifest and print the metrics; return the exit status."""
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
    _check_all_exist(labelled, manifest)
    pipeline = Pipeline(classifier, limits, segmentation)
    _prepare(out)
    made_by = "\n".join((classifier.identity.fingerprint, limits.model_dump_json(), segmentation.model_dump_json()))
    finished = _Finished(out / _FINISHED, hashlib.sha256(made_by.encode()).hexdigest(), fresh=fresh)
    rows = list(_classified(labelled, pipeline, finished, notes))
    metrics = compute_metrics(rows)
    (out / _METRICS).write_text(metrics.to_json() + "\n", encoding="utf-8")
    (out / _CONFUSION_MATRIX).write_text(confusion_matrix_svg(metrics, labels), encoding="utf-8")
    if as_json:
        sys.stdout.write(metrics.to_json() + "\n")
        return 0
    console = Console()
    _show(metrics, labels, console)
    console.print(f"Metrics, confusion matrix and predictions: {out}/", highlight=False, markup=False)
    return 0


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
    labelled: list[LabelledRecording], pipeline: Pipeline, finished: "_Finished", notes: Console
) -> Iterator[Prediction]:
    columns = (TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes) as progress:
        for item in progress.track(labelled, description=""):
            version = _version_of(item.path)
            predicted = finished.prediction(version)
            if predicted is None:
                predicted = _classify(item.path, pipeline)
                finished.add(version, predicted)
            yield Prediction(str(item.path), item.emotion, predicted)


def _version_of(path: Path) -> _FileVersion:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _classify(path: Path, pipeline: Pipeline) -> str:
    result = pipeline.run(path.resolve(), Source(key=str(path)))
    return result.emotion or (FAILED if result.error else NO_SPEECH)


def _check_all_exist(labelled: list[LabelledRecording], manifest: Path) -> None:
    """Check that all files exist before classification, which may take an hour, begins.

    Raises
    ------
    ManifestUnreadable
        If a file does not exist.
    """
    missing = list(dict.fromkeys(str(item.path) for item in labelled if not item.path.is_file()))
    if not missing:
        return
    named = ", ".join(map(printable, missing[:_MAX_NAMED]))
    more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
    files = "1 file that does" if len(missing) == 1 else f"{len(missing)} files that do"
    raise ManifestUnreadable(f"{manifest} lists {files} not exist: {named}{more}.")


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
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if text and not text.endswith("\n"):
            # An earlier run was killed while it wrote this line. The next line must not be appended to it.
            with file.open("a", encoding="utf-8") as unfinished:
                unfinished.write("\n")
        self._rows = dict(self._parsed(text))

    def _parsed(self, text: str) -> Iterator[tuple[_FileVersion, str]]:
        for line in text.splitlines():
            try:
                row = json.loads(line)
                if row["made_by"] == self._made_by:
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
