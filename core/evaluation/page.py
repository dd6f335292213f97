"""The page of an evaluation, evaluation.html: self-contained and without scripts. A training's page shares parts."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from core.evaluation.calibration import Calibration, reliability_diagram_svg
from core.evaluation.emotions import Metrics, confusion_matrix_svg
from core.evaluation.predictions import OTHER, Figures, percent
from core.evaluation.report import EmotionReport, Subset
from core.formatting import counted, printable
from core.report import static_page
from core.results import Model


def evaluation_page(report: EmotionReport, model: Model, manifest: str) -> str:
    """Render the page.

    Parameters
    ----------
    manifest
        The name of the manifest.
    """
    return static_page(f"{model.id}: evaluation", _body(report, model, manifest))


def _body(report: EmotionReport, model: Model, manifest: str) -> Iterator[str]:
    metrics, figures = report.metrics, report.figures
    yield f"<header><h1>{_text(model.id)}</h1>"
    yield f'<p class="facts">{counted(metrics.recordings, "recording")} of {_text(manifest)}</p></header>'
    yield '<section class="verdict">'
    yield f"<h2>{percent(figures.unweighted_accuracy)} unweighted accuracy</h2>"
    yield f"<p>{percent(metrics.weighted_accuracy)} weighted accuracy, macro-F1 {percent(figures.macro_f1)}.</p>"
    yield "".join(f"<p>{_text(note)}</p>" for note in report.notes)
    yield "</section>"
    if report.comparison:
        comparison = report.comparison
        rows = [
            (name, percent(each.unweighted_accuracy), percent(each.macro_f1))
            for name, each in ((model.id, comparison.figures), (comparison.model.id, comparison.others))
        ]
        yield "<section><h2>Comparison</h2>"
        yield from _table(("model", "unweighted accuracy", "macro-F1"), rows)
        yield "".join(f"<p>{_text(sentence)}</p>" for sentence in comparison.in_words)
        yield "</section>"
    yield from matrix_section("Confusion matrix", figures, model.labels)
    for title, subsets in subset_tables(report):
        yield f"<section><h2>By {title}</h2>"
        yield from _table((title, *SUBSET_HEADER), [(name, *subset_cells(each)) for name, each in subsets.items()])
        yield "</section>"
    if report.calibration:
        yield from reliability_section("Calibration", report.calibration)


SUBSET_HEADER = ("recordings", "unweighted accuracy", "calibration error (by chance)")


def subset_tables(report: EmotionReport) -> Iterator[tuple[str, Mapping[str, Subset]]]:
    """Yield the name of each kind of subset that has several, and its subsets."""
    kinds = (("speaker", report.speakers), ("duration of speech", report.durations), ("condition", report.conditions))
    yield from ((title, subsets) for title, subsets in kinds if len(subsets) > 1)


def subset_cells(subset: Subset) -> tuple[str, str, str]:
    """Return the cells below `SUBSET_HEADER`."""
    error = "-"
    if subset.calibration_error is not None:
        error = f"{subset.calibration_error:.3f} ({subset.calibration_error_by_chance:.3f})"
    return f"{subset.recordings:,}", percent(subset.unweighted_accuracy), error


def matrix_section(title: str, figures: Figures, labels: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a section with the confusion matrix and the recalls."""
    metrics = Metrics(
        recordings=figures.clips,
        unweighted_accuracy=figures.unweighted_accuracy.value,
        weighted_accuracy=_weighted_accuracy(figures.confusion),
        recall={label: recall.value for label, recall in figures.recall.items()},
        confusion=figures.confusion,
    )
    has_others = any(OTHER in row for row in figures.confusion.values())
    picture = confusion_matrix_svg(metrics, (*labels, OTHER) if has_others else labels)
    yield f'<section><h2>{_text(title)}</h2><div class="scroll matrix">{picture}</div>'
    yield from _table(("label", "recall"), [(label, percent(recall)) for label, recall in figures.recall.items()])
    yield "</section>"


def reliability_section(title: str, calibration: Calibration) -> Iterator[str]:
    """Yield the lines of a section with the reliability diagram."""
    yield f'<section><h2>{_text(title)}</h2><div class="scroll matrix">{reliability_diagram_svg(calibration)}</div>'
    yield f"<p>{calibration.in_words}</p>"
    yield '<p class="hint">Bars that reach the dashed line have scores that agree with accuracy.</p></section>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield '<div class="scroll"><table class="means"><thead><tr>'
    yield "".join(f'<th scope="col"{_left(number)}>{_text(title)}</th>' for number, title in enumerate(header))
    yield "</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(f'<td{_left(number)}>{_text(cell)}</td>' for number, cell in enumerate(row))}</tr>"
    yield "</tbody></table></div>"


def _weighted_accuracy(confusion: Mapping[str, Mapping[str, int]]) -> float:
    clips = sum(sum(row.values()) for row in confusion.values())
    return sum(row.get(label, 0) for label, row in confusion.items()) / clips


def _left(column: int) -> str:
    return ' class="name"' if column == 0 else ""


def _text(text: str) -> str:
    return escape(printable(text))
