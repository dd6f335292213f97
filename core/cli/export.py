"""`audio-emotion model export`: export a serving package, and compare it with its checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from core import settings
from core.audio import utterances
from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import Waveform
from core.checkpoints.files import is_checkpoint
from core.errors import CheckpointUnreadable, FolderRefused, ParityMissed, RecordingError
from core.export.clips import with_variants
from core.export.exporter import export
from core.export.graph import Precision
from core.export.parity import MAX_MEAN_SCORE_CHANGE, MIN_AGREEMENT, MIN_CONCORDANCE
from core.model.labels import parse_only, parse_renamed
from core.model.package import ParityReport
from core.paths import SAMPLES
from core.settings import CLI_PREFIX, MediaLimits, SegmentationSettings


def export_package(
    checkpoint: Path, out: Path, precision: str, calibration: Path | None, *, labels: str, only: str
) -> int:
    """Export a serving package and print the comparison; return the exit status."""
    if is_checkpoint(out):
        raise FolderRefused(f"{out} has a checkpoint. Export to another folder.")
    console = Console()
    requested, renamed = _precision(precision), parse_renamed(labels)
    limits = settings.read(MediaLimits, prefix=CLI_PREFIX)
    segmentation = settings.read(SegmentationSettings, prefix=CLI_PREFIX)
    clips = list(with_variants(_clips(SAMPLES, limits, segmentation)))
    if calibration:
        own = list(_clips(calibration, limits, segmentation))
        if not own:
            raise FolderRefused(f"--calibration {calibration} has no recording with speech.")
        clips += own
    table = _parity_table()

    def add_row(tried: Precision, parity: ParityReport, is_accepted: bool) -> None:
        table.add_row(
            tried.value,
            str(parity.clips),
            _agreement(parity),
            f"{parity.mean_score_change:.6f}",
            f"{parity.largest_score_change:.6f}",
            f"{parity.largest_logit_change:.6f}",
            "yes" if is_accepted else "no",
        )

    def print_ignored(tensors: Mapping[str, str]) -> None:
        for name, why in tensors.items():
            console.print(f"Ignored the tensor {name}: {why}.", highlight=False, markup=False)

    try:
        manifest = export(
            checkpoint,
            out,
            clips,
            precision=requested,
            renamed=renamed,
            only=parse_only(only),
            report=add_row,
            ignored=print_ignored,
        )
    except ParityMissed:
        console.print(table)
        raise
    console.print(table)
    console.print(f"Exported {manifest.id} ({manifest.revision}, {manifest.precision}) to {out}", highlight=False)
    return 0


def _precision(name: str) -> Precision | None:
    if name == "auto":
        return None
    try:
        return Precision(name)
    except ValueError as error:
        raise CheckpointUnreadable(f"{name!r} is not a precision: use auto, {', '.join(Precision)}.") from error


def _parity_table() -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.title = (
        f"limits: agreement >= {MIN_AGREEMENT:.0%} (dimensions: concordance >= {MIN_CONCORDANCE}), "
        f"mean change <= {MAX_MEAN_SCORE_CHANGE}"
    )
    for name in (
        "precision",
        "clips",
        "agreement",
        "mean change",
        "largest change",
        "largest logit change",
        "accepted",
    ):
        table.add_column(name, justify="left" if name in ("precision", "accepted") else "right")
    return table


def _agreement(parity: ParityReport) -> str:
    if parity.agreement is not None:
        return f"{parity.agreement:.1%}"
    return "not defined" if parity.concordance is None else f"{parity.concordance:.4f}"


def _clips(folder: Path, limits: MediaLimits, segmentation: SegmentationSettings) -> Iterator[Waveform]:
    """Yield the first utterance of every recording in a folder."""
    vad = VoiceActivityDetector.load()
    for file in sorted(path.resolve() for path in folder.rglob("*") if path.is_file()):
        try:
            with closing(decode(file, probe(file, limits), limits)) as blocks:
                utterance = next(utterances.cut(blocks, segmentation, vad), None)
        except RecordingError:
            continue  # not a recording, such as a README
        if utterance:
            yield utterance.waveform
