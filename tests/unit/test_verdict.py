"""The words on emotions name shares of time, and say "mixed" where a single emotion would mislead."""

from collections.abc import Sequence
from typing import Any

import pytest

from core.results import Channel, EmotionScores, MeanScores, Output, Utterance
from core.results.verdict import main_emotion, turns_in_words, verdict

LABELS = ("neutral", "anger", "sad", "fear")


def utterances(*parts: tuple[float, Sequence[float]], output: Output | None = None) -> list[Utterance]:
    """Return utterances from their durations and scores."""
    return [
        Utterance(
            start_s=10.0 * number,
            end_s=10.0 * number + duration_s,
            **dict(EmotionScores.of(dict(zip(LABELS, scores, strict=False)), output)),
        )
        for number, (duration_s, scores) in enumerate(parts)
    ]


NEUTRAL, ANGER, SAD, FEAR = (
    (0.9, 0.1, 0.0, 0.0),
    (0.1, 0.9, 0.0, 0.0),
    (0.1, 0.0, 0.9, 0.0),
    (0.1, 0.0, 0.0, 0.9),
)


@pytest.mark.parametrize(
    ("parts", "words", "main"),
    [
        (
            utterances((6.2, NEUTRAL), (2.1, ANGER), (1.7, SAD)),
            "mostly neutral (62% of the time), anger 21%, sad 17%",
            0,
        ),
        (utterances((6.2, NEUTRAL), (2.9, ANGER), (0.9, SAD)), "mostly neutral (62% of the time), anger 29%", 0),
        (utterances((9.9, NEUTRAL), (0.1, ANGER)), "mostly neutral (99% of the time)", 0),
        (utterances((4.0, ANGER), (2.0, ANGER)), "anger throughout", 1),
        # No emotion has more than half of the time.
        (
            utterances((4.0, ANGER), (2.0, NEUTRAL), (2.0, SAD), (2.0, FEAR)),
            "mixed (anger 40% of the time, neutral 20%, sad 20%)",
            None,
        ),
        # The margin is small: neutral wins by a little each time.
        (
            utterances((4.0, (0.45, 0.4, 0.15, 0.0)), (2.0, (0.44, 0.4, 0.16, 0.0))),
            "mixed (neutral 100% of the time, but anger has nearly the same mean score)",
            None,
        ),
        (
            utterances((5.4, (0.45, 0.3, 0.25, 0.0)), (4.6, (0.34, 0.46, 0.2, 0.0))),
            "mixed (neutral 54% of the time, anger 46%, but anger has nearly the same mean score)",
            None,
        ),
        # A few certain utterances outweigh many uncertain ones.
        (
            utterances((6.0, (0.3, 0.28, 0.22, 0.2)), (4.0, ANGER)),
            "mixed (neutral 60% of the time, anger 40%, but anger has the highest mean score)",
            None,
        ),
        (utterances((2.0, NEUTRAL)), "neutral (score 90%)", 0),
        (utterances((2.0, (0.41, 0.38, 0.2, 0.01))), "mixed (score of neutral 41%, anger 38%)", None),
    ],
)
def test_emotions_in_words(parts: list[Utterance], words: str, main: int | None) -> None:
    assert verdict(parts) == words
    assert main_emotion(parts) == (None if main is None else LABELS[main])


def test_independent_scores_have_the_same_words() -> None:
    parts = utterances((6.0, (1.0, 0.7, 0.0, 0.0)), (4.0, (0.2, 0.6, 0.0, 0.0)), output=Output.SIGMOID)

    assert verdict(parts) == "mixed (neutral 60% of the time, anger 40%, but anger has nearly the same mean score)"


def test_a_model_with_one_label_has_words() -> None:
    assert verdict(utterances((2.0, (0.7,)))) == "neutral (score 70%)"
    assert verdict(utterances((2.0, (0.7,)), (2.0, (0.2,)))) == "neutral throughout"


def test_dimensions_are_means() -> None:
    values = ({"arousal": 0.61, "valence": 0.3}, {"arousal": 0.41, "valence": -0.3})
    parts = [Utterance(start_s=n, end_s=n + 1, dimensions=each) for n, each in enumerate(values)]

    assert verdict(parts) == "arousal 0.51, valence 0.00"
    assert main_emotion(parts) is None


def test_turns_in_words() -> None:
    parts = utterances((4.0, NEUTRAL))
    fields: dict[str, Any] = {**dict(MeanScores.over(parts)), "channel": 0, "speech_s": 4.0, "utterances": tuple(parts)}
    turns: dict[str, Any] = {
        "talk_share": 0.61,
        "turns": 5,
        "longest_turn_s": 12.2,
        "mean_turn_s": 3.0,
        "interruptions": 1,
    }

    assert turns_in_words(Channel(**fields)) is None
    assert turns_in_words(Channel(**fields, **turns)) == "61% of the speech, 5 turns, the longest 0:12, 1 interruption"
