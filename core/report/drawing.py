"""The drawings of the page, as SVG and HTML. Lengths along the time axis are percentages."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from core.emotions import letter_of
from core.results import Channel
from core.results import Utterance as Part

_WIDTH = 1000.0
_LANE_HEIGHT = 44
_CURVES_HEIGHT = 90
_NARROWEST = 0.2
_ROOM_FOR_A_LETTER = 1.4
_ROOM_ON_A_PHONE = 4.0
_MOST_TICKS = 8
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_GAP_S = 1.0
"""Curves break where nobody speaks for longer."""
_DASHES = ("", "6 3", "2 2", "8 2 2 2", "1 3", "10 4", "14 3", "8 2 2 2 2 2")
"""So that curves are told apart without their colours; as many as a known checkpoint has labels."""


def clock(seconds: float, *, digits: int = 0) -> str:
    """Minutes and seconds, with hours where there are any: "1:02:03", "2:03.45"."""
    scale = 10**digits
    whole, fraction = divmod(round(seconds * scale), scale)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f".{fraction:0{digits}}" if digits else ""
    return f"{hours}:{minutes:02}:{rest:02}{tail}" if hours else f"{minutes}:{rest:02}{tail}"


def legend(labels: Sequence[str], numbers: Mapping[str, int]) -> str:
    """What colours, letters and dashes mean."""
    items = []
    for number, label in enumerate(labels):
        dash = _DASHES[number % len(_DASHES)]
        items.append(
            f'<li><i class="swatch e{numbers[label]}">{_letter(label)}</i>{escape(label)}'
            f'<svg class="sample e{numbers[label]}" viewBox="0 0 30 6" aria-hidden="true">'
            f'<line x1="0" y1="3" x2="30" y2="3" stroke-dasharray="{dash}"/></svg></li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def lane(channel: Channel, duration_s: float, numbers: Mapping[str, int]) -> str:
    """One bar for each utterance: its colour and letter say the emotion, its strength the score."""
    bars = []
    for index, part in enumerate(channel.utterances):
        x = part.start_s / duration_s * 100
        width = max(_NARROWEST, part.duration_s / duration_s * 100)
        said = describe(part, channel.channel)
        letter = (
            f'<text class="{"" if width >= _ROOM_ON_A_PHONE else "narrow"}" x="{x + width / 2:.3f}%" '
            f'y="{_LANE_HEIGHT / 2 + 5}">{_letter(part.emotion)}</text>'
            if width >= _ROOM_FOR_A_LETTER
            else ""
        )
        bars.append(
            f'<g class="utterance e{numbers[part.emotion]}" role="button" tabindex="{0 if index == 0 else -1}" '
            f'data-utterance="{channel.channel}-{index}" data-start="{part.start_s}" data-end="{part.end_s}" '
            f'aria-label="{escape(said)}"><title>{escape(said)}</title>'
            f'<rect class="ground" x="{x:.3f}%" y="2" width="{width:.3f}%" height="{_LANE_HEIGHT - 4}"/>'
            f'<rect class="bar" x="{x:.3f}%" y="2" width="{width:.3f}%" height="{_LANE_HEIGHT - 4}" '
            f'fill-opacity="{0.25 + 0.75 * part.score:.2f}"/>{letter}</g>'
        )
    return f'<svg class="lane" role="group" aria-label="Utterances of channel {channel.channel}">{"".join(bars)}</svg>'


def describe(part: Part, channel: int) -> str:
    """An utterance in words."""
    best = sorted(part.scores.items(), key=lambda item: -item[1])
    scores = ", ".join(f"{label} {score:.1%}" for label, score in best)
    return f"Channel {channel}, {clock(part.start_s, digits=1)} to {clock(part.end_s, digits=1)}: {scores}"


def curves(channel: Channel, duration_s: float, labels: Sequence[str], numbers: Mapping[str, int]) -> str:
    """Each emotion's score over time: a step for each utterance, joined where they follow one another."""
    height = _CURVES_HEIGHT
    lines = "".join(f'<line class="grid" x1="0" x2="1000" y1="{y}" y2="{y}"/>' for y in (1, height / 2, height - 1))
    for number, label in enumerate(labels):
        path = _path(channel.utterances, label, duration_s)
        dash = _DASHES[number % len(_DASHES)]
        lines += f'<path class="curve e{numbers[label]}" stroke-dasharray="{dash}" d="{path}"/>'
    return (
        f'<svg class="curves" viewBox="0 0 1000 {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="Scores of channel {channel.channel} over time, from 0 at the bottom to 1; the table has the '
        f'numbers">{lines}</svg>'
    )


def _path(parts: Sequence[Part], label: str, duration_s: float) -> str:
    commands: list[str] = []
    for before, part in pairwise((None, *parts)):
        assert part is not None  # only the first of all is missing
        y = _CURVES_HEIGHT - 1 - part.scores.get(label, 0.0) * (_CURVES_HEIGHT - 2)
        joined = before is not None and part.start_s - before.end_s <= _GAP_S
        commands.append(f"{'L' if joined else 'M'}{part.start_s / duration_s * _WIDTH:.1f} {y:.1f}")
        commands.append(f"H{part.end_s / duration_s * _WIDTH:.1f}")
    return "".join(commands)


def time_axis(duration_s: float) -> str:
    """Times below the lanes."""
    step_s = next((step for step in _STEPS_S if duration_s / step <= _MOST_TICKS), _STEPS_S[-1])
    ticks = range(0, int(duration_s) + 1, step_s)
    # Attributes, not styles: the page's policy forbids styles on single elements.
    marks = "".join(
        f'<line x1="{at / duration_s * 100:.3f}%" x2="{at / duration_s * 100:.3f}%" y1="0" y2="5"/>' for at in ticks
    )
    names = "".join(_tick_name(at, duration_s) for at in ticks)
    return f'<svg class="axis" aria-hidden="true">{marks}{names}</svg>'


def _tick_name(at_s: int, duration_s: float) -> str:
    share = at_s / duration_s
    near_edge = 0.04
    anchor = "start" if share < near_edge else "end" if share > 1 - near_edge else "middle"
    return f'<text x="{share * 100:.3f}%" y="18" text-anchor="{anchor}">{clock(at_s)}</text>'


def share_bar(channel: Channel, numbers: Mapping[str, int]) -> str:
    """How much of the speech sounds like what, by the emotion that each utterance got."""
    seconds: dict[str, float] = {}
    for part in channel.utterances:
        seconds[part.emotion] = seconds.get(part.emotion, 0.0) + part.duration_s
    total_s = sum(seconds.values()) or 1.0
    rects, names, x = [], [], 0.0
    for emotion, spoken_s in sorted(seconds.items(), key=lambda item: -item[1]):
        width = spoken_s / total_s * 100
        said = f"{emotion}: {width:.0f} %, {spoken_s:.1f} s"
        rects.append(
            f'<g class="e{numbers[emotion]}"><title>{escape(said)}</title>'
            f'<rect class="bar" x="{x:.3f}%" y="0" width="{width:.3f}%" height="26"/>'
            f'<text x="{x + width / 2:.3f}%" y="18">{_letter(emotion)}</text></g>'
        )
        names.append(f'<li><i class="swatch e{numbers[emotion]}">{_letter(emotion)}</i>{escape(said)}</li>')
        x += width
    return f'<svg class="share" aria-hidden="true">{"".join(rects)}</svg><ul class="legend">{"".join(names)}</ul>'


def _letter(emotion: str) -> str:
    return escape(letter_of(emotion).upper())
