"""`audio-emotion evaluate`: labelled recordings in, figures out; a run that was cut short goes on where it was."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core import settings
from core.cli.tables import show_demo_notice
from core.errors import ManifestUnreadable
from core.evaluation import (
    FAILED,
    NO_SPEECH,
    Figures,
    Heard,
    Labelled,
    columns_of,
    measure,
    parse_names,
    picture,
    read_manifest,
)
from core.model.classifier import EmotionClassifier
from core.pipeline import Pipeline
from core.results import Source

_FINISHED = "finished.jsonl"


def evaluate_manifest(manifest: Path, model_dir: Path, out: Path, names: str, *, as_json: bool, fresh: bool) -> int:
    """Classify what is listed and compare; returns the exit status."""
    classifier = EmotionClassifier.load(model_dir)
    if classifier.identity.demo:
        show_demo_notice()
    labels = classifier.identity.labels
    labelled, left_out = read_manifest(manifest, labels, parse_names(names, labels))
    notes = Console(stderr=True)
    for name, count in left_out.items():
        notes.print(f"{count} recordings labelled {name!r} are left out: no emotion of the model stands for that.")
    pipeline = Pipeline(classifier, settings.read(settings.MediaLimits))
    out.mkdir(parents=True, exist_ok=True)
    finished = _Finished(out / _FINISHED, classifier.identity.fingerprint, fresh=fresh)
    rows = list(_classified(labelled, pipeline, finished, notes))
    figures = measure(rows)
    (out / "figures.json").write_text(figures.to_json() + "\n", encoding="utf-8")
    (out / "confusion.svg").write_text(picture(figures, labels), encoding="utf-8")
    if as_json:
        sys.stdout.write(figures.to_json() + "\n")
        return 0
    console = Console()
    _show(figures, labels, console)
    console.print(f"Figures, picture and every row: {out}/", highlight=False, markup=False)
    return 0


def _classified(labelled: list[Labelled], pipeline: Pipeline, finished: "_Finished", notes: Console) -> Iterator[Heard]:
    columns = (TextColumn("classifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes) as progress:
        for item in progress.track(labelled, description=""):
            key = str(item.path)
            heard = finished.rows.get(key)
            if heard is None:
                heard = _heard_in(item.path, pipeline)
                finished.add(key, heard)
            yield Heard(key, item.emotion, heard)


def _heard_in(path: Path, pipeline: Pipeline) -> str:
    if not path.is_file():
        raise ManifestUnreadable(f"{path} is listed, but there is no such file.")
    result = pipeline.run(path.resolve(), Source(key=str(path)))
    return result.emotion or (FAILED if result.error else NO_SPEECH)


class _Finished:
    """What was classified already, by this very model: a file that grows a line for each recording."""

    def __init__(self, file: Path, fingerprint: str, *, fresh: bool) -> None:
        self._file = file
        self._fingerprint = fingerprint
        if fresh:
            file.unlink(missing_ok=True)
        self.rows = dict(self._read())

    def _read(self) -> Iterator[tuple[str, str]]:
        if not self._file.exists():
            return
        for line in self._file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                if row["model"] == self._fingerprint:
                    yield row["path"], row["heard"]
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed

    def add(self, path: str, heard: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"path": path, "heard": heard, "model": self._fingerprint}) + "\n")
        self.rows[path] = heard


def _show(figures: Figures, labels: tuple[str, ...], console: Console) -> None:
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
