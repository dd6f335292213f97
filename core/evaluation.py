"""Accuracy on labelled recordings: the manifest, the metrics and the confusion matrix."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from core.emotions import SYNONYMS
from core.errors import ManifestUnreadable

FAILED = "failed"
NO_SPEECH = "no_speech"
"""Predictions of recordings without a classification. Both count as wrong, because a user gets no emotion either."""

_CELL = 64
_MARGIN = 110
"""Sizes of the picture in pixels."""
_MIN_DARK_SHARE = 0.5
"""Above this share, the text of a cell is white."""


@dataclass(frozen=True)
class LabelledRecording:
    """A recording and its label."""

    path: Path
    emotion: str


@dataclass(frozen=True)
class Prediction:
    """The classification of a labelled recording.

    Attributes
    ----------
    emotion
        The label.
    predicted
        The classified emotion, `NO_SPEECH` or `FAILED`.
    """

    path: str
    emotion: str
    predicted: str


@dataclass(frozen=True)
class Metrics:
    """The metrics of an evaluation.

    Attributes
    ----------
    unweighted_accuracy
        The mean of the recalls, in which each emotion counts the same.
    weighted_accuracy
        The share of recordings that are classified correctly.
    recall
        For each emotion, the share of its recordings that are classified correctly.
    confusion
        Label -> prediction -> number of recordings.
    """

    recordings: int
    unweighted_accuracy: float
    weighted_accuracy: float
    recall: dict[str, float]
    confusion: dict[str, dict[str, int]]

    def to_json(self) -> str:
        """Format the metrics as a JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def read_manifest(
    manifest: Path, labels: Sequence[str], own_names: Mapping[str, str]
) -> tuple[list[LabelledRecording], Counter[str]]:
    """Read a CSV file with the columns ``path`` and ``emotion``.

    Parameters
    ----------
    manifest
        The file. Relative paths start at its folder.
    labels
        The model's labels.
    own_names
        The manifest's name for an emotion, in lower case -> the model's label, or empty text to leave its recordings
        out. The model's labels and the names in `SYNONYMS` need no entry.

    Returns
    -------
    The recordings, and the number of recordings left out for each name without a label.

    Raises
    ------
    ManifestUnreadable
        If the file or a column is missing, or no recording has one of the model's labels.
    """
    header, rows = read_columns(manifest)
    if not {"path", "emotion"} <= set(header):
        raise ManifestUnreadable(
            f"{manifest} needs a header with the columns path and emotion, because the model returns emotions."
        )
    labelled, left_out = [], Counter[str]()
    for _, row in rows:
        name = (row["emotion"] or "").strip()
        emotion = _meaning(name, labels, own_names)
        if emotion is None:
            left_out[name] += 1
        else:
            labelled.append(LabelledRecording(manifest.parent / (row["path"] or ""), emotion))
    if not labelled:
        raise ManifestUnreadable(
            f"None of the emotions in {manifest} is a label of the model ({', '.join(labels)}). "
            "Use --map to translate their names."
        )
    return labelled, left_out


def read_columns(manifest: Path) -> tuple[list[str], list[tuple[int, dict[str, str | None]]]]:
    """Read a CSV file; return its header, and each row's line number and cells by column.

    Raises
    ------
    ManifestUnreadable
        If the file cannot be read.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or ()), [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise ManifestUnreadable(f"{manifest} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestUnreadable(f"{manifest} cannot be read as CSV: {error}.") from error


def _meaning(name: str, labels: Sequence[str], own_names: Mapping[str, str]) -> str | None:
    plain = name.lower()
    if plain in own_names:
        return own_names[plain] or None
    for candidate in (plain, SYNONYMS.get(plain)):
        if candidate in labels:
            return candidate
    return None


def parse_names(text: str, labels: Sequence[str]) -> dict[str, str]:
    """Parse a list such as "mad=anger,calm=neutral"; "calm=" leaves the name's recordings out.

    Raises
    ------
    ManifestUnreadable
        If an entry does not have the form ``name=emotion``, or its emotion is not a label of the model.
    """
    names: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, sign, emotion = (part.strip() for part in pair.partition("="))
        if not sign or not name or (emotion and emotion not in labels):
            raise ManifestUnreadable(
                f"{pair!r} in --map must have the form name=emotion, with one of the emotions {', '.join(labels)}."
            )
        names[name.lower()] = emotion
    return names


def compute_metrics(rows: Iterable[Prediction]) -> Metrics:
    """Compute the metrics of predictions; all are zero without predictions."""
    confusion: dict[str, Counter[str]] = {}
    for row in rows:
        confusion.setdefault(row.emotion, Counter())[row.predicted] += 1
    recall = {emotion: counts[emotion] / counts.total() for emotion, counts in sorted(confusion.items())}
    total = sum(counts.total() for counts in confusion.values())
    return Metrics(
        recordings=total,
        unweighted_accuracy=sum(recall.values()) / len(recall) if recall else 0.0,
        weighted_accuracy=sum(counts[emotion] for emotion, counts in confusion.items()) / total if total else 0.0,
        recall=recall,
        confusion={emotion: dict(sorted(counts.items())) for emotion, counts in sorted(confusion.items())},
    )


def columns_of(metrics: Metrics, labels: Sequence[str]) -> list[str]:
    """Return the columns of the confusion matrix: the model's labels, and `NO_SPEECH` and `FAILED` if they occur."""
    predicted = {name for row in metrics.confusion.values() for name in row}
    return [*labels, *(name for name in (NO_SPEECH, FAILED) if name in predicted)]


def confusion_matrix_svg(metrics: Metrics, labels: Sequence[str]) -> str:
    """Draw the confusion matrix as SVG: each cell has its count, and a colour from white to blue for its row share."""
    columns, rows = columns_of(metrics, labels), list(metrics.confusion)
    width, height = _MARGIN + _CELL * len(columns) + 10, _MARGIN + _CELL * len(rows) + 10
    title = (
        f"{metrics.recordings} recordings: {metrics.unweighted_accuracy:.1%} unweighted, "
        f"{metrics.weighted_accuracy:.1%} weighted accuracy"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13" role="img"><title>{title}</title>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/><text x="10" y="22" font-size="14">{title}</text>',
        f'<text x="{_MARGIN + _CELL * len(columns) / 2}" y="52" text-anchor="middle" fill="#555">classified as</text>',
    ]
    for number, name in enumerate(columns):
        x = _MARGIN + _CELL * (number + 0.5)
        parts.append(f'<text x="{x}" y="{_MARGIN - 12}" text-anchor="middle">{escape(name)}</text>')
    for number, emotion in enumerate(rows):
        y = _MARGIN + _CELL * (number + 0.5) + 5
        parts.append(f'<text x="{_MARGIN - 10}" y="{y}" text-anchor="end">{escape(emotion)}</text>')
        parts += _cells(metrics.confusion[emotion], columns, _MARGIN + _CELL * number)
    return "".join(parts) + "</svg>\n"


def _cells(counts: Mapping[str, int], columns: Sequence[str], y: int) -> Iterator[str]:
    total = sum(counts.values())
    for number, name in enumerate(columns):
        share = counts.get(name, 0) / total
        # From white to the blue of Okabe and Ito's palette.
        red, green, blue = (round(255 + (target - 255) * share) for target in (0, 114, 178))
        ink = "#ffffff" if share > _MIN_DARK_SHARE else "#111111"
        x = _MARGIN + _CELL * number
        yield f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="rgb({red},{green},{blue})" stroke="#ddd"/>'
        middle = f'x="{x + _CELL / 2}" y="{y + _CELL / 2 + 5}" text-anchor="middle"'
        yield f'<text {middle} fill="{ink}">{counts.get(name, 0)}</text>'
