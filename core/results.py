"""The result document: exactly one for each upload, even if the upload could not be classified.

`docs/result.schema.json` is generated from these models (`make schema`); a test compares the two.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from core import __version__
from core.errors import RecordingError
from core.metrics import LaneFigures, conversation_figures


def _six_digits(value: float) -> float:
    return round(value, 6)


def _one_digit(value: float) -> float:
    return round(value, 1)


def _three_digits(value: float) -> float:
    return round(value, 3)


Probability = Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_six_digits)]
Value = Annotated[float, BeforeValidator(_six_digits)]
Seconds = Annotated[float, Field(ge=0.0), BeforeValidator(_three_digits)]
Milliseconds = Annotated[int, Field(ge=0), BeforeValidator(round)]


class Output(StrEnum):
    """The function from a network's logits to what it returns."""

    SOFTMAX = "softmax"
    """Probabilities of emotions that exclude each other; they sum to 1."""
    SIGMOID = "sigmoid"
    """A probability of each emotion on its own."""
    LINEAR = "linear"
    """The logits themselves: values of dimensions such as arousal, dominance and valence."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Source(_Part):
    """The upload, or a file on this machine."""

    bucket: str | None = Field(default=None, description="The uploads bucket; absent for a file.")
    key: str = Field(description="Key of the upload, or path of the file.")
    version_id: str | None = Field(default=None, description="Version of the object, in a bucket with versioning.")
    etag: str | None = Field(default=None, description="ETag of the object.")
    size_bytes: int | None = Field(default=None, description="Size of the upload.")


class Audio(_Part):
    """The recording's audio. Codec and sample rate are those of the first track."""

    container: str = Field(description="Container format, in FFmpeg's terms.")
    codec: str = Field(description="Codec, in FFmpeg's terms.")
    sample_rate_hz: int = Field(description="Sample rate of the recording. The model receives 16,000 Hz.")
    channels: int = Field(description="Number of audio channels of all tracks.")
    track_channels: tuple[int, ...] | None = Field(
        default=None,
        description=(
            "Number of channels of each audio track, if there are several. Channels are numbered track by track. "
            "0: the track cannot be decoded."
        ),
    )
    duration_s: Seconds = Field(
        description="End of the decoded audio on the timeline of `start_s`. It may differ from the header."
    )
    peak_dbfs: Annotated[float, Field(le=200.0), BeforeValidator(_one_digit)] | None = Field(
        default=None,
        description=("Peak level of the decoded audio in dBFS, at least -120; present if there is no speech."),
    )


class Model(_Part):
    """The model that classified the recording."""

    id: str = Field(description="Name of the checkpoint, for example on the Hugging Face Hub.")
    revision: str = Field(description="Commit of the checkpoint.")
    precision: str = Field(description="Number format of the weights: `int8`, `int8-ffn` or `fp32`.")
    fingerprint: str = Field(
        description="Hash that identifies the model. Results of equal fingerprints are comparable."
    )
    labels: tuple[str, ...] = Field(
        description="The emotions that the model can return; empty for a model with `dimensions`."
    )
    output: Literal[Output.SIGMOID, Output.LINEAR] | None = Field(
        default=None,
        description=(
            "Absent: the scores sum to 1. `sigmoid`: each score is a probability on its own. `linear`: the model "
            "returns `dimensions`."
        ),
    )
    dimensions: tuple[str, ...] | None = Field(
        default=None, description="The dimensions that the model can return, such as arousal."
    )
    dimensions_range: tuple[float, float] | None = Field(
        default=None,
        description="Lowest and highest value of the dimensions in the training data. The model can exceed them.",
    )
    merged: dict[str, tuple[str, ...]] | None = Field(
        default=None,
        description=(
            "Labels whose score is the sum of the probabilities of several labels of the network. With the output "
            "`sigmoid`, it is the highest of them."
        ),
    )
    excluded: tuple[str, ...] | None = Field(
        default=None,
        description=(
            "Labels of the network that the model cannot return. The probabilities of the others are scaled to sum to "
            "1, except with the output `sigmoid`."
        ),
    )
    demo: Literal[True] | None = Field(
        default=None,
        description="Present for the demo model only, whose results for real people are meaningless.",
    )

    @classmethod
    def with_output(
        cls,
        output: Output,
        names: tuple[str, ...],
        dimensions_range: tuple[float, float] | None = None,
        **identity: Any,
    ) -> "Model":
        """Return the identity of a model with this output.

        Parameters
        ----------
        names
            The labels or the dimensions, in the order of the logits.
        identity
            The other fields.
        """
        if output is Output.LINEAR:
            fields = {"labels": (), "dimensions": names, "dimensions_range": dimensions_range}
        else:
            fields = {"labels": names}
        return cls.model_validate(identity | fields | {"output": None if output is Output.SOFTMAX else output})

    @property
    def names(self) -> tuple[str, ...]:
        """The labels or the dimensions, in the order of the logits."""
        return self.dimensions or self.labels


_UNSURE = "Present if `score` is below the recording's `unsure_below`. The emotion is then the best guess."


class EmotionScores(_Part):
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
    unsure: Literal[True] | None = Field(default=None, description=_UNSURE)

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


_SHARES = "Share of the speech time that each label has as an utterance's emotion, from 0 to 1. They sum to 1."
_MARGIN = "The highest mean score minus the second highest: the smaller, the less certain is the emotion."


class MeanScores(EmotionScores):
    """The means of the scores or values of several utterances, weighted by duration, and the mix of their emotions."""

    margin: Probability | None = Field(default=None, description=_MARGIN)
    shares: dict[str, Probability] | None = Field(default=None, description=_SHARES)
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

    The figures of turns come from the times of the utterances alone (`core.metrics`). They are absent if the recording
    has one channel or speaker with speech, because its times do not tell how many people speak.
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


class Voices(_Part):
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
    similarity: Annotated[float, Field(ge=-1.0, le=1.0), BeforeValidator(_six_digits)] | None = Field(
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
        added: dict[str, Any] = _mix(self.utterances)
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


class Error(_Part):
    """The reason why the recording could not be classified."""

    code: str = Field(description="The reason, for programs. Codes never change.")
    message: str = Field(description="The reason for people, and what to do.")


class Processing(_Part):
    """The time, duration and software version of the classification."""

    finished_at: datetime = Field(description="When the result was finished, in UTC.")
    decode_ms: Milliseconds = Field(default=0, description="Time spent on probing and decoding.")
    inference_ms: Milliseconds = Field(default=0, description="Time spent in the model.")
    request_id: str | None = Field(default=None, description="Request that stored the result, as in the log.")
    version: str = Field(description="Version of Audio Emotion.")

    @classmethod
    def finished_now(cls, *, decode_s: float = 0.0, inference_s: float = 0.0) -> "Processing":
        """Return the record of a classification that has just finished."""
        return cls(
            finished_at=now(),
            decode_ms=round(decode_s * 1000),
            inference_ms=round(inference_s * 1000),
            version=__version__,
        )


class Result(_Part):
    """The result of one recording. Fields that do not apply to its status are absent."""

    schema_version: Literal["1.0", "1.1"] = Field(
        default="1.1", description="Version of this format. 1.1 adds fields to 1.0."
    )
    status: Literal["classified", "no_speech", "failed"] = Field(
        description=(
            "`classified`: `emotion` or `dimensions` has the result. `no_speech`: the recording contains no speech. "
            "`failed`: `error` has the reason."
        )
    )
    source: Source = Field(description="The upload.")
    audio: Audio | None = Field(default=None, description="The recording; absent if it could not be probed.")
    model: Model = Field(description="The model.")
    emotion: str | None = Field(default=None, description="The emotion with the highest mean score.")
    score: Probability | None = Field(default=None, description="The mean score of that emotion.")
    scores: dict[str, Probability] | None = Field(
        default=None, description="Mean scores of all utterances, weighted by duration."
    )
    unsure: Literal[True] | None = Field(default=None, description=_UNSURE)
    unsure_below: Probability | None = Field(
        default=None,
        description="The setting `UNSURE_BELOW`: the score below which `unsure` is present. Absent if it is 0.",
    )
    margin: Probability | None = Field(default=None, description=_MARGIN)
    shares: dict[str, Probability] | None = Field(default=None, description=_SHARES)
    dimensions: dict[str, Value] | None = Field(
        default=None, description="Mean value of each dimension over all utterances, weighted by duration."
    )
    dimensions_min: dict[str, Value] | None = Field(
        default=None, description="The lowest value of each dimension in an utterance."
    )
    dimensions_max: dict[str, Value] | None = Field(
        default=None, description="The highest value of each dimension in an utterance."
    )
    speech_s: Seconds | None = Field(default=None, description="Total duration of all utterances.")
    silence_s: Seconds | None = Field(
        default=None,
        description=(
            "Time in which nobody speaks: pauses and gaps in the terms of Heldner and Edlund (2010), also before the "
            "first and after the last utterance."
        ),
    )
    overlap_s: Seconds | None = Field(
        default=None,
        description=(
            "Time in which several channels speak at once (Heldner and Edlund, 2010); absent if there is only one with "
            "speech, or if speakers share a channel, because its times do not tell when both speak."
        ),
    )
    interruptions: int | None = Field(
        default=None,
        description=(
            "Number of interruptions: someone begins to speak when another has spoken for 0.5 s, both go on for at "
            "least 0.5 s, and the other stops first. Yuan, Liberman and Cieri (2007) call such an overlap turn-taking. "
            "If the other goes on, it is a backchannel, and not counted. Absent as `overlap_s`."
        ),
    )
    channels: tuple[Channel, ...] | None = Field(default=None, description="The channels with speech.")
    error: Error | None = Field(default=None, description="The reason why the recording could not be classified.")
    processing: Processing = Field(description="The time, duration and software version of the classification.")

    @classmethod
    def failed(
        cls,
        source: Source,
        model: Model,
        error: RecordingError,
        *,
        audio: Audio | None = None,
        processing: Processing | None = None,
    ) -> "Result":
        """Return the result of a recording that cannot be classified."""
        return cls(
            status="failed",
            source=source,
            audio=audio,
            model=model,
            error=Error(code=error.code, message=str(error)),
            processing=processing or Processing.finished_now(),
        )

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """The utterances of all channels, channel by channel."""
        return tuple(part for channel in self.channels or () for part in channel.utterances)

    @property
    def lanes(self) -> tuple[Channel, ...]:
        """The channels, with one for each speaker in place of a channel that is split."""
        return tuple(lane for channel in self.channels or () for lane in channel.by_speaker())

    def with_figures(self) -> "Result":
        """Return a copy with every figure that follows from the utterances. Release 1.0 did not store them."""
        if self.channels is None or self.audio is None or not all(channel.utterances for channel in self.channels):
            return self
        lanes = [lane for channel in self.channels for lane in channel.lanes]
        times = [[(part.start_s, part.end_s) for part in lane] for lane in lanes]
        figures = conversation_figures(times, self.audio.duration_s, can_overlap=len(lanes) == len(self.channels))
        own = iter(figures.lanes)
        channels = tuple(channel.with_figures(own) for channel in self.channels)
        whole = {name: getattr(figures, name) for name in ("silence_s", "overlap_s", "interruptions")}
        result = Result(**{**dict(self), **whole, **_mix(self.utterances), "channels": channels})
        return result.marked(self.unsure_below or 0.0)

    def marked(self, unsure_below: float) -> "Result":
        """Return a copy in which every score below a threshold has the flag `unsure`; 0 removes the flags.

        The flags follow from the stored scores, so another threshold needs no inference. Dimensions have no flags.
        """
        if self.scores is None:
            return self
        is_unsure = self.score is not None and self.score < unsure_below
        channels = self.channels and tuple(channel.marked(unsure_below) for channel in self.channels)
        flags = {"unsure": True if is_unsure else None, "unsure_below": unsure_below or None}
        return self.model_copy(update={**flags, "channels": channels})

    def with_request_id(self, request_id: str | None) -> "Result":
        """Return a copy with the id of the request that stores it."""
        return self.model_copy(update={"processing": self.processing.model_copy(update={"request_id": request_id})})

    def summary(self) -> dict[str, Any]:
        """Return the fields that logs and published events have in common; None where a field does not apply."""
        return {
            "status": self.status,
            "emotion": self.emotion,
            "score": self.score,
            "unsure": self.unsure,
            "margin": self.margin,
            "shares": self.shares,
            "dimensions": self.dimensions,
            "duration_s": self.audio.duration_s if self.audio else None,
            "speech_s": self.speech_s,
        }

    @property
    def has_shared_channels(self) -> bool:
        """Whether several speakers may share a channel: it is the only one, or was mixed."""
        is_mono = self.audio is not None and self.audio.channels == 1
        return any(is_mono or channel.mixed for channel in self.channels or ())

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the document as it is stored: JSON without the fields that do not apply."""
        return self.model_dump_json(exclude_none=True, indent=indent)


def _mix(utterances: Sequence[Utterance]) -> dict[str, Any]:
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


def now() -> datetime:
    """Return the current time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def json_schema() -> str:
    """Return the JSON Schema of the document, the content of docs/result.schema.json."""
    schema = Result.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False)
