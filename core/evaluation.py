"""How often the model is right, on labelled recordings: figures, and a picture of what it takes for what."""

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
"""What is heard where nothing is classified. Both count as wrong: a user would have got no emotion either."""

_CELL = 64
_MARGIN = 110
_DARK_FROM = 0.5


@dataclass(frozen=True)
class LabelledRecording:
    """A recording and what it should be heard as."""

    path: Path
    emotion: str


@dataclass(frozen=True)
class Prediction:
    """What was heard in a recording."""

    path: str
    emotion: str
    heard: str


@dataclass(frozen=True)
class Metrics:
    """What is measured.

    Attributes
    ----------
    unweighted_accuracy
        The mean of the recalls: each emotion counts the same, however many recordings it has.
    weighted_accuracy
        The share of all recordings that are right.
    recall
        For each emotion, the share of its recordings that are heard as it.
    confusion
        Emotion, then what it was heard as, then how often.
    """

    recordings: int
    unweighted_accuracy: float
    weighted_accuracy: float
    recall: dict[str, float]
    confusion: dict[str, dict[str, int]]

    def to_json(self) -> str:
        """As a JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


def read_manifest(
    manifest: Path, labels: Sequence[str], own_names: Mapping[str, str]
) -> tuple[list[LabelledRecording], Counter[str]]:
    """The recordings of a CSV file with the columns path and emotion, and the labels that no emotion stands for.

    Parameters
    ----------
    labels
        The model's.
    own_names
        What the manifest's labels mean, where that is not known anyway; empty for those to be left out.

    Raises
    ------
    ManifestUnreadable
        If the file or a column is missing, or if it lists nothing that can be compared.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"path", "emotion"} <= set(reader.fieldnames or ()):
                raise ManifestUnreadable(f"{manifest} needs a header with the columns path and emotion.")
            rows = [(row["path"] or "", (row["emotion"] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestUnreadable(f"{manifest} cannot be read as CSV: {error}.") from error
    labelled, left_out = [], Counter[str]()
    for path, name in rows:
        emotion = _meaning(name, labels, own_names)
        if emotion is None:
            left_out[name] += 1
        else:
            labelled.append(LabelledRecording(manifest.parent / path, emotion))
    if not labelled:
        raise ManifestUnreadable(
            f"{manifest} lists no recording with one of the emotions {', '.join(labels)}: give their names with --map."
        )
    return labelled, left_out


def _meaning(name: str, labels: Sequence[str], own_names: Mapping[str, str]) -> str | None:
    plain = name.lower()
    if plain in own_names:
        return own_names[plain] or None
    for candidate in (plain, SYNONYMS.get(plain)):
        if candidate in labels:
            return candidate
    return None


def parse_names(text: str, labels: Sequence[str]) -> dict[str, str]:
    """Read "mad=anger,calm=neutral"; nothing behind the sign leaves a label out.

    Raises
    ------
    ManifestUnreadable
        If it is not written like this, or names an emotion that the model does not know.
    """
    names: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, sign, emotion = (part.strip() for part in pair.partition("="))
        if not sign or not name or (emotion and emotion not in labels):
            raise ManifestUnreadable(
                f"{pair!r} in --map is not like mad=anger, with one of {', '.join(labels)} behind the sign."
            )
        names[name.lower()] = emotion
    return names


def compute_metrics(rows: Iterable[Prediction]) -> Metrics:
    """Count."""
    confusion: dict[str, Counter[str]] = {}
    for row in rows:
        confusion.setdefault(row.emotion, Counter())[row.heard] += 1
    recall = {emotion: heard[emotion] / heard.total() for emotion, heard in sorted(confusion.items())}
    total = sum(heard.total() for heard in confusion.values())
    return Metrics(
        recordings=total,
        unweighted_accuracy=sum(recall.values()) / len(recall) if recall else 0.0,
        weighted_accuracy=sum(heard[emotion] for emotion, heard in confusion.items()) / total if total else 0.0,
        recall=recall,
        confusion={emotion: dict(sorted(heard.items())) for emotion, heard in sorted(confusion.items())},
    )


def columns_of(figures: Metrics, labels: Sequence[str]) -> list[str]:
    """What the columns of the confusion matrix are: the model's labels, and what else was heard."""
    heard = {name for row in figures.confusion.values() for name in row}
    return [*labels, *(name for name in (NO_SPEECH, FAILED) if name in heard)]


def confusion_matrix_svg(figures: Metrics, labels: Sequence[str]) -> str:
    """The confusion matrix as SVG: each row's shares, from white to blue, with the counts."""
    columns, rows = columns_of(figures, labels), list(figures.confusion)
    width, height = _MARGIN + _CELL * len(columns) + 10, _MARGIN + _CELL * len(rows) + 10
    title = (
        f"{figures.recordings} recordings: {figures.unweighted_accuracy:.1%} unweighted, "
        f"{figures.weighted_accuracy:.1%} weighted accuracy"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13" role="img"><title>{title}</title>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/><text x="10" y="22" font-size="14">{title}</text>',
        f'<text x="{_MARGIN + _CELL * len(columns) / 2}" y="52" text-anchor="middle" fill="#555">heard as</text>',
    ]
    for number, name in enumerate(columns):
        x = _MARGIN + _CELL * (number + 0.5)
        parts.append(f'<text x="{x}" y="{_MARGIN - 12}" text-anchor="middle">{escape(name)}</text>')
    for number, emotion in enumerate(rows):
        y = _MARGIN + _CELL * (number + 0.5) + 5
        parts.append(f'<text x="{_MARGIN - 10}" y="{y}" text-anchor="end">{escape(emotion)}</text>')
        parts += _cells(figures.confusion[emotion], columns, _MARGIN + _CELL * number)
    return "".join(parts) + "</svg>\n"


def _cells(heard: Mapping[str, int], columns: Sequence[str], y: int) -> Iterator[str]:
    total = sum(heard.values())
    for number, name in enumerate(columns):
        share = heard.get(name, 0) / total
        # From white to Okabe and Ito's blue.
        red, green, blue = (round(255 + (target - 255) * share) for target in (0, 114, 178))
        ink = "#ffffff" if share > _DARK_FROM else "#111111"
        x = _MARGIN + _CELL * number
        yield f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="rgb({red},{green},{blue})" stroke="#ddd"/>'
        middle = f'x="{x + _CELL / 2}" y="{y + _CELL / 2 + 5}" text-anchor="middle"'
        yield f'<text {middle} fill="{ink}">{heard.get(name, 0)}</text>'
