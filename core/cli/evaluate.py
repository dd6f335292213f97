"""`audio-emotion evaluate`: labelled recordings in, figures out; a run that was cut short goes on where it was."""

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
from core.errors import ManifestUnreadable
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
from core.formatting import printable
from core.pipeline import Pipeline
from core.results import Source
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings

_FINISHED = "finished.jsonl"
_MAX_NAMED = 20

_Version = tuple[str, int, int]
"""Path, size in bytes and time of the last change, by which a recording is known that was replaced."""


def evaluate_manifest(manifest: Path, model_dir: Path, out: Path, names: str, *, as_json: bool, fresh: bool) -> int:
    """Classify what is listed and compare; returns the exit status."""
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
    classifier = load_classifier(model_dir)
    labels = classifier.identity.labels
    labelled, left_out = read_manifest(manifest, labels, parse_names(names, labels))
    notes = Console(stderr=True)
    for name, count in left_out.items():
        notes.print(f"{count} recordings labelled {name!r} are left out: no emotion of the model stands for that.")
    _check_all_are_there(labelled, manifest)
    pipeline = Pipeline(classifier, limits, segmentation)
    out.mkdir(parents=True, exist_ok=True)
    made_by = "\n".join((classifier.identity.fingerprint, limits.model_dump_json(), segmentation.model_dump_json()))
    finished = _Finished(out / _FINISHED, hashlib.sha256(made_by.encode()).hexdigest(), fresh=fresh)
    rows = list(_classified(labelled, pipeline, finished, notes))
    figures = compute_metrics(rows)
    (out / "figures.json").write_text(figures.to_json() + "\n", encoding="utf-8")
    (out / "confusion.svg").write_text(confusion_matrix_svg(figures, labels), encoding="utf-8")
    if as_json:
        sys.stdout.write(figures.to_json() + "\n")
        return 0
    console = Console()
    _show(figures, labels, console)
    console.print(f"Metrics, picture and every row: {out}/", highlight=False, markup=False)
    return 0


def _classified(
    labelled: list[LabelledRecording], pipeline: Pipeline, finished: "_Finished", notes: Console
) -> Iterator[Prediction]:
    columns = (TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes) as progress:
        for item in progress.track(labelled, description=""):
            version = _version_of(item.path)
            heard = finished.heard_in(version)
            if heard is None:
                heard = _heard_in(item.path, pipeline)
                finished.add(version, heard)
            yield Prediction(str(item.path), item.emotion, heard)


def _version_of(path: Path) -> _Version:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


def _heard_in(path: Path, pipeline: Pipeline) -> str:
    result = pipeline.run(path.resolve(), Source(key=str(path)))
    return result.emotion or (FAILED if result.error else NO_SPEECH)


def _check_all_are_there(labelled: list[LabelledRecording], manifest: Path) -> None:
    """At once, rather than after an hour."""
    missing = list(dict.fromkeys(str(item.path) for item in labelled if not item.path.is_file()))
    if not missing:
        return
    listed = ", ".join(map(printable, missing[:_MAX_NAMED]))
    more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
    are = "recording is listed that is" if len(missing) == 1 else "recordings are listed that are"
    raise ManifestUnreadable(f"{manifest}: {len(missing)} {are} not there: {listed}{more}.")


class _Finished:
    """What this very model heard already under these settings: a file that grows a line for each recording.

    Parameters
    ----------
    made_by
        What tells the model and the settings from all others.
    """

    def __init__(self, file: Path, made_by: str, *, fresh: bool) -> None:
        self._file = file
        self._made_by = made_by
        if fresh:
            file.unlink(missing_ok=True)
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if text and not text.endswith("\n"):
            # The last line of a run that was killed: what is added must not become part of it.
            with file.open("a", encoding="utf-8") as unfinished:
                unfinished.write("\n")
        self._rows = dict(self._parsed(text))

    def _parsed(self, text: str) -> Iterator[tuple[_Version, str]]:
        for line in text.splitlines():
            try:
                row = json.loads(line)
                if row["made_by"] == self._made_by:
                    yield (row["path"], row["size_bytes"], row["modified_ns"]), row["heard"]
            except (ValueError, KeyError, TypeError):
                continue

    def heard_in(self, version: _Version) -> str | None:
        return self._rows.get(version)

    def add(self, version: _Version, heard: str) -> None:
        path, size_bytes, modified_ns = version
        row = {"path": path, "size_bytes": size_bytes, "modified_ns": modified_ns, "heard": heard}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"made_by": self._made_by}) + "\n")
        self._rows[version] = heard


def _show(figures: Metrics, labels: tuple[str, ...], console: Console) -> None:
    columns = columns_of(figures, labels)
    table = Table(box=None, pad_edge=False, header_style="bold", title="rows: labelled as; columns: heard as")
    table.add_column("")
    for name in (*columns, "recall"):
        table.add_column(name, justify="right")
    for emotion, heard in figures.confusion.items():
        counts = [str(heard.get(name, 0)) if heard.get(name) else "[dim]·[/dim]" for name in columns]
        table.add_row(emotion, *counts, f"{figures.recall[emotion]:.1%}")
    console.print(table)
    console.print(
        f"{figures.recordings} recordings: {figures.unweighted_accuracy:.1%} unweighted accuracy (the mean of the "
        f"recalls), {figures.weighted_accuracy:.1%} weighted (the share that is right).",
        highlight=False,
    )
