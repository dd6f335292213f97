"""The page of a training, training.html: figures and confusion matrices, self-contained and without scripts."""

from collections.abc import Iterator
from html import escape

from core.evaluation.page import matrix_section, reliability_section
from core.evaluation.predictions import chance_in_words, percent
from core.formatting import counted, printable
from core.report import static_page
from core.training.card import compared
from core.training.report import TrainingReport

_HEADER = (
    "recordings",
    "clips",
    "unweighted accuracy",
    "macro-F1",
    "start checkpoint",
    "difference",
    "more than chance",
)


def training_page(report: TrainingReport, name: str) -> str:
    """Render the page."""
    return static_page(f"{name}: training", _body(report, name))


def _body(report: TrainingReport, name: str) -> Iterator[str]:
    yield f"<header><h1>{_text(name)}</h1>"
    clips = sum(report.data.clips.values())
    facts = [counted(clips, "clip")]
    if report.data.speakers:
        facts.append(counted(len(report.data.speakers), "speaker"))
    yield f'<p class="facts">{" · ".join((*facts, _text(report.method)))}</p>'
    yield f'<p class="facts">Start: {_text(report.start_id)} ({_text(report.start_revision)})</p></header>'
    if not report.data.speakers:
        yield f'<p class="notice">{_text(report.split)}</p>'
    yield from _verdict(report)
    yield '<section><h2>Figures</h2><div class="scroll"><table><thead><tr>'
    yield "".join(f'<th scope="col"{_left(number)}>{title}</th>' for number, title in enumerate(_HEADER))
    yield "</tr></thead><tbody>"
    for condition, figures in report.figures.items():
        accuracy, f1 = percent(figures.unweighted_accuracy), percent(figures.macro_f1)
        cells = (condition, f"{figures.clips:,}", accuracy, f1, *compared(report, condition))
        yield f"<tr>{''.join(f'<td{_left(number)}>{_text(cell)}</td>' for number, cell in enumerate(cells))}</tr>"
    yield "</tbody></table></div>"
    yield '<p class="hint">In brackets: 95 % intervals.</p>'
    yield "</section>"
    condition, calibrations = next(iter(report.calibration.items()))
    yield from reliability_section(f"Calibration, {condition}", calibrations.after)
    yield from reliability_section(f"Without the temperature, {condition}", calibrations.before)
    for condition, figures in report.figures.items():
        comparison = report.comparison.get(condition)
        yield from matrix_section(f"Trained network, {condition}", figures, report.labels)
        if comparison:
            yield from matrix_section(f"Start checkpoint, {condition}", comparison.start, report.labels)
    yield "<section><h2>Limits</h2><ul>"
    yield "".join(f"<li>{_text(sentence)}</li>" for sentence in report.limits)
    yield "</ul></section>"


def _verdict(report: TrainingReport) -> Iterator[str]:
    condition, figures = next(iter(report.figures.items()))
    yield '<section class="verdict">'
    yield f"<h2>{percent(figures.unweighted_accuracy.value)} unweighted accuracy on {_text(condition)} recordings</h2>"
    if report.data.speakers:
        yield f"<p>{_text(report.split)}</p>"
    comparison = report.comparison.get(condition)
    if comparison:
        points = f"{100 * comparison.difference.value:+.1f} points"
        chance = chance_in_words(comparison.difference, is_more=comparison.is_more_than_chance)
        yield f"<p>{points} compared with the start checkpoint, {chance}. "
        yield f"{_text(report.known_clips)}</p>"
    yield f"<p>{_text(report.calibration_in_words)}</p></section>"


def _left(column: int) -> str:
    return ' class="name"' if column == 0 else ""


def _text(text: str) -> str:
    return escape(printable(text))
