"""The drain of a backlog as a small SVG: what is left over time, and under each line what held it up."""

from collections.abc import Mapping
from html import escape
from math import log10

from benchmarks.fleet import Drain

_WIDTH, _HEIGHT = 800, 400
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 40, 270, 40
_COLOURS = ("#7a2e2e", "#b5651d", "#2e6b4f", "#2b5c8a", "#5b3f8c")
_MOST_POINTS = 160
_FIRST_S, _LAST_S = 1.0, 1e6
_DECADES = {1: "1 s", 10: "10 s", 100: "100 s", 1e3: "17 min", 1e4: "2.8 h", 1e5: "28 h", 1e6: "12 days"}


def _x(seconds: float) -> float:
    """Logarithmic: the drains differ by a factor of hundreds."""
    share = log10(max(_FIRST_S, seconds) / _FIRST_S) / log10(_LAST_S / _FIRST_S)
    return _LEFT + min(1.0, share) * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _TOP + (1 - share) * (_HEIGHT - _TOP - _BOTTOM)


def picture(drains: Mapping[str, Drain]) -> str:
    """Draw them, one line each."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">What is left of {_count(drains)} recordings, by time</text>',
    ]
    for seconds, label in _DECADES.items():
        x = _x(seconds)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_y(0)}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{_y(0) + 18}" text-anchor="middle">{label}</text>')
    for percent in (0, 25, 50, 75, 100):
        y = _y(percent / 100)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{percent} %</text>')
    for number, (name, drain) in enumerate(drains.items()):
        parts += _line(number, name, drain)
    return "\n".join([*parts, "</svg>", ""])


def _count(drains: Mapping[str, Drain]) -> str:
    return f"{next(iter(drains.values())).count:,}"


def _line(number: int, name: str, drain: Drain) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    points: list[tuple[int, int]] = []
    for at_s, left in drain.left:
        point = (round(_x(at_s)), round(_y(left / drain.count)))
        if not points or point != points[-1]:
            points.append(point)
    step = max(1, len(points) // _MOST_POINTS)
    shown = [*points[:-1:step], points[-1]]
    path = " ".join(f"{x},{y}" for x, y in shown)
    y = _TOP + 20 + 58 * number
    x = _WIDTH - _RIGHT + 18
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>',
        f'<text x="{x + 16}" y="{y}" font-weight="600">{escape(name)}</text>',
        f'<text x="{x + 16}" y="{y + 16}" fill="#444">held up by {escape(drain.longest_bottleneck)}</text>',
    ]
