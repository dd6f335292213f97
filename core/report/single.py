"""The only utterance of a recording: its scores as plain bars, because there is nothing to compare over time."""

from collections.abc import Iterator, Mapping

from core.formatting import clock
from core.report.dimensions import Axis
from core.report.lanes import Lane
from core.report.looks import PLAIN, Looks, swatch, text
from core.results import Utterance


def single_utterance(lane: Lane, looks: Looks, axes: Mapping[str, Axis], *, has_sound: bool) -> Iterator[str]:
    """Yield a bar for each label, highest score first, or for each dimension."""
    (part,) = lane.utterances
    yield f'<section aria-labelledby="when"><h2 id="when">{"Values" if axes else "Scores of all labels"}</h2>'
    times = f"{clock(part.start_s)} to {clock(part.end_s)}"
    if has_sound:
        yield (
            f'<p><button type="button" class="moment" data-utterance="{lane.key}-0" '
            f'aria-label="Play {times}"><span class="play" aria-hidden="true">\N{BLACK RIGHT-POINTING TRIANGLE}</span>'
            f"{times}</button></p>"
        )
    else:
        yield f'<p class="facts">One utterance, {times}</p>'
    yield f'<ul class="plain-bars">{"".join(_bars(part, looks, axes))}</ul></section>'


def _bars(part: Utterance, looks: Looks, axes: Mapping[str, Axis]) -> Iterator[str]:
    for name, value in part.values.items() if axes else sorted(part.values.items(), key=lambda item: -item[1]):
        look = PLAIN if axes else looks[name]
        axis = axes.get(name)
        width = (value - axis.low) / (axis.high - axis.low) if axis else value
        number = f"{value:.2f}" if axis else f"{value:.0%}"
        yield (
            f'<li><span class="label">{"" if axes else swatch(look)}{text(name)}</span>'
            f'<svg class="{look.style}" aria-hidden="true"><rect class="bar" width="{width * 100:.1f}%" height="100%"/>'
            f"</svg><b>{number}</b></li>"
        )
