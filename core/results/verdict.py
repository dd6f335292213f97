"""The emotions of a recording, a channel or a speaker in words, for people.

A mean hides a change of mood, so the words name each emotion's share of the speech time. They say "mixed" if no emotion
has more than half of the time, if another one has the highest mean score, or if the two best mean scores are close
(docs/decisions/0035-mixed-emotions.md). A recording may also be unsure: its mean score is below the threshold of the
user (docs/decisions/0048-unsure.md).
"""

from collections.abc import Mapping, Sequence

from core.formatting import clock, counted, named_values
from core.results import MeanScores, Result, SpeechFigures, Utterance

MIN_MARGIN = 0.1
"""Below it, the best and the second emotion are nearly equally likely, and a phone line may swap them."""
_MIN_MAIN_SHARE = 0.5
_MIN_NAMED_SHARE = 0.1
_MAX_NAMED = 3


def main_emotion(utterances: Sequence[Utterance]) -> str | None:
    """Return the emotion of at least one utterance of one model; None if it is mixed, or if there are dimensions."""
    return _main_emotion(MeanScores.over(utterances))


def _main_emotion(means: MeanScores) -> str | None:
    if means.emotion is None or (means.margin is not None and means.margin < MIN_MARGIN):
        return None
    return means.emotion if (means.shares or {})[means.emotion] > _MIN_MAIN_SHARE else None


def verdict(utterances: Sequence[Utterance]) -> str:
    """Return the emotions of at least one utterance in words, or the mean value of each dimension.

    Several utterances have shares of time: "mostly neutral (62% of the time), anger 21%", "neutral throughout", "mixed
    (neutral 45% of the time, anger 40%)". One has scores: "anger (score 98%)", "mixed (score of anger 41%, sad 38%)".
    """
    means = MeanScores.over(utterances)
    if means.dimensions is not None:
        return named_values(means.dimensions)
    emotion = _main_emotion(means)
    if len(utterances) == 1:
        return _scores_in_words(means, emotion)
    shares = _ranked(means.shares)
    best, best_share = shares[0]
    others = [f"{label} {share:.0%}" for label, share in shares[1:_MAX_NAMED] if share >= _MIN_NAMED_SHARE]
    if emotion and best_share == 1.0:
        return f"{emotion} throughout"
    if emotion:
        return ", ".join([f"mostly {emotion} ({best_share:.0%} of the time)", *others])
    if best != means.emotion:
        others.append(f"but {means.emotion} has the highest mean score")
    elif best_share > _MIN_MAIN_SHARE:
        others.append(f"but {_ranked(means.scores)[1][0]} has nearly the same mean score")
    return f"mixed ({', '.join([f'{best} {best_share:.0%} of the time', *others])})"


def doubt_in_words(result: Result) -> str | None:
    """Return what is unsure, such as "Unsure: the mean score of neutral is 45%, below 60%.", or None."""
    if result.unsure_below is None:
        return None
    parts = []
    if result.unsure and result.score is not None:
        score = f"the mean score of {result.emotion} is {result.score:.0%}"
        parts.append(f"Unsure: {score}, below {result.unsure_below:.0%}.")
    count, whole = sum(part.unsure is not None for part in result.utterances), len(result.utterances)
    if count and whole > 1:
        parts.append(f"The scores of {count:,} of {counted(whole, 'utterance')} are below {result.unsure_below:.0%}.")
    return " ".join(parts) or None


def turns_in_words(figures: SpeechFigures) -> str | None:
    """Return the talk share and turns of one speaker among several: "61% of the speech, 5 turns, the longest 0:12"."""
    if figures.talk_share is None:
        return None
    parts = [
        f"{figures.talk_share:.0%} of the speech",
        counted(figures.turns or 0, "turn"),
        f"the longest {clock(figures.longest_turn_s or 0.0)}",
    ]
    if figures.interruptions is not None:
        parts.append(counted(figures.interruptions, "interruption"))
    return ", ".join(parts)


def conversation_in_words(result: Result) -> str | None:
    """Return the figures of a conversation: "0:12 of silence, 0:03 of overlap, 2 interruptions"."""
    if result.silence_s is None or result.overlap_s is None:
        return None
    interruptions = counted(result.interruptions or 0, "interruption")
    return f"{clock(result.silence_s)} of silence, {clock(result.overlap_s)} of overlap, {interruptions}"


def _scores_in_words(means: MeanScores, emotion: str | None) -> str:
    (best, score), *others = _ranked(means.scores)
    if emotion:
        return f"{emotion} (score {score:.0%})"
    second, second_score = others[0]
    return f"mixed (score of {best} {score:.0%}, {second} {second_score:.0%})"


def _ranked(values: Mapping[str, float] | None) -> list[tuple[str, float]]:
    return sorted((values or {}).items(), key=lambda item: -item[1])
