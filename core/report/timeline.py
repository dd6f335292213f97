"""The part of the page that its script draws: enlarged lanes, and the pages of utterances.

The page has the utterances once, as JSON, and the script draws those that are visible. An hour with a thousand
utterances therefore has as few elements as a minute.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from core.report.dimensions import Axis, axis_names, lines
from core.report.lanes import Lane
from core.report.looks import Looks, text
from core.results import Result


def page_data(result: Result, lanes: Sequence[Lane], looks: Looks) -> dict[str, Any]:
    """Return what the script draws.

    Returns
    -------
    A dictionary. An utterance of a lane is its start and end in seconds, the number of its emotion in `labels` (-1
    without one), and its scores or values in the order of `labels`.
    """
    names = result.model.names
    labels = list(dict.fromkeys((*names, *looks)))
    return {
        "duration": result.audio.duration_s if result.audio else 0.0,
        "dimensions": result.model.dimensions is not None,
        "labels": labels,
        "unsureBelow": result.unsure_below or 0.0,
        "letters": [looks[label].letter for label in labels if label in looks],
        "lanes": [
            {
                "key": lane.key,
                "name": lane.name,
                "utterances": [
                    (
                        part.start_s,
                        part.end_s,
                        labels.index(part.emotion) if part.emotion else -1,
                        [part.values.get(label, 0.0) for label in labels],
                    )
                    for part in lane.utterances
                ],
            }
            for lane in lanes
        ],
    }


def data_element(data: Mapping[str, Any]) -> str:
    """Return the element with the JSON, in which no text from outside can end the element."""
    content = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{content}</script>'


def zoom(
    lanes: Sequence[Lane], labels: Sequence[str], looks: Looks, axes: Mapping[str, Axis], duration_s: float
) -> Iterator[str]:
    """Yield the lanes, without their utterances, and their controls.

    Parameters
    ----------
    axes
        The axis of each dimension; empty for emotions.
    """
    yield '<div class="controls" id="controls" hidden>'
    yield '<button type="button" id="out" aria-label="Show more time">\N{MINUS SIGN}</button>'
    yield '<button type="button" id="in" aria-label="Show less time">+</button>'
    yield '<input type="range" id="at" min="0" max="1000" value="0" aria-label="Start of the enlarged part">'
    yield '<span id="span" class="facts"></span>'
    if not axes:
        yield '<label><input type="checkbox" id="all-scores"> Scores of all labels</label>'
    yield "</div>"
    yield f'<div class="lanes" id="lanes"{"" if axes else " hidden"}><div class="cursor" id="cursor" hidden></div>'
    for number, lane in enumerate(lanes):
        side = axis_names(axes) if axes else _row_names(labels, looks)
        charts = lines(lane.channel, lane.name, duration_s, axes) if axes else _empty_curves(lane)
        yield (
            f'<h3>{text(lane.name)}</h3><div class="rows" data-lane="{number}">{side}'
            f'<svg class="lane" role="group" aria-label="Utterances of {text(lane.name)}"></svg>{charts}</div>'
        )
    yield '<svg class="axis" id="axis" aria-hidden="true"></svg></div>'
    yield '<div id="details" class="details" aria-hidden="true" hidden></div>'


def _row_names(labels: Sequence[str], looks: Looks) -> str:
    """Return the labels of the rows of scores."""
    items = [f"<li><b>{looks[label].letter}</b><span>{text(label)}</span></li>" for label in labels]
    return f'<ul class="names score" aria-hidden="true" hidden>{"".join(items)}</ul>'


def _empty_curves(lane: Lane) -> str:
    return (
        f'<svg class="curves score" preserveAspectRatio="none" role="img" hidden aria-label="Scores of '
        f'{text(lane.name)} over time, one row for each emotion. The table below has the numbers."></svg>'
    )


def table(lanes: Sequence[Lane], labels: Sequence[str], looks: Looks, *, are_named: bool) -> Iterator[str]:
    """Yield the table of utterances, which the script fills, with its filters and pages."""
    has_speakers = are_named or any(lane.channel.speaker is not None for lane in lanes)
    who = "Speaker" if has_speakers else "Channel"
    yield '<section aria-labelledby="all" id="utterances" hidden><h2 id="all">All utterances</h2><div class="controls">'
    if len(lanes) > 1:
        yield _choice("of-lane", who, [(str(number), lane.name) for number, lane in enumerate(lanes)])
    if looks:
        yield _choice("of-emotion", "Emotion", [(str(number), label) for number, label in enumerate(looks)])
    yield '<button type="button" id="before" aria-label="Utterances before">\N{LEFTWARDS ARROW}</button>'
    yield '<span id="shown" role="status" class="facts"></span>'
    yield '<button type="button" id="after" aria-label="Utterances after">\N{RIGHTWARDS ARROW}</button></div>'
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Table of utterances"><table><thead><tr>'
    yield f'<th scope="col" class="name">{who}</th><th scope="col">From</th><th scope="col">To</th>'
    yield '<th scope="col" class="name">Emotion</th><th scope="col">Score</th>' if looks else ""
    cells = ' class="score" hidden' if looks else ""
    yield "".join(f'<th scope="col"{cells}>{text(label)}</th>' for label in labels)
    yield '</tr></thead><tbody id="rows"></tbody></table></div></section>'


def _choice(name: str, title: str, options: Sequence[tuple[str, str]]) -> str:
    items = "".join(f'<option value="{value}">{text(words)}</option>' for value, words in options)
    return f'<label>{title} <select id="{name}"><option value="">all</option>{items}</select></label>'
