"""Accuracy on labelled recordings: the metrics and the confusion matrix."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

FAILED = "failed"
NO_SPEECH = "no_speech"
NO_ANSWERS = (NO_SPEECH, FAILED)
"""Predictions of recordings without a classification. Both count as wrong, because a user gets no emotion either."""

_CELL = 64
_MARGIN = 110
_TITLE_CHARACTER = 8
"""The width of a character of the title, rounded up."""
"""Sizes of the picture in pixels."""
_MIN_DARK_SHARE = 0.5
"""Above this share, the text of a cell is white."""


@dataclass(frozen=True)
class Prediction:
    """The classification of a labelled recording.

    Attributes
    ----------
    emotion
        The label.
    predicted
        The classified emotion, `NO_SPEECH` or `FAILED`.
    score
        The score of that emotion.
    speaker, condition
        Empty if they are not known.
    speech_s
        The duration of the speech; None if the recording failed.
    """

    path: str
    emotion: str
    predicted: str
    score: float | None = None
    speaker: str = ""
    condition: str = ""
    speech_s: float | None = None


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
    title = (
        f"{metrics.recordings} recordings: {metrics.unweighted_accuracy:.1%} unweighted, "
        f"{metrics.weighted_accuracy:.1%} weighted accuracy"
    )
    width = max(_MARGIN + _CELL * len(columns) + 10, _TITLE_CHARACTER * len(title) + 20)
    height = _MARGIN + _CELL * len(rows) + 10
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
