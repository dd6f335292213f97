"""The page itself: what stands in it is made here, how it looks and moves are page.css and page.js beside this file.

Whatever came with the recording (its key, an error's text) is escaped wherever it goes. Should something slip through
all the same, the page's own policy lets no script run but ours, and nothing be fetched from anywhere.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from core.emotions import colour_of
from core.formatting import clock, printable
from core.report.drawing import curves, lane, least_width_px, legend, names, share_bar, time_axis
from core.results import Channel, Result

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sound:
    """The recording as the page plays it.

    Attributes
    ----------
    media_type
        Such as ``audio/ogg``.
    content
        The file.
    """

    media_type: str
    content: bytes


def render(result: Result, sound: Sound | None = None, *, player: bool = False) -> str:
    """Make the page of a result, whatever its status.

    Parameters
    ----------
    player
        Leave room for a player even without the sound: whoever frames the page has that, and fills it in.
    """
    style = (_HERE / "page.css").read_text(encoding="utf-8") + _rules(result)
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    title = escape(printable(result.source.key))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(script, style)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{title}: emotions</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_head(result, title),
            *_body(result, sound, player=player or sound is not None),
            "</main>",
            f'<script type="application/json" id="data">{_json(_data(result))}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        )
    )


def _policy(script: str, style: str) -> str:
    """Only what is in this file may run, look or sound."""
    return (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}'; style-src 'sha256-{_digest(style)}'; "
        "media-src data: blob:; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    return json.dumps(data, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(result: Result) -> dict[str, Any]:
    return {"duration": result.audio.duration_s if result.audio else 0.0}


def _rules(result: Result) -> str:
    """What depends on the result: the page's policy forbids styles on single elements, as it does scripts."""
    labels = dict.fromkeys((*result.model.labels, *_emotions(result)))
    colours = "".join(f".e{number}{{--c:{colour_of(label)}}}\n" for number, label in enumerate(labels))
    width_px = least_width_px(result.audio.duration_s) if result.audio else 0
    return f"{colours}@media screen{{#lanes{{min-width:{width_px}px}}}}\n"


def _emotions(result: Result) -> list[str]:
    return [part.emotion for channel in result.channels or () for part in channel.utterances]


def _head(result: Result, title: str) -> Iterator[str]:
    yield f"<header><h1>{title}</h1>"
    facts = []
    if result.audio:
        channels = "1 channel" if result.audio.channels == 1 else f"{result.audio.channels} channels"
        facts += [clock(result.audio.duration_s), channels, f"{result.audio.container}, {result.audio.codec}"]
    if result.speech_s:
        facts.append(f"{result.speech_s:.1f} s of speech")
    facts.append(f"{result.processing.finished_at:%Y-%m-%d %H:%M} UTC")
    yield f'<p class="facts">{" · ".join(escape(printable(fact)) for fact in facts)}</p>'
    model = f"{result.model.id} ({result.model.precision})"
    yield f'<p class="facts">Model: {escape(printable(model))}</p></header>'
    if result.model.demo:
        yield (
            '<p class="notice">This is the demo model: it tells the prosodies of a speech synthesiser apart, and knows '
            "nothing of real people.</p>"
        )


def _body(result: Result, sound: Sound | None, *, player: bool) -> Iterator[str]:
    if result.error:
        yield '<section class="verdict"><h2>This recording could not be classified</h2>'
        yield f"<p>{escape(printable(result.error.message))}</p>"
        yield f'<p class="facts">Code: {escape(printable(result.error.code))}</p></section>'
    elif not result.channels or not result.audio or result.scores is None:
        yield '<section class="verdict"><h2>Nobody speaks in this recording</h2>'
        yield "<p>No speech was found in it, so there is no emotion to show.</p></section>"
    if player:
        source = ""
        if sound:
            content = base64.b64encode(sound.content).decode()
            source = f' src="data:{escape(sound.media_type)};base64,{content}"'
        yield f'<audio id="player" controls preload="auto"{source}></audio>'
    if result.channels and result.audio and result.scores is not None:
        yield from _classified(result, result.channels, result.audio.duration_s, has_sound=player)


def _classified(result: Result, channels: tuple[Channel, ...], duration_s: float, *, has_sound: bool) -> Iterator[str]:
    labels = result.model.labels
    numbers = {label: number for number, label in enumerate(dict.fromkeys((*labels, *_emotions(result))))}
    yield '<section class="verdict">'
    yield f"<h2>On average: {escape(result.emotion or '')} {result.score or 0.0:.0%}</h2>"
    yield f"<p>{escape(_summary(channels))}</p></section>"
    yield '<section aria-labelledby="when"><h2 id="when">Who sounds how, and when</h2>'
    hint = "Hover, or go from one to the next with the arrow keys, to see times and scores."
    yield f'<p class="hint">{hint}{" Click, or press Enter, to listen from there." if has_sound else ""}</p>'
    yield legend(labels, numbers)
    yield '<div class="timeline" id="timeline"><div class="lanes" id="lanes">'
    yield '<div class="cursor" id="cursor" hidden></div>'
    for channel in channels:
        yield f'<h3>{_channel_name(channel)}</h3><div class="rows">{names(labels)}'
        yield lane(channel, duration_s, numbers)
        yield curves(channel, duration_s, labels, numbers) + "</div>"
    yield f"{time_axis(duration_s)}</div></div>"
    yield '<p id="details" class="details" role="status" aria-live="polite"></p></section>'
    yield '<section aria-labelledby="share"><h2 id="share">Share of the speech</h2>'
    for channel in channels:
        yield f"<h3>{_channel_name(channel)}, {channel.speech_s:.1f} s of speech</h3>{share_bar(channel, numbers)}"
    yield "</section>"
    yield from _table(channels, labels, numbers)


def _summary(channels: tuple[Channel, ...]) -> str:
    sentences = []
    for channel in channels:
        count = len(channel.utterances)
        said = f"{count} utterance{'s' if count > 1 else ''}, {channel.speech_s:.1f} s"
        sentences.append(f"{_channel_name(channel)}, on average: {channel.emotion} {channel.score:.0%} ({said}).")
    return " ".join(sentences)


def _channel_name(channel: Channel) -> str:
    if channel.mixed:
        return f"Channels {', '.join(map(str, channel.mixed))}, mixed"
    return f"Channel {channel.channel}"


def _table(channels: tuple[Channel, ...], labels: tuple[str, ...], numbers: dict[str, int]) -> Iterator[str]:
    yield '<section aria-labelledby="all"><h2 id="all">Every utterance</h2><div class="scroll"><table><thead><tr>'
    yield '<th scope="col">Channel</th><th scope="col">From</th><th scope="col">To</th><th scope="col">Emotion</th>'
    yield "".join(f'<th scope="col">{escape(label)}</th>' for label in labels) + "</tr></thead><tbody>"
    rows = [(part, channel.channel, index) for channel in channels for index, part in enumerate(channel.utterances)]
    for part, number, index in sorted(rows, key=lambda row: (row[0].start_s, row[1])):
        scores = "".join(f"<td>{part.scores.get(label, 0.0):.3f}</td>" for label in labels)
        yield (
            f'<tr data-utterance="{number}-{index}"><td>{number}</td><td>{clock(part.start_s, digits=2)}</td>'
            f"<td>{clock(part.end_s, digits=2)}</td>"
            f'<td class="name"><i class="swatch e{numbers[part.emotion]}"></i>{escape(part.emotion)}</td>{scores}</tr>'
        )
    yield "</tbody></table></div></section>"
