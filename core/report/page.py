"""The page: this module puts its parts together, page.css and page.js add style and behaviour.

Text from outside (the key, the message of an error, labels and names) is escaped everywhere. As a second line of
defence, the page's content security policy allows only the page's script, and no requests.
"""

from collections.abc import Iterator, Sequence

from core.formatting import DEMO_NOTICE, printable
from core.report.dimensions import axes_of, mean_table
from core.report.document import html_document, read_asset
from core.report.lanes import Lane, lanes_of
from core.report.looks import Looks, legend, looks_of, style_rules, styles_of, text
from core.report.moments import moments_of
from core.report.notes import failure, footer, silence
from core.report.overview import overview
from core.report.single import single_utterance
from core.report.sound import Sound, audio_element
from core.report.summary import facts, headline, sentences, tiles
from core.report.timeline import data_element, page_data, table, zoom
from core.results import MeanScores, Result

_MAX_PRINTED_S = 120.0
"""Of a longer recording, the printed page has the overview only."""


def render(result: Result, sound: Sound | None = None, *, player: bool = False, names: Sequence[str] = ()) -> str:
    """Render the page of a result with any status.

    Parameters
    ----------
    sound
        The recording to embed.
    player
        Whether to add a player without a sound. The API's page frames this page and sets the sound.
    names
        Names of the speakers, in the order of their channels.

    Raises
    ------
    ResultUnreadable
        If there are more names than speakers.
    """
    result = result.with_figures()
    lanes = lanes_of(result, names) if result.audio and not result.error else ()
    styles = styles_of(result)
    looks = {} if result.model.dimensions else looks_of(styles)
    name = result.source.key.replace("\\", "/").rstrip("/").rpartition("/")[2] or result.source.key
    has_sound = player or sound is not None
    return html_document(
        f"{printable(name)}: {', '.join(result.model.dimensions or ('emotions',))}",
        (
            *_head(result, name),
            *_body(result, lanes, looks, sound, has_sound=has_sound, are_named=bool(names)),
            *footer(result.model),
        ),
        style=read_asset("page.css") + style_rules(styles),
        script=read_asset("page.js"),
        is_linking=sound is not None and sound.link is not None,
        end=[data_element(page_data(result, lanes, looks))],
    )


def _head(result: Result, name: str) -> Iterator[str]:
    yield f"<header><h1>{text(name)}</h1>"
    yield f'<p class="facts">{" · ".join(map(text, facts(result)))}</p>'
    if name != result.source.key:
        yield f'<p class="facts">{text(result.source.key)}</p>'
    yield "</header>"
    if result.model.demo:
        yield f'<p class="notice">{DEMO_NOTICE}</p>'


def _body(
    result: Result, lanes: Sequence[Lane], looks: Looks, sound: Sound | None, *, has_sound: bool, are_named: bool
) -> Iterator[str]:
    if result.error:
        yield from failure(result.error)
    elif not lanes:
        yield from silence(result)
    moments = [moments_of(lane, len(lanes)) for lane in lanes]
    if lanes:
        yield f'<section class="verdict"><h2>{text(headline(result))}</h2>'
        yield f"<p>{text(sentences(result, lanes, moments))}</p></section>"
        if len(result.utterances) > 1:
            yield from tiles(lanes, moments, looks, has_sound=has_sound)
    if has_sound:
        yield audio_element(sound)
    if lanes and result.audio:
        axes = axes_of(lanes, result.model.dimensions or (), result.model.dimensions_range)
        if len(result.utterances) == 1:
            yield from single_utterance(lanes[0], looks, axes, has_sound=has_sound)
        else:
            duration_s = result.audio.duration_s
            printed = "" if duration_s <= _MAX_PRINTED_S else " class=long"
            what = "Dimensions" if axes else "Emotions"
            yield f'<section aria-labelledby="when" id="timeline"{printed}><h2 id="when">{what} over time</h2>'
            yield legend(result.model.labels, looks) if looks else ""
            yield from overview(lanes, moments, duration_s, looks)
            yield _hint("values" if axes else "scores", has_sound=has_sound)
            yield from zoom(lanes, result.model.labels, looks, axes, duration_s)
            yield "</section>"
            yield from _means(result, lanes) if axes else ()
            yield from table(lanes, result.model.names, looks, are_named=are_named)


def _hint(shown: str, *, has_sound: bool) -> str:
    """Return how to use the lanes, in the words for a pointer and for a touch screen."""
    pointer, touch = (" Click it, or press Enter, to play it. Space pauses.", " The tap also plays it.")
    if not has_sound:
        pointer = touch = ""
    return (
        '<noscript><p class="hint">The enlarged lanes and the table of utterances need JavaScript.</p></noscript>'
        '<p class="hint pointer">Point at an utterance, or use the arrow keys, to see its times and '
        f"{shown}.{pointer}</p>"
        f'<p class="hint touch">Tap an utterance to see its times and {shown}.{touch}</p>'
    )


def _means(result: Result, lanes: Sequence[Lane]) -> Iterator[str]:
    yield '<section aria-labelledby="means"><h2 id="means">Means</h2>'
    rows: list[tuple[str, MeanScores]] = [(lane.name, lane.channel) for lane in lanes]
    if len(lanes) > 1:
        everyone = "All speakers" if any(lane.channel.speaker is not None for lane in lanes) else "All channels"
        rows.append((everyone, MeanScores.over(result.utterances)))
    yield from mean_table(rows, result.model.names)
    yield "</section>"
