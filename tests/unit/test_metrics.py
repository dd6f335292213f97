"""The figures of a conversation follow from the times of its utterances."""

import random
from collections.abc import Sequence

import pytest

from core.results.metrics import ConversationFigures, LaneFigures, Span, conversation_figures


def lane_of(figures: ConversationFigures, number: int) -> LaneFigures:
    lane = figures.lanes[number]
    assert lane is not None
    return lane


def test_two_speakers_who_take_turns() -> None:
    agent, customer = [(1.0, 4.0), (5.0, 7.0), (12.0, 14.0)], [(8.0, 11.0)]

    figures = conversation_figures([agent, customer], 20.0)

    assert figures.silence_s == pytest.approx(10.0)
    assert (figures.overlap_s, figures.interruptions) == (0.0, 0)
    # The pause from 4 to 5 is part of the first turn.
    assert lane_of(figures, 0) == LaneFigures(
        talk_share=0.7, turns=2, longest_turn_s=6.0, mean_turn_s=4.0, interruptions=0
    )
    assert lane_of(figures, 1) == LaneFigures(
        talk_share=0.3, turns=1, longest_turn_s=3.0, mean_turn_s=3.0, interruptions=0
    )


def test_one_lane_has_silence_only() -> None:
    """Its times do not tell how many people speak."""
    assert conversation_figures([[(1.0, 2.0), (3.0, 4.5)]], 5.0) == ConversationFigures(2.5, None, None, (None,))


def test_nobody_speaks() -> None:
    assert conversation_figures([], 3.0) == ConversationFigures(3.0, None, None, ())


def test_overlap_counts_once_for_any_number_of_speakers() -> None:
    figures = conversation_figures([[(0.0, 10.0)], [(2.0, 5.0)], [(4.0, 6.0)]], 10.0)

    assert figures.overlap_s == pytest.approx(4.0)
    assert figures.silence_s == 0.0
    assert sum(lane_of(figures, number).talk_share for number in range(3)) == pytest.approx(1.0)


def test_a_long_silence_ends_a_turn() -> None:
    def turns(silence_s: float) -> int:
        figures = conversation_figures([[(0.0, 5.0), (5.0 + silence_s, 20.0)], [(30.0, 31.0)]], 31.0)
        return lane_of(figures, 0).turns

    assert (turns(3.0), turns(3.1)) == (1, 2)


@pytest.mark.parametrize(
    ("other", "turns"),
    [
        ((5.2, 5.8), 2),  # in the pause
        ((4.0, 5.5), 2),  # from the speech into the pause
        ((5.5, 6.5), 2),  # from the pause into the speech
        ((1.0, 2.0), 1),  # a backchannel
        ((4.0, 5.0), 1),  # until the pause
        ((6.0, 7.0), 1),  # from the end of the pause
    ],
)
def test_speech_of_another_in_a_pause_ends_the_turn(other: Span, turns: int) -> None:
    assert lane_of(conversation_figures([[(0.0, 5.0), (6.0, 10.0)], [other]], 10.0), 0).turns == turns


def test_speech_that_the_segmenter_split_is_one_talkspurt() -> None:
    """The other speaks at the split, but not in a pause."""
    split = [(0.0, 5.5), (5.5, 11.001), (11.0, 12.0)]

    figures = conversation_figures([split, [(5.0, 6.0)]], 12.0)

    assert lane_of(figures, 0) == LaneFigures(
        talk_share=12 / 13, turns=1, longest_turn_s=12.0, mean_turn_s=12.0, interruptions=0
    )


@pytest.mark.parametrize(
    ("first", "second", "interruptions"),
    [
        ((0.0, 5.0), (4.0, 8.0), (0, 1)),  # takes over
        ((0.0, 5.0), (4.6, 8.0), (0, 0)),  # the usual overlap at the end of a turn
        ((0.0, 5.0), (2.0, 4.0), (0, 0)),  # a backchannel
        ((0.0, 5.0), (2.0, 5.0), (0, 0)),  # both stop at once
        ((0.0, 5.0), (0.3, 8.0), (0, 0)),  # both begin at once
        ((0.0, 5.0), (0.5, 5.5), (0, 1)),
        ((4.0, 8.0), (0.0, 5.0), (1, 0)),
        ((0.0, 5.0), (5.0, 8.0), (0, 0)),
    ],
)
def test_an_interruption_takes_over(first: Span, second: Span, interruptions: tuple[int, int]) -> None:
    figures = conversation_figures([[first], [second]], 10.0)

    assert tuple(lane_of(figures, number).interruptions for number in (0, 1)) == interruptions
    assert figures.interruptions == sum(interruptions)


def test_an_interruption_of_two_speakers_counts_once() -> None:
    figures = conversation_figures([[(0.0, 5.0)], [(1.0, 6.0)], [(4.0, 9.0)]], 10.0)

    assert [lane_of(figures, number).interruptions for number in range(3)] == [0, 1, 1]
    assert figures.interruptions == 2


def test_the_figures_of_many_channels_equal_those_of_a_simple_count() -> None:
    """The simple count looks at each 10 ms of 16 channels."""
    rng = random.Random(7)
    lanes = [_random_lane(rng, 12_000) for _ in range(16)]
    speakers = [sum(start <= at < end for lane in lanes for start, end in lane) for at in range(12_000)]

    figures = conversation_figures([_seconds(lane) for lane in lanes], 120.0)

    assert figures.silence_s == pytest.approx(speakers.count(0) / 100)
    assert figures.overlap_s == pytest.approx(sum(count > 1 for count in speakers) / 100)
    for number, lane in enumerate(lanes):
        own = lane_of(figures, number)
        assert own.talk_share == pytest.approx(sum(end - start for start, end in lane) / sum(speakers))
        turns = _turns(lane, speakers)
        assert own.turns == len(turns)
        assert own.longest_turn_s == pytest.approx(max(end - start for start, end in turns) / 100)
        assert own.mean_turn_s == pytest.approx(sum(end - start for start, end in turns) / len(turns) / 100)


def _random_lane(rng: random.Random, duration: int) -> list[tuple[int, int]]:
    lane, at = [], rng.randrange(3000)
    while at < duration - 600:
        end = at + rng.randrange(50, 600)
        lane.append((at, end))
        at = end + rng.choice((30, 100, 290, 310, 6000))
    return lane


def _seconds(lane: Sequence[tuple[int, int]]) -> list[Span]:
    return [(start / 100, end / 100) for start, end in lane]


def _turns(lane: Sequence[tuple[int, int]], speakers: Sequence[int]) -> list[tuple[int, int]]:
    turns = [lane[0]]
    for start, end in lane[1:]:
        pause = range(turns[-1][1], start)
        if len(pause) <= 300 and not any(speakers[at] for at in pause):
            turns[-1] = (turns[-1][0], end)
        else:
            turns.append((start, end))
    return turns
