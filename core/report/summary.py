"""The summary of a report: the mood in words, a sentence, and a tile for each speaker."""

from collections.abc import Iterator, Sequence

from core.formatting import clock, counted, named_values
from core.report.lanes import Lane
from core.report.looks import Looks, capitalised, swatch, text
from core.report.moments import Moment, buttons
from core.results import Output, Result
from core.results.verdict import conversation_in_words, doubt_in_words, verdict

_EVEN_SHARE = 0.05
"""A smaller difference of talk shares is called even."""


def headline(result: Result) -> str:
    """Return the mood of the recording in words."""
    if result.dimensions is not None:
        return f"On average: {named_values(result.dimensions)}"
    return capitalised(verdict(result.utterances))


def sentences(result: Result, lanes: Sequence[Lane], moments: Sequence[Sequence[Moment]]) -> str:
    """Return two or three sentences: the speaker who talks most, where to listen first, and the conversation."""
    found = []
    if doubt := doubt_in_words(result):
        found.append(doubt)
    if len(lanes) > 1:
        found.append(_talk(lanes))
    strongest = [(lane, own[0]) for lane, own in zip(lanes, moments, strict=True) if own]
    if strongest and len(result.utterances) > 1:
        lane, moment = max(strongest, key=lambda pair: pair[1].strength)
        where = f"{lane.name}, " if len(lanes) > 1 else ""
        found.append(f"Listen first at {clock(moment.start_s)}: {where}{moment.words}.")
    if result.dimensions is None and not strongest:
        found.append("No stretch has an emotion other than neutral.")
    if conversation := conversation_in_words(result):
        found.append(f"In all: {conversation}.")
    if result.model.output is Output.SIGMOID:
        found.append("Each score is a probability on its own.")
    if result.model.dimensions_range:
        low, high = result.model.dimensions_range
        found.append(f"The training data has values from {low:g} to {high:g}. The model can exceed them.")
    return " ".join(found)


def _talk(lanes: Sequence[Lane]) -> str:
    most, second, *others = sorted(lanes, key=lambda lane: -(lane.channel.talk_share or 0.0))
    share, second_share = most.channel.talk_share or 0.0, second.channel.talk_share or 0.0
    if not others and share - second_share < _EVEN_SHARE:
        return f"{capitalised(most.name)} and {second.name} talk about equally long."
    return f"{capitalised(most.name)} talks most: {share:.0%} of the speech."


def tiles(
    lanes: Sequence[Lane], moments: Sequence[Sequence[Moment]], looks: Looks, *, has_sound: bool
) -> Iterator[str]:
    """Yield a tile for each speaker."""
    yield '<ul class="tiles">'
    for lane, own in zip(lanes, moments, strict=True):
        mood = text(capitalised(verdict(lane.utterances)) + (", unsure" if lane.channel.unsure else ""))
        bar = mix_bar(lane, looks) if lane.channel.shares else ""
        yield f'<li class="tile"><h3>{text(lane.name)}</h3><p class="mood">{mood}</p>{bar}'
        figures = (f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _figures(lane))
        yield f'<dl class="figures">{"".join(figures)}</dl>'
        yield (buttons(lane, own, looks, has_sound=has_sound) if own else "") + "</li>"
    yield "</ul>"


def _figures(lane: Lane) -> Iterator[tuple[str, str]]:
    channel = lane.channel
    if channel.talk_share is not None:
        yield "Talk share", f"{channel.talk_share:.0%}"
    yield "Speech", clock(channel.speech_s)
    if channel.longest_turn_s is not None:
        yield "Longest turn", clock(channel.longest_turn_s)
    if channel.turns is not None:
        yield "Turns", f"{channel.turns:,}"
    if channel.interruptions is not None:
        yield "Interruptions", f"{channel.interruptions:,}"
    if channel.talk_share is None:
        yield "Utterances", f"{len(lane.utterances):,}"


def mix_bar(lane: Lane, looks: Looks) -> str:
    """Return a bar with the share of speech time that each emotion has, and its names."""
    rects, names, x = [], [], 0.0
    for emotion, share in sorted((lane.channel.shares or {}).items(), key=lambda item: -item[1]):
        if share == 0.0:
            continue
        look = looks[emotion]
        rects.append(
            f'<g class="{look.style}"><rect class="bar" x="{x:.3f}%" y="0" width="{share * 100:.3f}%" height="26"/>'
            f'<text x="{x + share * 50:.3f}%" y="18">{look.letter if share >= _MIN_LETTER_SHARE else ""}</text></g>'
        )
        names.append(f"<li>{swatch(look)}{text(emotion)} {share:.0%}</li>")
        x += share * 100
    return (
        f'<svg class="share" aria-hidden="true">{"".join(rects)}</svg>'
        f'<ul class="legend mix" aria-label="Share of the speech time">{"".join(names)}</ul>'
    )


_MIN_LETTER_SHARE = 0.05


def facts(result: Result) -> list[str]:
    """Return what the recording is: duration, channels, format, speech, time."""
    found = []
    if result.audio:
        channels = counted(result.audio.channels, "channel")
        if result.audio.track_channels:
            channels += f" on {counted(len(result.audio.track_channels), 'track')}"
        found += [clock(result.audio.duration_s), channels, f"{result.audio.container}, {result.audio.codec}"]
    if result.speech_s:
        found.append(f"{clock(result.speech_s)} of speech")
    found.append(f"{result.processing.finished_at:%Y-%m-%d %H:%M} UTC")
    return found
