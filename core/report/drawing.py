"""The drawings of the page, as SVG and HTML. Lengths along the time axis are percentages."""

from collections.abc import Mapping, Sequence
from html import escape

from core.emotions import letter_of
from core.results import Channel
from core.results import Utterance as Part
from core.text import clock

_WIDTH = 1000.0
_LANE_HEIGHT = 44
_ROW_HEIGHT = 20
_BAR_HEIGHT = 17
_NARROWEST = 0.2
_ROOM_FOR_A_LETTER = 1.4
_ROOM_ON_A_PHONE = 4.0
_MOST_TICKS = 8
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


def legend(labels: Sequence[str], numbers: Mapping[str, int]) -> str:
    """What colours and letters mean."""
    items = [f'<li><i class="swatch e{numbers[label]}">{_letter(label)}</i>{escape(label)}</li>' for label in labels]
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
    """Each emotion's score over time, in a row of its own: as high as the score is, for as long as the utterance is.

    Rows, since lines of six and more colours in one frame cannot be told apart where most of them are near zero.
    """
    height = _ROW_HEIGHT * len(labels)
    rows, names = [], []
    for number, label in enumerate(labels):
        floor = _ROW_HEIGHT * (number + 1) - 1
        path = _path(channel.utterances, label, duration_s, floor)
        rows.append(
            f'<line class="grid" x1="0" x2="1000" y1="{floor}" y2="{floor}"/>'
            f'<path class="curve e{numbers[label]}" d="{path}"/>'
        )
        names.append(f"<li><b>{_letter(label)}</b><span>{escape(label)}</span></li>")
    return (
        f'<div class="scores"><ul class="names" aria-hidden="true">{"".join(names)}</ul>'
        f'<svg class="curves" viewBox="0 0 1000 {height}" height="{height}" preserveAspectRatio="none" role="img" '
        f'data-channel="{channel.channel}" aria-label="Scores of channel {channel.channel} over time, a row for each '
        f'emotion; the table has the numbers">{"".join(rows)}</svg></div>'
    )


def _path(parts: Sequence[Part], label: str, duration_s: float, floor: int) -> str:
    boxes = []
    for part in parts:
        start, end = (at_s / duration_s * _WIDTH for at_s in (part.start_s, part.end_s))
        end = max(end, start + _NARROWEST * _WIDTH / 100)
        top = floor - part.scores.get(label, 0.0) * _BAR_HEIGHT
        boxes.append(f"M{start:.1f} {floor}V{top:.1f}H{end:.1f}V{floor}Z")
    return "".join(boxes)


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
