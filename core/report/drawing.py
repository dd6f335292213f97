"""The charts of the page, as SVG and HTML. Positions along the time axis are percentages, or seconds in a view box.

A chart is as wide as the page. The chart of a long recording is wider and scrolls.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from core.emotions import LabelStyle
from core.formatting import clock, named_values
from core.results import Channel
from core.results import Utterance as Part

_LANE_HEIGHT = 44
_ROW_HEIGHT = 20
_BAR_HEIGHT = 17
_MIN_PX_PER_S = 10.0
"""An utterance of half a second is then five pixels wide, which a pointer can hit."""
_WIDTH_PX, _PHONE_PX = 860.0, 320.0
"""Approximate width of the chart of a short recording, on a computer and on a phone."""
_LETTER_PX = 12.0
_TICK_PX = 100.0
_TICK_NAME_PX = 40.0
_STEPS_S = (1, 2, 5, 10)


class Look(NamedTuple):
    """The look of an emotion: a class of the style sheet, and a letter, escaped."""

    style: str
    letter: str


def looks_of(styles: Mapping[str, LabelStyle]) -> dict[str, Look]:
    """Return the look of each emotion."""
    return {
        label: Look(f"e{number}", escape(style.letter.upper())) for number, (label, style) in enumerate(styles.items())
    }


def style_rules(styles: Mapping[str, LabelStyle]) -> str:
    """Return the style rules of the looks."""
    colours = "".join(f".e{number}{{--c:{style.colour}}}\n" for number, style in enumerate(styles.values()))
    dark = ",".join(f".e{number}" for number, style in enumerate(styles.values()) if style.is_dark)
    return f"{colours}{dark}{{--on-c:#fff}}\n" if dark else colours


_PLAIN = Look("plain", "")
_PLAIN_OPACITY = 0.6


def legend(labels: Sequence[str], looks: Mapping[str, Look]) -> str:
    """Return the legend of colours and letters."""
    items = [f"<li>{_swatch(looks[label])}{escape(label)}</li>" for label in labels]
    return f'<ul class="legend">{"".join(items)}</ul>'


def min_width_px(duration_s: float) -> int:
    """Return the width that the chart needs so that its utterances can be distinguished."""
    return round(duration_s * _MIN_PX_PER_S)


def _px_per_s(duration_s: float, room_px: float = _WIDTH_PX) -> float:
    return max(_MIN_PX_PER_S, room_px / duration_s)


def _swatch(look: Look) -> str:
    return f'<i class="swatch {look.style}">{look.letter}</i>'


def lane_id(channel: Channel) -> str:
    """Return the name of a lane for the page's script."""
    return str(channel.channel) if channel.speaker is None else f"{channel.channel}.{channel.speaker}"


def lane_name(channel: Channel) -> str:
    """Return the name of a lane, for use within a sentence."""
    return f"channel {channel.channel}" + ("" if channel.speaker is None else f", speaker {channel.speaker}")


def lane(channel: Channel, duration_s: float, looks: Mapping[str, Look]) -> str:
    """Return a lane with one bar for each utterance: colour and letter are the emotion, opacity is the score.

    Without emotions, all bars look the same.
    """
    bars = []
    for index, part in enumerate(channel.utterances):
        x = part.start_s / duration_s * 100
        width = part.duration_s / duration_s * 100
        description = describe(part, lane_name(channel))
        look = looks[part.emotion] if part.emotion else _PLAIN
        opacity = _PLAIN_OPACITY if part.score is None else 0.25 + 0.75 * part.score
        letter = ""
        if look.letter and part.duration_s * _px_per_s(duration_s) >= _LETTER_PX:
            narrow = part.duration_s * _px_per_s(duration_s, _PHONE_PX) < _LETTER_PX
            letter = (
                f'<text class="{"narrow" if narrow else ""}" x="{x + width / 2:.4f}%" '
                f'y="{_LANE_HEIGHT / 2 + 5}">{look.letter}</text>'
            )
        bars.append(
            f'<g class="utterance {look.style}" role="button" tabindex="{0 if index == 0 else -1}" '
            f'data-utterance="{lane_id(channel)}-{index}" data-start="{part.start_s}" data-end="{part.end_s}" '
            f'aria-label="{escape(description)}"><title>{escape(description)}</title>'
            f'<rect class="ground" x="{x:.4f}%" y="2" width="{width:.4f}%" height="{_LANE_HEIGHT - 4}"/>'
            f'<rect class="bar" x="{x:.4f}%" y="2" width="{width:.4f}%" height="{_LANE_HEIGHT - 4}" '
            f'fill-opacity="{opacity:.2f}"/>{letter}</g>'
        )
    return f'<svg class="lane" role="group" aria-label="Utterances of {lane_name(channel)}">{"".join(bars)}</svg>'


def describe(part: Part, name: str) -> str:
    """Return the lane, the times and the scores or values of an utterance as text."""
    if part.dimensions is not None:
        values = named_values(part.dimensions, digits=3)
    else:
        best = sorted(part.values.items(), key=lambda item: -item[1])
        values = ", ".join(f"{label} {score:.1%}" for label, score in best)
    return f"{name[0].upper()}{name[1:]}, {clock(part.start_s, digits=1)} to {clock(part.end_s, digits=1)}: {values}"


def curves(channel: Channel, duration_s: float, labels: Sequence[str], looks: Mapping[str, Look]) -> str:
    """Return a row for each emotion, with one box for each utterance: its height is the score.

    Lines in one chart would overlap, because most scores are near zero.
    """
    height = _ROW_HEIGHT * len(labels)
    rows = []
    for number, label in enumerate(labels):
        floor = _ROW_HEIGHT * (number + 1) - 1
        rows.append(
            f'<line class="grid" x1="0" x2="{duration_s}" y1="{floor}" y2="{floor}"/>'
            f'<path class="curve {looks[label].style}" d="{_path(channel.utterances, label, floor)}"/>'
        )
    return (
        f'<svg class="curves" viewBox="0 0 {duration_s} {height}" height="{height}" preserveAspectRatio="none" '
        f'role="img" aria-label="Scores of {lane_name(channel)} over time, one row for each emotion. The table '
        f'below has the numbers.">{"".join(rows)}</svg>'
    )


def names(labels: Sequence[str], looks: Mapping[str, Look]) -> str:
    """Return the labels of the rows, which stay visible when the chart scrolls."""
    items = [f"<li><b>{looks[label].letter}</b><span>{escape(label)}</span></li>" for label in labels]
    return f'<ul class="names" aria-hidden="true">{"".join(items)}</ul>'


def _path(parts: Sequence[Part], label: str, floor: int) -> str:
    boxes = []
    for part in parts:
        top = floor - part.values.get(label, 0.0) * _BAR_HEIGHT
        boxes.append(f"M{part.start_s:.2f} {floor}V{top:.1f}H{part.end_s:.2f}V{floor}Z")
    return "".join(boxes)


def time_axis(duration_s: float) -> str:
    """Return the time axis below the lanes."""
    step_s = next(step for step in _STEPS_S if step * _px_per_s(duration_s) >= _TICK_PX)
    ticks = range(0, int(duration_s) + 1, step_s)
    # The page's policy forbids style attributes.
    marks = "".join(
        f'<line x1="{at / duration_s * 100:.4f}%" x2="{at / duration_s * 100:.4f}%" y1="0" y2="5"/>' for at in ticks
    )
    times = "".join(_tick_name(at, duration_s) for at in ticks)
    return f'<svg class="axis" aria-hidden="true">{marks}{times}</svg>'


def _tick_name(at_s: int, duration_s: float) -> str:
    near_edge_s = _TICK_NAME_PX / _px_per_s(duration_s)
    anchor = "start" if at_s < near_edge_s else "end" if at_s > duration_s - near_edge_s else "middle"
    return f'<text x="{at_s / duration_s * 100:.4f}%" y="18" text-anchor="{anchor}">{clock(at_s)}</text>'


def share_bar(channel: Channel, looks: Mapping[str, Look]) -> str:
    """Return a bar with the share of speech time that each emotion has."""
    seconds: dict[str, float] = {}
    for part in channel.utterances:
        emotion, _ = part.best
        seconds[emotion] = seconds.get(emotion, 0.0) + part.duration_s
    total_s = sum(seconds.values()) or 1.0
    rects, names, x = [], [], 0.0
    for emotion, spoken_s in sorted(seconds.items(), key=lambda item: -item[1]):
        width = spoken_s / total_s * 100
        share = f"{emotion}: {width:.0f}%, {spoken_s:.1f} s"
        rects.append(
            f'<g class="{looks[emotion].style}"><title>{escape(share)}</title>'
            f'<rect class="bar" x="{x:.3f}%" y="0" width="{width:.3f}%" height="26"/>'
            f'<text x="{x + width / 2:.3f}%" y="18">{looks[emotion].letter}</text></g>'
        )
        names.append(f"<li>{_swatch(looks[emotion])}{escape(share)}</li>")
        x += width
    return f'<svg class="share" aria-hidden="true">{"".join(rects)}</svg><ul class="legend">{"".join(names)}</ul>'
