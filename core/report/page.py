"""The page: this module writes the content, page.css and page.js add style and behaviour.

Untrusted text (the key, the message of an error) is escaped everywhere. As a second line of defence, the page's content
security policy allows only the page's script, and no requests.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape

from core.emotions import LabelStyle, label_styles
from core.formatting import DEMO_NOTICE, clock, counted, named_values, printable
from core.report.dimensions import axes_of, axis_names, lines, mean_table
from core.report.document import html_document, read_asset
from core.report.drawing import (
    Look,
    curves,
    lane,
    lane_id,
    legend,
    looks_of,
    min_width_px,
    names,
    share_bar,
    style_rules,
    time_axis,
)
from core.results import Channel, MeanScores, Output, Result
from core.verdict import conversation_in_words, turns_in_words, verdict


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
    result = result.with_figures()
    title = printable(result.source.key)
    duration_s = result.audio.duration_s if result.audio else 0.0
    return html_document(
        f"{title}: {', '.join(result.model.dimensions or ('emotions',))}",
        (*_head(result, escape(title)), *_body(result, sound, player=player or sound is not None)),
        style=read_asset("page.css") + _style_rules(result),
        script=read_asset("page.js"),
        end=[f'<script type="application/json" id="data">{json.dumps({"duration": duration_s})}</script>'],
    )


def _style_rules(result: Result) -> str:
    """Return the style rules that depend on the result: the page's policy forbids style attributes."""
    width_px = min_width_px(result.audio.duration_s) if result.audio else 0
    return f"{style_rules(_styles(result))}@media screen{{#lanes{{min-width:{width_px}px}}}}\n"


def _styles(result: Result) -> dict[str, LabelStyle]:
    parts = (part for channel in result.channels or () for part in channel.utterances)
    return label_styles((*result.model.labels, *(part.emotion for part in parts if part.emotion)))


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
    elif not result.channels or not result.audio:
        yield '<section class="verdict"><h2>No speech</h2>'
        missing = "are no values" if result.model.dimensions else "is no emotion"
        yield f"<p>This recording contains no speech, so there {missing} to show.</p></section>"
    if player:
        source = ""
        if sound:
            content = base64.b64encode(sound.content).decode()
            source = f' src="data:{escape(sound.media_type)};base64,{content}"'
        yield f'<audio id="player" controls preload="auto"{source}></audio>'
    if result.channels and result.audio and not result.error:
        yield from _classified(result, result.lanes, result.audio.duration_s, has_sound=player)


def _classified(result: Result, channels: tuple[Channel, ...], duration_s: float, *, has_sound: bool) -> Iterator[str]:
    if result.dimensions is None:
        yield from _emotions(result, channels, duration_s, has_sound=has_sound)
    else:
        yield from _dimensions(result, channels, duration_s, has_sound=has_sound)


def _emotions(result: Result, channels: tuple[Channel, ...], duration_s: float, *, has_sound: bool) -> Iterator[str]:
    labels, looks = result.model.labels, looks_of(_styles(result))
    independent = " Each score is a probability on its own." if result.model.output is Output.SIGMOID else ""
    yield '<section class="verdict">'
    words = verdict(result.utterances)
    yield f"<h2>{escape(words[0].upper() + words[1:])}</h2>"
    yield f"<p>{escape(_summary(result, channels) + independent)}</p></section>"
    yield '<section aria-labelledby="when"><h2 id="when">Emotions over time</h2>'
    yield _hint("scores", has_sound=has_sound)
    yield legend(labels, looks)
    rows = [
        (each, names(labels, looks) + lane(each, duration_s, looks) + curves(each, duration_s, labels, looks))
        for each in channels
    ]
    yield from _timeline(rows, duration_s)
    yield '<section aria-labelledby="share"><h2 id="share">Share of speech time</h2>'
    for channel in channels:
        yield f"<h3>{_channel_name(channel)}, {channel.speech_s:.1f} s of speech</h3>{share_bar(channel, looks)}"
    yield "</section>"
    yield from _table(channels, labels, looks)


def _dimensions(result: Result, channels: tuple[Channel, ...], duration_s: float, *, has_sound: bool) -> Iterator[str]:
    model = result.model
    axes = axes_of(channels, model.names, model.dimensions_range)
    yield '<section class="verdict">'
    yield f"<h2>On average: {escape(named_values(result.dimensions or {}))}</h2>"
    yield f"<p>{escape(_summary(result, channels))}</p>"
    if model.dimensions_range:
        low, high = model.dimensions_range
        yield f'<p class="facts">The training data has values from {low:g} to {high:g}. The model can exceed them.</p>'
    yield '</section><section aria-labelledby="when"><h2 id="when">Dimensions over time</h2>'
    yield _hint("values", has_sound=has_sound)
    rows = [(each, axis_names(axes) + lane(each, duration_s, {}) + lines(each, duration_s, axes)) for each in channels]
    yield from _timeline(rows, duration_s)
    yield '<section aria-labelledby="means"><h2 id="means">Means</h2>'
    means: list[tuple[str, MeanScores]] = [(_channel_name(channel), channel) for channel in channels]
    if len(channels) > 1:
        means.append(
            (
                "All speakers" if any(each.speaker is not None for each in channels) else "All channels",
                MeanScores.over([part for channel in channels for part in channel.utterances]),
            )
        )
    yield from mean_table(means, model.names)
    yield "</section>"
    yield from _table(channels, model.names, {})


def _hint(shown: str, *, has_sound: bool) -> str:
    hint = f"Hover over an utterance, or use the arrow keys, to see its times and {shown}."
    return f'<p class="hint">{hint}{" Click it, or press Enter, to play it." if has_sound else ""}</p>'


def _timeline(rows: Iterable[tuple[Channel, str]], duration_s: float) -> Iterator[str]:
    yield '<div class="timeline" id="timeline"><div class="lanes" id="lanes">'
    yield '<div class="cursor" id="cursor" hidden></div>'
    for channel, charts in rows:
        yield f'<h3>{_channel_name(channel)}</h3><div class="rows">{charts}</div>'
    yield f"{time_axis(duration_s)}</div></div>"
    yield '<p id="details" class="details" role="status" aria-live="polite"></p></section>'


def _summary(result: Result, channels: tuple[Channel, ...]) -> str:
    sentences = []
    for channel in channels:
        speech = f"{counted(len(channel.utterances), 'utterance')}, {channel.speech_s:.1f} s of speech"
        figures = ", ".join(filter(None, (speech, turns_in_words(channel))))
        name = f"{_channel_name(channel)}: {verdict(channel.utterances)}; " if len(channels) > 1 else ""
        sentences.append(f"{name}{figures}.")
    if conversation := conversation_in_words(result):
        sentences.append(f"In all: {conversation}.")
    return " ".join(sentences)


def _channel_name(channel: Channel) -> str:
    name = (
        f"Channel {channel.channel}" if channel.track is None else f"Track {channel.track}, channel {channel.channel}"
    )
    if channel.mixed:
        name = f"Channels {', '.join(map(str, channel.mixed))}, mixed"
    return name if channel.speaker is None else f"{name}, speaker {channel.speaker}"


def _table(channels: tuple[Channel, ...], labels: tuple[str, ...], looks: Mapping[str, Look]) -> Iterator[str]:
    yield '<section aria-labelledby="all"><h2 id="all">All utterances</h2><div class="scroll"><table><thead><tr>'
    has_tracks = any(channel.track is not None for channel in channels)
    yield '<th scope="col">Track</th>' if has_tracks else ""
    has_speakers = any(channel.speaker is not None for channel in channels)
    yield '<th scope="col">Channel</th>' + ('<th scope="col">Speaker</th>' if has_speakers else "")
    yield '<th scope="col">From</th><th scope="col">To</th>'
    yield '<th scope="col" class="name">Emotion</th>' if looks else ""
    yield "".join(f'<th scope="col">{escape(label)}</th>' for label in labels) + "</tr></thead><tbody>"
    rows = [(part, channel, index) for channel in channels for index, part in enumerate(channel.utterances)]
    for part, channel, index in sorted(rows, key=lambda row: (row[0].start_s, row[1].channel)):
        number = f"<td>{channel.channel}</td>"
        if has_speakers:
            number += f"<td>{'' if channel.speaker is None else channel.speaker}</td>"
        track = f"<td>{channel.track}</td>" if has_tracks else ""
        scores = "".join(f"<td>{part.values.get(label, 0.0):.3f}</td>" for label in labels)
        emotion = ""
        if part.emotion:
            style = looks[part.emotion].style
            emotion = f'<td class="name"><i class="swatch {style}"></i>{escape(part.emotion)}</td>'
        yield (
            f'<tr data-utterance="{lane_id(channel)}-{index}">{track}{number}<td>{clock(part.start_s, digits=2)}</td>'
            f"<td>{clock(part.end_s, digits=2)}</td>{emotion}{scores}</tr>"
        )
    yield "</tbody></table></div></section>"
