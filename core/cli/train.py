"""`audio-emotion train`: train a checkpoint on labelled clips, and print its figures."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from core import settings
from core.evaluation.predictions import percent
from core.model.classifier import default_threads
from core.settings import CLI_PREFIX, MediaLimits, ModelSettings, SegmentationSettings
from core.training.card import compared
from core.training.manifest import parse_label_names
from core.training.report import TrainingReport
from core.training.speech import ItemT
from core.training.training import PAGE_FILE, TrainingOptions, train


def train_checkpoint(manifest: Path, start: Path, out: Path, names: str, cache: Path, **choices: Any) -> None:
    """Train a checkpoint, write it, and print its figures.

    Parameters
    ----------
    names
        The option `--map`.
    choices
        Other fields of `TrainingOptions`.
    """
    stderr = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    threads = default_threads(settings.read(ModelSettings, prefix=CLI_PREFIX))
    options = TrainingOptions(
        manifest=manifest, start=start, out=out, cache=cache, names=parse_label_names(names), threads=threads, **choices
    )
    with Progress(*columns, console=stderr) as progress:

        def track(items: Iterable[ItemT], description: str, count: int) -> Iterable[ItemT]:
            return progress.track(items, total=count, description=description)

        def note(sentence: str) -> None:
            stderr.print(sentence, markup=False, highlight=False)

        limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
        segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
        report = train(options, limits, segmentation, track=track, note=note)
    _show(report, Console())
    Console(soft_wrap=True).print(f"Checkpoint and {PAGE_FILE}: {out}/", highlight=False, markup=False)


def _show(report: TrainingReport, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("recordings", "clips", "unweighted accuracy", "start", "difference", "more than chance"):
        table.add_column(title, justify="left" if title == "recordings" else "right")
    for condition, figures in report.figures.items():
        accuracy = percent(figures.unweighted_accuracy)
        table.add_row(condition, f"{figures.clips:,}", accuracy, *compared(report, condition))
    console.print(table)
    for sentence in (report.split, report.calibration_in_words, *report.limits):
        console.print(sentence, highlight=False, markup=False)
