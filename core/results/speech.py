"""The parts of a result about speech: scores of utterances, and the means and figures of channels and speakers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from core.results.fields import Output, Part, Probability, Seconds, Value, six_digits
from core.results.metrics import LaneFigures

UNSURE_DESCRIPTION = "Present if `score` is below the recording's `unsure_below`. The emotion is then the best guess."


class EmotionScores(Part):
    """The output of the model: a score for each emotion, or a value for each dimension."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["emotion", "score", "scores"]}, {"required": ["dimensions"]}]}
    )

    emotion: str | None = Field(
        default=None, description="The emotion with the highest score; absent if there are `dimensions`."
    )
    score: Probability | None = Field(default=None, description="The score of that emotion.")
    scores: dict[str, Probability] | None = Field(
        default=None, description="A probability for each label of the model. They sum to 1 unless `output` is present."
    )
    dimensions: dict[str, Value] | None = Field(
        default=None, description="A value for each dimension of the model, which can exceed `dimensions_range`."
    )
    unsure: Literal[True] | None = Field(default=None, description=UNSURE_DESCRIPTION)

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        scored = [self.emotion is not None, self.score is not None, self.scores is not None]
        if any(scored) != all(scored) or all(scored) == (self.dimensions is not None):
            raise ValueError("either emotion, score and scores, or dimensions")
        return self

    @classmethod
    def of(cls, values: Mapping[str, float], output: Output | None = None) -> "EmotionScores":
        """Return the scores with the highest of them, or the values of a linear output."""
        if output is Output.LINEAR:
            return EmotionScores(dimensions=dict(values))
        emotion = max(values, key=lambda label: values[label])
        return EmotionScores(emotion=emotion, score=values[emotion], scores=dict(values))

    @property
    def values(self) -> Mapping[str, float]:
        """The score of each emotion, or the value of each dimension."""
        return self.scores or self.dimensions or {}

    @property
    def best(self) -> tuple[str, float]:
        """The emotion with the highest score, and the score. Not for values of dimensions."""
        assert self.emotion is not None
        assert self.score is not None
        return self.emotion, self.score

    def marked(self, unsure_below: float, **others: Any) -> Self:
        """Return a copy whose flag `unsure` follows from the score, with other fields replaced too."""
        is_unsure = self.score is not None and self.score < unsure_below
        return self.model_copy(update={"unsure": True if is_unsure else None, **others})


class Utterance(EmotionScores):
    """A stretch of speech of at most six seconds."""

    start_s: Seconds = Field(
        description="Start of the utterance as a player shows it, from the start of the file. Late starts of the audio "
        "and gaps without packets count."
    )
    end_s: Seconds = Field(description="End of the utterance, from the recording's start.")
    speaker: int | None = Field(
        default=None,
        ge=0,
        description=(
            "Number of the speaker within the channel, from 0, in the order in which they first speak; present if "
            "`speakers` has several. It says nothing about the speakers of other recordings."
        ),
    )

    @property
    def duration_s(self) -> float:
        """Duration of the utterance in seconds."""
        return self.end_s - self.start_s

    @property
    def indicator(self) -> Mapping[str, float]:
        """1 for the emotion, and 0 for each other label: the mean over utterances is the distribution of emotions."""
        return {label: float(label == self.emotion) for label in self.values}


SHARES_DESCRIPTION = (
    "Share of the speech time that each label has as an utterance's emotion, from 0 to 1. They sum to 1."
)
MARGIN_DESCRIPTION = "The highest mean score minus the second highest: the smaller, the less certain is the emotion."


class MeanScores(EmotionScores):
    """The means of the scores or values of several utterances, weighted by duration, and the mix of their emotions."""

    margin: Probability | None = Field(default=None, description=MARGIN_DESCRIPTION)
    shares: dict[str, Probability] | None = Field(default=None, description=SHARES_DESCRIPTION)
    dimensions_min: dict[str, Value] | None = Field(
        default=None, description="The lowest value of each dimension in an utterance."
    )
    dimensions_max: dict[str, Value] | None = Field(
        default=None, description="The highest value of each dimension in an utterance."
    )

    @classmethod
    def over(cls, utterances: Sequence[Utterance]) -> "MeanScores":
        """Return the means over at least one utterance of one model."""
        means = mean_values((part.values, part.duration_s) for part in utterances)
        if utterances[0].dimensions is None:
            best = sorted(means.values(), reverse=True)
            return MeanScores(
                **dict(EmotionScores.of(means)),
                margin=best[0] - best[1] if len(best) > 1 else None,
                shares=mean_values((part.indicator, part.duration_s) for part in utterances),
            )
        return MeanScores(
            dimensions=means,
            dimensions_min={name: min(part.values[name] for part in utterances) for name in means},
            dimensions_max={name: max(part.values[name] for part in utterances) for name in means},
        )


class SpeechFigures(MeanScores):
    """The mean scores of one speaker, and the figures of the speaker's turns.

    The figures of turns come from the times of the utterances alone (`core.results.metrics`). They are absent if the
    recording has one channel or speaker with speech, because its times do not tell how many people speak.
    """

    speech_s: Seconds = Field(description="Total duration of the utterances: talk time.")
    talk_share: Probability | None = Field(
        default=None, description="Share of the total speech of all channels or speakers, from 0 to 1."
    )
    turns: int | None = Field(
        default=None,
        description=(
            "Number of turns: utterances with neither speech of others nor more than 3 s of silence between them. "
            "Heldner and Edlund (2010) call the silence within a turn a pause, and between speakers a gap. Amazon "
            "Connect counts silence of more than 3 s as non-talk time."
        ),
    )
    longest_turn_s: Seconds | None = Field(default=None, description="Duration of the longest turn, with its pauses.")
    mean_turn_s: Seconds | None = Field(default=None, description="Mean duration of the turns, with their pauses.")
    interruptions: int | None = Field(default=None, description="How often this channel or speaker interrupts another.")


class Voices(Part):
    """Whether two speakers were separated on a channel."""

    requested: Literal["2", "auto"] = Field(
        description="The setting: `2` always separates two speakers, `auto` only if the voices clearly differ."
    )
    found: Literal[1, 2] | None = Field(
        default=None,
        description=(
            "2: `speakers` has two. 1: the channel was not split, because `auto` was not sure or there are too few "
            "utterances. Absent: there was no time left to compare the voices."
        ),
    )
    similarity: Annotated[float, Field(ge=-1.0, le=1.0), BeforeValidator(six_digits)] | None = Field(
        default=None,
        description="Cosine between the mean embeddings of the two best groups of utterances; lower is further apart.",
    )


class Speaker(SpeechFigures):
    """One speaker of a channel. The scores are the means of the speaker's utterances, weighted by duration."""

    speaker: int = Field(ge=0, description="Number of the speaker within the channel, from 0.")


class Channel(SpeechFigures):
    """One channel with speech. Its scores are the means of its utterances' scores, weighted by duration."""

    channel: int = Field(description="Number of the channel, from 0; of mixed channels, the first.")
    track: int | None = Field(
        default=None, description="Number of the channel's audio track, from 0; absent if there is only one track."
    )
    mixed: tuple[int, ...] | None = Field(
        default=None, description="Numbers of the channels that were mixed because they carry the same speech."
    )
    voices: Voices | None = Field(
        default=None,
        description="Present if speakers were requested and the channel is the only one or was mixed.",
    )
    speakers: tuple[Speaker, ...] | None = Field(
        default=None, description="The speakers who share the channel, if two were separated."
    )
    utterances: tuple[Utterance, ...] = Field(description="The channel's utterances, in order of time.")

    def marked(self, unsure_below: float, **others: Any) -> Self:
        """Return a copy whose flags follow from the scores of the channel, its speakers and its utterances."""
        parts: dict[str, Any] = {"utterances": tuple(part.marked(unsure_below) for part in self.utterances)}
        if self.speakers:
            parts["speakers"] = tuple(speaker.marked(unsure_below) for speaker in self.speakers)
        return super().marked(unsure_below, **parts, **others)

    @property
    def lanes(self) -> list[list[Utterance]]:
        """The utterances of each speaker, or all utterances if the channel is not split."""
        numbers = sorted({part.speaker for part in self.utterances if part.speaker is not None})
        by_speaker = [[part for part in self.utterances if part.speaker == number] for number in numbers]
        return by_speaker or [list(self.utterances)]

    def by_speaker(self) -> "tuple[Channel, ...]":
        """Return a channel for each speaker with the speaker's utterances and figures, or this channel if not split."""
        copies = []
        for speaker in self.speakers or ():
            lane = (part for part in self.utterances if part.speaker == speaker.speaker)
            figures = {name: value for name, value in dict(speaker).items() if name != "speaker"}
            copies.append(self.model_copy(update={**figures, "speakers": None, "utterances": tuple(lane)}))
        return tuple(copies) or (self,)

    @property
    def speaker(self) -> int | None:
        """The only speaker, of a channel that `by_speaker` returns."""
        return self.utterances[0].speaker if self.utterances and self.speakers is None else None

    def with_figures(self, figures: Iterator[LaneFigures | None]) -> "Channel":
        """Return a copy with the figures that follow from the utterances; those of turns belong to a speaker.

        Parameters
        ----------
        figures
            Its next elements are the figures of `lanes`.
        """
        lanes = [(lane, asdict(own) if (own := next(figures)) else {}) for lane in self.lanes]
        added: dict[str, Any] = emotion_mix(self.utterances)
        if self.utterances[0].speaker is None:
            added |= lanes[0][1]
        else:
            added["speakers"] = tuple(
                Speaker(
                    **dict(MeanScores.over(lane)),
                    **own,
                    speech_s=sum(part.duration_s for part in lane),
                    speaker=number,
                )
                for number, (lane, own) in enumerate(lanes)
            )
        return Channel(**{**dict(self), **added})


def emotion_mix(utterances: Sequence[Utterance]) -> dict[str, Any]:
    """Return the margin and the shares of utterances, as fields."""
    return MeanScores.over(utterances).model_dump(include={"margin", "shares"}) if utterances else {}


def mean_values(parts: Iterable[tuple[Mapping[str, float], float]]) -> dict[str, float]:
    """Return the mean of scores or values by name, weighted by duration.

    Parameters
    ----------
    parts
        At least one pair of scores or values and seconds.
    """
    totals: dict[str, float] = {}
    duration_s = 0.0
    for values, seconds in parts:
        duration_s += seconds
        for name, value in values.items():
            totals[name] = totals.get(name, 0.0) + value * seconds
    return {name: total / duration_s for name, total in totals.items()}
