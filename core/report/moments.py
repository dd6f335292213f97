"""The moments of a speaker: where to listen first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.emotions import standard_name
from core.formatting import clock
from core.report.lanes import Lane
from core.report.looks import Looks, swatch, text
from core.results import Utterance
from core.results.metrics import MAX_PAUSE_S

_NO_EMOTION = frozenset(("neutral", "other", "unknown"))
_LONG_S = 6.0
"""A stretch as long as the longest utterance counts fully, so that a short cry does not outrank a long one."""
_MAX_MOMENTS, _MAX_MOMENTS_OF_MANY, _MANY_LANES = 5, 3, 3


@dataclass(frozen=True)
class Moment:
    """A stretch of speech.

    Attributes
    ----------
    index
        Number of its first utterance in the lane.
    name
        The emotion, or the dimension whose highest or lowest value this is.
    emotion
        The emotion; None for dimensions.
    value
        The mean score, from 0 to 1, or the value of the dimension.
    """

    index: int
    start_s: float
    end_s: float
    name: str
    emotion: str | None
    value: float

    @property
    def strength(self) -> float:
        """The measure by which stretches of emotions are ranked."""
        return self.value * min(1.0, (self.end_s - self.start_s) / _LONG_S)

    @property
    def words(self) -> str:
        """The name and the value: "anger 94%"."""
        return f"{self.name} {self.value:.0%}" if self.emotion else f"{self.name} {self.value:.2f}"


def moments_of(lane: Lane, lanes: int) -> list[Moment]:
    """Return the strongest stretches of a lane, strongest first.

    Parameters
    ----------
    lanes
        The number of lanes: with many, each has fewer moments.
    """
    parts = lane.utterances
    if parts[0].dimensions is not None:
        return _extremes(parts, list(parts[0].dimensions))
    stretches = (_moment(parts, first, last) for first, last in _stretches(parts))
    most = _MAX_MOMENTS if lanes < _MANY_LANES else _MAX_MOMENTS_OF_MANY
    return sorted(stretches, key=lambda moment: -moment.strength)[:most]


def is_emotion(label: str) -> bool:
    """Return whether a label names an emotion other than neutral."""
    return standard_name(label) not in _NO_EMOTION


def _stretches(parts: Sequence[Utterance]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of utterances with one emotion and without a long silence between them."""
    first = 0
    for index, part in enumerate(parts):
        following = parts[index + 1] if index + 1 < len(parts) else None
        if following and following.emotion == part.emotion and following.start_s - part.end_s <= MAX_PAUSE_S:
            continue
        if is_emotion(part.best[0]):
            yield first, index
        first = index + 1


def _moment(parts: Sequence[Utterance], first: int, last: int) -> Moment:
    stretch = parts[first : last + 1]
    seconds = sum(part.duration_s for part in stretch) or 1.0
    score = sum(part.best[1] * part.duration_s for part in stretch) / seconds
    emotion = stretch[0].best[0]
    return Moment(first, stretch[0].start_s, stretch[-1].end_s, emotion, emotion, score)


def _extremes(parts: Sequence[Utterance], dimensions: Sequence[str]) -> list[Moment]:
    """Return the utterances with the highest and the lowest value of each dimension, among several utterances."""
    found: list[Moment] = []
    if len(parts) == 1:
        return found
    for name in dimensions:
        order = sorted(range(len(parts)), key=lambda index: parts[index].values[name])
        for words, index in (("highest", order[-1]), ("lowest", order[0])):
            part = parts[index]
            found.append(Moment(index, part.start_s, part.end_s, f"{words} {name}", None, part.values[name]))
    return found


def buttons(lane: Lane, moments: Sequence[Moment], looks: Looks, *, has_sound: bool) -> str:
    """Return a list of the moments by time, with buttons that play the moment, or show it if there is no sound."""
    verb = "Play" if has_sound else "Show"
    icon = '<span class="play" aria-hidden="true">\N{BLACK RIGHT-POINTING TRIANGLE}</span>' if has_sound else ""
    items = (
        f'<li><button type="button" class="moment" data-utterance="{lane.key}-{each.index}">{icon}'
        f'<span class="unseen">{verb} </span><b>{clock(each.start_s)}</b> {_swatch(each, looks)}{text(each.words)}'
        "</button></li>"
        for each in sorted(moments, key=lambda moment: moment.start_s)
    )
    return f'<ul class="moments">{"".join(items)}</ul>'


def _swatch(moment: Moment, looks: Looks) -> str:
    return f'<span aria-hidden="true">{swatch(looks[moment.emotion])}</span>' if moment.emotion else ""
