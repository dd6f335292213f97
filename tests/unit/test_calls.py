"""The metrics of calls: missed speech and speech of the other side do not count as correct."""

from pathlib import Path

import numpy as np

from core.audio.utterances import SpeechSegment
from core.model.classifier import Scores
from tests.support.calls import Call, Clip, Turn, correct_turns

ANGRY: Scores = {"anger": 0.8, "sad": 0.2}
SAD: Scores = {"anger": 0.2, "sad": 0.8}
SILENCE = np.zeros(160_000, np.float32)
CLIP = Clip(Path("a.wav"), "speaker", "angry", SILENCE, (0.0, 2.0))
CALL = Call(np.stack([SILENCE, SILENCE]), (Turn(CLIP, 0, 1.0, 3.0),))


def segment(start_s: float, end_s: float, channel: int = 0) -> SpeechSegment:
    return SpeechSegment((channel,), start_s, end_s, SILENCE)


def test_a_turn_counts_as_the_emotion_classified_for_the_longest_time() -> None:
    assert correct_turns(CALL, [(segment(0.5, 2.5), ANGRY), (segment(2.5, 9.0), SAD)]) == [True]
    assert correct_turns(CALL, [(segment(0.5, 1.5), ANGRY), (segment(1.5, 3.0), SAD)]) == [False]


def test_a_missed_turn_is_wrong_for_any_first_label() -> None:
    assert correct_turns(CALL, []) == [False]
    assert correct_turns(CALL, [(segment(5.0, 7.0), ANGRY)]) == [False]
    assert correct_turns(CALL, [(segment(1.0, 3.0, channel=1), ANGRY)]) == [False]
