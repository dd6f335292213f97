"""The index of many reports: one row a recording, worst first, which the page's script sorts by any column."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from core.emotions import standard_name
from core.formatting import DEMO_NOTICE, clock, counted
from core.report.document import html_document, read_asset
from core.report.lanes import Lane, lanes_of
from core.report.looks import text
from core.report.moments import moments_of
from core.report.notes import footer
from core.report.summary import headline
from core.results import Model, Result

_UNPLEASANT = frozenset(("anger", "fear", "sad", "disgust"))
_SHARE = "the share of speech time with anger, fear, sadness or disgust, of the speaker with the highest share"
_VALENCE = "the mean valence of the speaker with the lowest"
_COLUMNS = ("Recording", "Duration", "Unpleasant", "Mood", "Listen first")


@dataclass(frozen=True)
class IndexRow:
    """The row of a recording in the index.

    Attributes
    ----------
    page
        File name of the report.
    unpleasant
        Share of the speech time with anger, fear, sadness or disgust, of the speaker with the highest share. For a
        model with valence, the lowest mean valence with its sign reversed. None if there is neither.
    """

    page: str
    name: str
    duration_s: float
    unpleasant: float | None
    unpleasant_words: str
    mood: str
    moment: str
    is_failed: bool

    @classmethod
    def of(cls, result: Result, page: str, names: Sequence[str] = ()) -> "IndexRow":
        """Return the row of a result.

        Raises
        ------
        ResultUnreadable
            If there are more names than speakers.
        """
        result = result.with_figures()
        lanes = lanes_of(result, names) if result.audio and not result.error else ()
        worst = max(((_unpleasant(lane), lane) for lane in lanes), key=_rank, default=None)
        unpleasant = worst[0] if worst else None
        words = ""
        if worst and unpleasant is not None:
            value = f"valence {-unpleasant:.2f}" if result.dimensions else f"{unpleasant:.0%}"
            words = f"{value}, {worst[1].name}" if len(lanes) > 1 else value
        found = [(lane, moment) for lane in lanes for moment in moments_of(lane, len(lanes))[:1]]
        lane, moment = max(found, key=lambda pair: pair[1].strength) if found else (None, None)
        where = f", {lane.name}" if lane and len(lanes) > 1 else ""
        return cls(
            page=page,
            name=result.source.key,
            duration_s=result.audio.duration_s if result.audio else 0.0,
            unpleasant=unpleasant,
            unpleasant_words=words,
            mood=headline(result) if lanes else result.error.message if result.error else "No speech",
            moment=f"{clock(moment.start_s)} {moment.words}{where}" if moment else "",
            is_failed=result.error is not None,
        )


def _rank(pair: tuple[float | None, Lane]) -> float:
    return -math.inf if pair[0] is None else pair[0]


def _unpleasant(lane: Lane) -> float | None:
    channel = lane.channel
    if channel.dimensions is not None:
        return -channel.dimensions["valence"] if "valence" in channel.dimensions else None
    return sum(share for label, share in (channel.shares or {}).items() if standard_name(label) in _UNPLEASANT)


def index_page(title: str, rows: Sequence[IndexRow], model: Model) -> str:
    """Return the index; recordings without a value come after the others.

    Parameters
    ----------
    model
        The model of the last recording, for the footer.
    """
    ordered = sorted(rows, key=lambda row: (row.unpleasant is None, -(row.unpleasant or 0.0), row.name))
    return html_document(
        f"{title}: reports",
        (*_body(title, ordered, model), *footer(model)),
        style=read_asset("page.css"),
        script=read_asset("index.js"),
    )


def _body(title: str, rows: Sequence[IndexRow], model: Model) -> Iterator[str]:
    yield f"<header><h1>{text(title)}</h1>"
    failed = sum(row.is_failed for row in rows)
    yield f'<p class="facts">{counted(len(rows), "recording")}{f", {failed:,} failed" if failed else ""}</p></header>'
    yield f'<p class="notice">{DEMO_NOTICE}</p>' if model.demo else ""
    measure = _VALENCE if model.dimensions else _SHARE
    yield f'<p class="hint">Unpleasant is {measure}. It says where to listen, not what a person feels.</p>'
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Table of recordings">'
    yield '<table id="index"><thead><tr>'
    for number, name in enumerate(_COLUMNS):
        sort = ' aria-sort="descending"' if name == "Unpleasant" else ""
        yield f'<th scope="col" class="name"{sort}><button type="button" data-column="{number}">{name}</button></th>'
    yield "</tr></thead><tbody>"
    for row in rows:
        unpleasant = "" if row.unpleasant is None else f"{row.unpleasant:.6f}"
        link = f'<a href="{quote(row.page)}">{text(row.name)}</a>'
        yield (
            f'<tr><td class="name long">{link}</td><td data-value="{row.duration_s}">{clock(row.duration_s)}</td>'
            f'<td class="name" data-value="{unpleasant}">{text(row.unpleasant_words)}</td>'
            f'<td class="name long">{text(row.mood)}</td><td class="name">{text(row.moment)}</td></tr>'
        )
    yield "</tbody></table></div>"
