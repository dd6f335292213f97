"""Figures of a conversation, from the times of its utterances alone: they hold even where the model errs.

A lane is one speaker: a channel, or a speaker within a channel. A talkspurt is speech without a pause: utterances that
touch, because the segmenter splits long speech. The definitions are those of research on telephone speech:

- Heldner and Edlund, Pauses, gaps and overlaps in conversations, Journal of Phonetics 38 (2010);
- Yuan, Liberman and Cieri, Towards an integrated understanding of speech overlaps in conversation, ICPhS (2007);
- non-talk time in Amazon Connect Contact Lens: a silence of more than three seconds.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Span = tuple[float, float]
"""Start and end in seconds."""

MAX_PAUSE_S = 3.0
"""A longer silence ends a turn, even if the same speaker goes on: Contact Lens counts it as non-talk time."""
MIN_INTERRUPTION_S = 0.5
"""A shorter overlap is common at the end of a turn, and may come from the padding of utterances."""
_MAX_GAP_S = 0.0015
"""Utterances that touch may be this far apart, because their times are rounded to milliseconds."""


@dataclass(frozen=True)
class LaneFigures:
    """The figures of one speaker among several.

    Attributes
    ----------
    talk_share
        Share of the speech of all lanes, from 0 to 1.
    turns
        Number of turns: talkspurts without speech of others, or more than 3 s of silence, between them.
    longest_turn_s, mean_turn_s
        Durations of turns, with the pauses in them.
    interruptions
        How often this speaker takes over while another speaks; None if lanes cannot overlap.
    """

    talk_share: float
    turns: int
    longest_turn_s: float
    mean_turn_s: float
    interruptions: int | None


@dataclass(frozen=True)
class ConversationFigures:
    """The figures of a recording.

    Attributes
    ----------
    silence_s
        Time in which nobody speaks.
    overlap_s, interruptions
        Time in which several lanes speak at once, and interruptions of all lanes; None if lanes cannot overlap, or if
        there is one lane only, because its times do not tell how many people speak.
    lanes
        Figures of each lane; None if there is one lane only.
    """

    silence_s: float
    overlap_s: float | None
    interruptions: int | None
    lanes: tuple[LaneFigures | None, ...]


def conversation_figures(
    lanes: Sequence[Iterable[Span]], duration_s: float, *, can_overlap: bool = True
) -> ConversationFigures:
    """Return the figures of a recording from the times of its utterances.

    Parameters
    ----------
    lanes
        The utterances of each speaker. Each lane has at least one.
    duration_s
        Duration of the recording.
    can_overlap
        Whether each lane has a channel of its own. Speakers who share a channel cannot be told apart while both speak.
    """
    spurts = [_talkspurts(lane) for lane in lanes]
    speech = _union(span for lane in spurts for span in lane)
    silence_s = max(0.0, duration_s - _total_s(speech))
    if len(spurts) < 2:  # noqa: PLR2004 (a conversation needs two)
        return ConversationFigures(silence_s, None, None, (None,) * len(spurts))
    talk_s = sum(map(_total_s, spurts))
    interruptions = _interruptions(spurts)
    turns = [_turns(lane, speech) for lane in spurts]
    return ConversationFigures(
        silence_s,
        _overlap_s(spurts) if can_overlap else None,
        sum(interruptions) if can_overlap else None,
        tuple(
            LaneFigures(
                talk_share=_total_s(lane) / talk_s,
                turns=len(own),
                longest_turn_s=max(end_s - start_s for start_s, end_s in own),
                mean_turn_s=_total_s(own) / len(own),
                interruptions=count if can_overlap else None,
            )
            for lane, own, count in zip(spurts, turns, interruptions, strict=True)
        ),
    )


def _total_s(spans: Iterable[Span]) -> float:
    return sum(end_s - start_s for start_s, end_s in spans)


def _union(spans: Iterable[Span], max_gap_s: float = 0.0) -> list[Span]:
    """Return the time that the spans cover, in order; gaps up to `max_gap_s` are covered too."""
    covered: list[Span] = []
    for start_s, end_s in sorted(spans):
        if covered and start_s <= covered[-1][1] + max_gap_s:
            covered[-1] = (covered[-1][0], max(covered[-1][1], end_s))
        else:
            covered.append((start_s, end_s))
    return covered


def _talkspurts(utterances: Iterable[Span]) -> list[Span]:
    return _union(utterances, _MAX_GAP_S)


def _overlap_s(lanes: Sequence[Sequence[Span]]) -> float:
    """Return the time in which at least two lanes speak."""
    changes = sorted((at_s, step) for lane in lanes for span in lane for at_s, step in zip(span, (1, -1), strict=True))
    overlap_s, speaking, since_s = 0.0, 0, 0.0
    for at_s, step in changes:
        if speaking > 1:
            overlap_s += at_s - since_s
        speaking, since_s = speaking + step, at_s
    return overlap_s


def _turns(lane: Sequence[Span], speech: Sequence[Span]) -> list[Span]:
    """Return the turns of a lane.

    Parameters
    ----------
    speech
        The time in which any lane speaks. In a pause of this lane, it is the speech of others.
    """
    starts = [start_s for start_s, _ in speech]
    turns = [lane[0]]
    for start_s, end_s in lane[1:]:
        pause_from_s = turns[-1][1]
        following = bisect_right(starts, pause_from_s)
        is_quiet = speech[following - 1][1] <= pause_from_s and starts[following] >= start_s
        if is_quiet and start_s - pause_from_s <= MAX_PAUSE_S:
            turns[-1] = (turns[-1][0], end_s)
        else:
            turns.append((start_s, end_s))
    return turns


def _interruptions(lanes: Sequence[Sequence[Span]]) -> list[int]:
    """Return how often each lane interrupts another.

    A speaker interrupts if another has spoken for 0.5 s, both go on together for 0.5 s, and the other stops first. If
    the interrupter stops first, it is a backchannel such as "mhm". If both begin at once, neither interrupts.
    """
    counts = [0] * len(lanes)
    latest: list[Span | None] = [None] * len(lanes)
    for start_s, end_s, lane in sorted((*span, number) for number, spans in enumerate(lanes) for span in spans):
        counts[lane] += any(
            other[0] + MIN_INTERRUPTION_S <= start_s <= other[1] - MIN_INTERRUPTION_S and other[1] < end_s
            for number, other in enumerate(latest)
            if other and number != lane
        )
        latest[lane] = (start_s, end_s)
    return counts
