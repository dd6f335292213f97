"""The result document: exactly one for each upload, even if the upload could not be classified.

`docs/result.schema.json` is generated from these models (`make schema`); a test compares the two.
"""

import json
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from core import __version__
from core.errors import RecordingError
from core.results.fields import Audio, Milliseconds, Model, Part, Probability, Seconds, Source, Value
from core.results.metrics import conversation_figures
from core.results.speech import (
    MARGIN_DESCRIPTION,
    SHARES_DESCRIPTION,
    UNSURE_DESCRIPTION,
    Channel,
    Utterance,
    emotion_mix,
)


class Error(Part):
    """The reason why the recording could not be classified."""

    code: str = Field(description="The reason, for programs. Codes never change.")
    message: str = Field(description="The reason for people, and what to do.")


class Processing(Part):
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


class Result(Part):
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
    unsure: Literal[True] | None = Field(default=None, description=UNSURE_DESCRIPTION)
    unsure_below: Probability | None = Field(
        default=None,
        description="The setting `UNSURE_BELOW`: the score below which `unsure` is present. Absent if it is 0.",
    )
    margin: Probability | None = Field(default=None, description=MARGIN_DESCRIPTION)
    shares: dict[str, Probability] | None = Field(default=None, description=SHARES_DESCRIPTION)
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
        result = Result(**{**dict(self), **whole, **emotion_mix(self.utterances), "channels": channels})
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

    def named(self, name: str) -> "Result":
        """Return a copy whose source is a file of this name instead of an upload."""
        return self.model_copy(update={"source": Source(key=name, size_bytes=self.source.size_bytes)})

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


def now() -> datetime:
    """Return the current time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def json_schema() -> str:
    """Return the JSON Schema of the document, the content of docs/result.schema.json."""
    schema = Result.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False)
