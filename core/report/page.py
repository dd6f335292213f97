"""The page: this module writes the content, page.css and page.js add style and behaviour.

Untrusted text (the key, the message of an error) is escaped everywhere. As a second line of defence, the page's content
security policy allows only the page's script, and no requests.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from core.emotions import colour_of
from core.formatting import DEMO_NOTICE, clock, counted, printable
from core.report.drawing import curves, lane, legend, min_width_px, names, share_bar, time_axis
from core.results import Channel, Result

PAGE_START = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="""
"""The start of every page."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Sound:
    """The recording, in a format that browsers play.

    Attributes
    ----------
    media_type
        The format, such as ``audio/ogg``.
    content
        The content of the file.
    """

    media_type: str
    content: bytes


def render(result: Result, sound: Sound | None = None, *, player: bool = False) -> str:
    """Render the page of a result with any status.

    Parameters
    ----------
    sound
        The recording to embed.
    player
        Whether to add a player without a sound. The API's page frames this page and sets the sound.
    """
    style = (_FOLDER / "page.css").read_text(encoding="utf-8") + _style_rules(result)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    title = escape(printable(result.source.key))
    duration_s = result.audio.duration_s if result.audio else 0.0
    return "\n".join(
        (
            f'{PAGE_START}"{_policy(script, style)}">',
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
            f'<script type="application/json" id="data">{json.dumps({"duration": duration_s})}</script>',
            f"<script>{script}</script>",
            "</body>",
            "</html>",
            "",
        )
    )


def _policy(script: str, style: str) -> str:
    """Return a content security policy that allows only what is in the page."""
    return (
        f"default-src 'none'; script-src 'sha256-{_digest(script)}'; style-src 'sha256-{_digest(style)}'; "
        "media-src data: blob:; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _style_rules(result: Result) -> str:
    """Return the style rules that depend on the result: the page's policy forbids style attributes."""
    labels = dict.fromkeys((*result.model.labels, *_emotions(result)))
    colours = "".join(f".e{number}{{--c:{colour_of(label)}}}\n" for number, label in enumerate(labels))
    width_px = min_width_px(result.audio.duration_s) if result.audio else 0
    return f"{colours}@media screen{{#lanes{{min-width:{width_px}px}}}}\n"


def _emotions(result: Result) -> list[str]:
    return [part.emotion for channel in result.channels or () for part in channel.utterances]


def _head(result: Result, title: str) -> Iterator[str]:
    yield f"<header><h1>{title}</h1>"
    facts = []
    if result.audio:
        channels = counted(result.audio.channels, "channel")
        if result.audio.track_channels:
            channels += f" on {counted(len(result.audio.track_channels), 'track')}"
        facts += [clock(result.audio.duration_s), channels, f"{result.audio.container}, {result.audio.codec}"]
    if result.speech_s:
        facts.append(f"{result.speech_s:.1f} s of speech")
    facts.append(f"{result.processing.finished_at:%Y-%m-%d %H:%M} UTC")
    yield f'<p class="facts">{" · ".join(escape(printable(fact)) for fact in facts)}</p>'
    model = f"{result.model.id} ({result.model.precision})"
    yield f'<p class="facts">Model: {escape(printable(model))}</p></header>'
    if result.model.demo:
        yield f'<p class="notice">{DEMO_NOTICE}</p>'


def _body(result: Result, sound: Sound | None, *, player: bool) -> Iterator[str]:
    if result.error:
        yield '<section class="verdict"><h2>This recording could not be classified</h2>'
        yield f"<p>{escape(printable(result.error.message))}</p>"
        yield f'<p class="facts">Code: {escape(printable(result.error.code))}</p></section>'
    elif not result.channels or not result.audio or result.scores is None:
        yield '<section class="verdict"><h2>No speech</h2>'
        yield "<p>This recording contains no speech, so there is no emotion to show.</p></section>"
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
    yield '<section aria-labelledby="when"><h2 id="when">Emotions over time</h2>'
    hint = "Hover over an utterance, or use the arrow keys, to see its times and scores."
    yield f'<p class="hint">{hint}{" Click it, or press Enter, to play it." if has_sound else ""}</p>'
    yield legend(labels, numbers)
    yield '<div class="timeline" id="timeline"><div class="lanes" id="lanes">'
    yield '<div class="cursor" id="cursor" hidden></div>'
    for channel in channels:
        yield f'<h3>{_channel_name(channel)}</h3><div class="rows">{names(labels)}'
        yield lane(channel, duration_s, numbers)
        yield curves(channel, duration_s, labels, numbers) + "</div>"
    yield f"{time_axis(duration_s)}</div></div>"
    yield '<p id="details" class="details" role="status" aria-live="polite"></p></section>'
    yield '<section aria-labelledby="share"><h2 id="share">Share of speech time</h2>'
    for channel in channels:
        yield f"<h3>{_channel_name(channel)}, {channel.speech_s:.1f} s of speech</h3>{share_bar(channel, numbers)}"
    yield "</section>"
    yield from _table(channels, labels, numbers)


def _summary(channels: tuple[Channel, ...]) -> str:
    parts = []
    for channel in channels:
        speech = f"{counted(len(channel.utterances), 'utterance')}, {channel.speech_s:.1f} s of speech"
        parts.append(f"{_channel_name(channel)}: {channel.emotion} {channel.score:.0%} ({speech}).")
    return " ".join(parts) if len(parts) > 1 else f"{speech}."


def _channel_name(channel: Channel) -> str:
    if channel.mixed:
        return f"Channels {', '.join(map(str, channel.mixed))}, mixed"
    return (
        f"Channel {channel.channel}" if channel.track is None else f"Track {channel.track}, channel {channel.channel}"
    )


def _table(channels: tuple[Channel, ...], labels: tuple[str, ...], numbers: dict[str, int]) -> Iterator[str]:
    yield '<section aria-labelledby="all"><h2 id="all">All utterances</h2><div class="scroll"><table><thead><tr>'
    has_tracks = any(channel.track is not None for channel in channels)
    yield '<th scope="col">Track</th>' if has_tracks else ""
    yield '<th scope="col">Channel</th><th scope="col">From</th><th scope="col">To</th><th scope="col">Emotion</th>'
    yield "".join(f'<th scope="col">{escape(label)}</th>' for label in labels) + "</tr></thead><tbody>"
    rows = [(part, channel, index) for channel in channels for index, part in enumerate(channel.utterances)]
    for part, channel, index in sorted(rows, key=lambda row: (row[0].start_s, row[1].channel)):
        number = channel.channel
        track = f"<td>{channel.track}</td>" if has_tracks else ""
        scores = "".join(f"<td>{part.scores.get(label, 0.0):.3f}</td>" for label in labels)
        yield (
            f'<tr data-utterance="{number}-{index}">{track}<td>{number}</td><td>{clock(part.start_s, digits=2)}</td>'
            f"<td>{clock(part.end_s, digits=2)}</td>"
            f'<td class="name"><i class="swatch e{numbers[part.emotion]}"></i>{escape(part.emotion)}</td>{scores}</tr>'
        )
    yield "</tbody></table></div></section>"
