"""The overview: a strip for each speaker over the whole recording, as wide as the page.

It needs no script. The page's script adds the window that shows which part the lanes below enlarge.
"""

from collections.abc import Iterator, Sequence

from core.formatting import clock
from core.report.lanes import Lane
from core.report.looks import PLAIN, Looks, text
from core.report.moments import Moment, is_emotion
from core.results import Utterance

_MAX_TICKS = 7
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_EDGE = 0.05
"""A time nearer to an edge, as a share of the width, is written beside its tick instead of centred below it."""


def overview(
    lanes: Sequence[Lane], moments: Sequence[Sequence[Moment]], duration_s: float, looks: Looks
) -> Iterator[str]:
    """Yield the strips and their time axis."""
    yield '<div class="overview"><div class="strips" id="strips"><div class="window" id="window" hidden></div>'
    yield '<div class="cursor" id="overview-cursor" hidden></div>'
    for lane, own in zip(lanes, moments, strict=True):
        yield f'<div class="strip"><span class="who">{text(lane.name)}</span>{_marks(own, duration_s)}'
        yield _strip(lane, duration_s, looks) + "</div>"
    yield f"</div>{time_axis(duration_s)}</div>"


def _strip(lane: Lane, duration_s: float, looks: Looks) -> str:
    boxes: dict[str, list[str]] = {}
    # Neutral speech is drawn first, so that it does not hide the others where a pixel stands for seconds.
    for part in sorted(lane.utterances, key=lambda part: part.emotion is not None and is_emotion(part.emotion)):
        look = looks[part.emotion] if part.emotion else PLAIN
        boxes.setdefault(look.style, []).append(_box(part))
    paths = "".join(f'<path class="bar {style}" d="{"".join(own)}"/>' for style, own in boxes.items())
    return (
        f'<svg viewBox="0 0 {duration_s} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{text(lane.name)} over the whole recording">{paths}</svg>'
    )


def _box(part: Utterance) -> str:
    return f"M{part.start_s:.2f} 0H{part.end_s:.2f}V1H{part.start_s:.2f}Z"


def _marks(moments: Sequence[Moment], duration_s: float) -> str:
    """Return a mark above the strip at each moment."""
    marks = (
        f'<text x="{each.start_s / duration_s * 100:.3f}%" y="10">\N{BLACK DOWN-POINTING TRIANGLE}</text>'
        for each in moments
        if each.emotion
    )
    return f'<svg class="marks" aria-hidden="true">{"".join(marks)}</svg>'


def time_axis(duration_s: float) -> str:
    """Return the time axis of the whole recording, with few enough times for a phone."""
    step_s = next((step for step in _STEPS_S if duration_s / step <= _MAX_TICKS), _STEPS_S[-1])
    ticks = range(0, int(duration_s) + 1, step_s)
    # The page's policy forbids style attributes.
    marks = "".join(
        f'<line x1="{at / duration_s * 100:.4f}%" x2="{at / duration_s * 100:.4f}%" y1="0" y2="5"/>' for at in ticks
    )
    times = "".join(_tick_name(at, duration_s) for at in ticks)
    return f'<svg class="axis" aria-hidden="true">{marks}{times}</svg>'


def _tick_name(at_s: int, duration_s: float) -> str:
    place = at_s / duration_s
    anchor = "start" if place < _EDGE else "end" if place > 1 - _EDGE else "middle"
    return f'<text x="{place * 100:.4f}%" y="18" text-anchor="{anchor}">{clock(at_s)}</text>'
