"""The charts of dimensions such as arousal: a row for each, with its axis, and a table of means."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.report.lanes import Lane
from core.report.looks import text
from core.results import Channel, MeanScores

_ROW_HEIGHT = 64
_MARGIN = 8
_MIN_TICK_PX = 14.0


@dataclass(frozen=True)
class Axis:
    """The vertical axis of a dimension, in all channels.

    Attributes
    ----------
    low, high
        Its ends, which cover all values and the model's range.
    ticks
        The values with a line and a number: the model's range, or the ends where the range is too narrow.
    """

    low: float
    high: float
    ticks: tuple[float, float]

    @classmethod
    def of(cls, values: Sequence[float], model_range: tuple[float, float] | None) -> "Axis":
        """Return the axis for the values of a dimension."""
        low, high = min((*values, *(model_range or ()))), max((*values, *(model_range or ())))
        if low == high:
            low, high = low - 0.5, high + 0.5
        axis = cls(low, high, model_range or (low, high))
        is_readable = axis.y(axis.ticks[0]) - axis.y(axis.ticks[1]) >= _MIN_TICK_PX
        return axis if is_readable else cls(low, high, (low, high))

    def y(self, value: float) -> float:
        """Return the distance of a value from the top of its row in pixels."""
        return _MARGIN + (self.high - value) / (self.high - self.low) * (_ROW_HEIGHT - 2 * _MARGIN)


def axes_of(
    lanes: Sequence[Lane], dimensions: Sequence[str], model_range: tuple[float, float] | None
) -> dict[str, Axis]:
    """Return the axis of each dimension."""
    parts = [part for lane in lanes for part in lane.utterances]
    return {name: Axis.of([part.values[name] for part in parts], model_range) for name in dimensions}


def axis_names(axes: Mapping[str, Axis]) -> str:
    """Return the names and numbers of the axes, which stay visible when the chart scrolls."""
    items = (f"<li><span>{text(name)}</span>{_numbers(axis)}</li>" for name, axis in axes.items())
    return f'<ul class="names axes" aria-hidden="true">{"".join(items)}</ul>'


def _numbers(axis: Axis) -> str:
    numbers = (f'<text x="100%" y="{axis.y(tick) + 4:.1f}">{tick:.3g}</text>' for tick in axis.ticks)
    return f'<svg class="scale" height="{_ROW_HEIGHT}">{"".join(numbers)}</svg>'


def lines(channel: Channel, name: str, duration_s: float, axes: Mapping[str, Axis]) -> str:
    """Return a row for each dimension: a thick line for each utterance, and thin lines between them."""
    rows = "".join(_row(channel, name, axis, number, duration_s) for number, (name, axis) in enumerate(axes.items()))
    height = _ROW_HEIGHT * len(axes)
    return (
        f'<svg class="curves lines" viewBox="0 0 {duration_s} {height}" height="{height}" preserveAspectRatio="none" '
        f'role="img" aria-label="Values of {text(name)} over time, one row for each dimension. The table '
        f'below has the numbers.">{rows}</svg>'
    )


def _row(channel: Channel, name: str, axis: Axis, number: int, duration_s: float) -> str:
    top = _ROW_HEIGHT * number
    grid = "".join(
        f'<line class="grid" x1="0" x2="{duration_s}" y1="{top + axis.y(tick):.1f}" y2="{top + axis.y(tick):.1f}"/>'
        for tick in axis.ticks
    )
    points = [(part.start_s, part.end_s, top + axis.y(part.values[name])) for part in channel.utterances]
    between = "M" + "L".join(f"{start_s:.2f} {y:.1f}H{end_s:.2f}" for start_s, end_s, y in points)
    spoken = "".join(f"M{start_s:.2f} {y:.1f}H{end_s:.2f}" for start_s, end_s, y in points)
    return f'{grid}<path class="between" d="{between}"/><path class="line" d="{spoken}"/>'


def mean_table(rows: Sequence[tuple[str, MeanScores]], dimensions: Sequence[str]) -> Iterator[str]:
    """Yield a table with the mean, the lowest and the highest value of each dimension in each channel."""
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Table of means"><table class="means"><thead><tr>'
    yield '<th scope="col" class="name">Channel</th>'
    yield '<th scope="col" class="name">Dimension</th>'
    yield "".join(f'<th scope="col">{name}</th>' for name in ("Mean", "Lowest", "Highest")) + "</tr></thead><tbody>"
    for channel, means in rows:
        for name in dimensions:
            values = (means.dimensions, means.dimensions_min, means.dimensions_max)
            cells = "".join(f"<td>{each[name]:.2f}</td>" for each in values if each)
            yield f'<tr><td class="name">{text(channel)}</td><td class="name">{text(name)}</td>{cells}</tr>'
    yield "</tbody></table></div>"
