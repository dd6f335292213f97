"""`audio-emotion model export`: make a serving package, and show what it says beside its checkpoint."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from core import settings
from core.audio import utterances
from core.audio.decode import decode, probe
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import Waveform
from core.errors import CheckpointUnreadable, ParityMissed, RecordingError
from core.export.exporter import export
from core.export.graph import Precision
from core.export.parity import MAX_MEAN_SCORE_CHANGE, MIN_AGREEMENT, MIN_CLIPS
from core.model.package import ParityReport
from core.paths import SAMPLES
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings


def export_package(checkpoint: Path, out: Path, precision: str, calibration: Path | None) -> int:
    """Make a serving package and show how it compares; returns the exit status."""
    console = Console()
    wanted = _precision(precision)
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
    folders = (SAMPLES, calibration) if calibration else (SAMPLES,)
    clips = [clip for folder in folders for clip in _clips(folder, limits, segmentation)]
    if len(clips) < MIN_CLIPS:
        console.print(
            f"[yellow]{len(clips)} clips are too few to tell: name a folder of speech with --calibration, "
            f"at least {MIN_CLIPS} clips.[/yellow]"
        )
    table = _parity_table()

    def add_row(tried: Precision, parity: ParityReport, holds: bool) -> None:
        table.add_row(
            tried.value,
            str(parity.clips),
            f"{parity.agreement:.1%}",
            f"{parity.mean_score_change:.6f}",
            f"{parity.largest_score_change:.6f}",
            f"{parity.largest_logit_change:.6f}",
            "yes" if holds else "no",
        )

    def say_ignored(tensors: Mapping[str, str]) -> None:
        for name, why in tensors.items():
            console.print(f"{name} is ignored: {why}.", highlight=False, markup=False)

    try:
        manifest = export(checkpoint, out, clips, precision=wanted, report=add_row, ignored=say_ignored)
    except ParityMissed:
        console.print(table)
        raise
    console.print(table)
    console.print(f"{manifest.id} at {manifest.revision}, {manifest.precision}, is in {out}", highlight=False)
    return 0


def _precision(name: str) -> Precision | None:
    if name == "auto":
        return None
    try:
        return Precision(name)
    except ValueError as error:
        raise CheckpointUnreadable(
            f"There is no precision {name!r}; there are auto, {', '.join(Precision)}."
        ) from error


def _parity_table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.title = f"bound: agreement >= {MIN_AGREEMENT:.0%}, mean change <= {MAX_MEAN_SCORE_CHANGE}"
    for name in ("precision", "clips", "agreement", "mean change", "largest", "largest of a logit", "holds"):
        table.add_column(name, justify="left" if name in ("precision", "holds") else "right")
    return table


def _clips(folder: Path, limits: MediaLimits, segmentation: SegmentationSettings) -> Iterator[Waveform]:
    """The first utterance of every file in a folder that is speech."""
    vad = VoiceActivityDetector.load()
    for file in sorted(path.resolve() for path in folder.rglob("*") if path.is_file()):
        try:
            utterance = next(utterances.cut(decode(file, probe(file, limits), limits), segmentation, vad), None)
        except RecordingError:
            continue  # a README or a list beside the recordings
        if utterance:
            yield utterance.waveform
