"""The result document: one for each upload, whatever became of it.

`docs/result.schema.json` is generated from these models (`make schema`); a test holds the two together.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from core import __version__
from core.errors import RecordingError

SCHEMA_VERSION = "1.0"


def _six_digits(value: float) -> float:
    return round(value, 6)


def _three_digits(value: float) -> float:
    return round(value, 3)


Probability = Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_six_digits)]
Seconds = Annotated[float, Field(ge=0.0), BeforeValidator(_three_digits)]
Milliseconds = Annotated[int, Field(ge=0), BeforeValidator(round)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Source(_Part):
    """Which upload this is about; without a bucket, a file."""

    bucket: str | None = None
    key: str
    version_id: str | None = None
    etag: str | None = None
    size_bytes: int | None = None


class Audio(_Part):
    """What was in it. The duration is what was decoded, not what the header claims."""

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    duration_s: Seconds


class Model(_Part):
    """What judged it. `demo` stands only where the demo model did, which knows nothing of real people."""

    id: str
    revision: str
    precision: str
    fingerprint: str
    labels: tuple[str, ...]
    demo: Literal[True] | None = None


class EmotionScores(_Part):
    """The emotion that is heard, how surely, and the probability of each."""

    emotion: str
    score: Probability
    scores: dict[str, Probability]

    @classmethod
    def of(cls, scores: Mapping[str, float]) -> "EmotionScores":
        """Name the emotion with the highest score."""
        emotion = max(scores, key=lambda label: scores[label])
        return cls(emotion=emotion, score=scores[emotion], scores=dict(scores))


class Utterance(EmotionScores):
    """A stretch of speech."""

    start_s: Seconds
    end_s: Seconds

    @property
    def duration_s(self) -> float:
        """How long it lasts."""
        return self.end_s - self.start_s


class Channel(EmotionScores):
    """One channel: the means over its utterances, weighted by their durations.

    `mixed` stands only where several channels carried the same and were mixed; `channel` is the first of them.
    """

    channel: int
    mixed: tuple[int, ...] | None = None
    speech_s: Seconds
    utterances: tuple[Utterance, ...]


class Error(_Part):
    """Why there is no classification: a code that never changes, and one sentence that a person can act on."""

    code: str
    message: str


class Processing(_Part):
    """When and by what the result was made."""

    finished_at: datetime
    decode_ms: Milliseconds = 0
    inference_ms: Milliseconds = 0
    request_id: str | None = None
    version: str

    @classmethod
    def finished_now(cls, *, decode_s: float = 0.0, inference_s: float = 0.0) -> "Processing":
        """Return the record of work by this version that has just ended."""
        return cls(
            finished_at=now(),
            decode_ms=round(decode_s * 1000),
            inference_ms=round(inference_s * 1000),
            version=__version__,
        )


class Result(_Part):
    """The document. `classified` has a judgement and channels, `failed` has an error, `no_speech` has neither."""

    schema_version: Literal["1.0"] = "1.0"
    status: Literal["classified", "no_speech", "failed"]
    source: Source
    audio: Audio | None = None
    model: Model
    emotion: str | None = None
    score: Probability | None = None
    scores: dict[str, Probability] | None = None
    speech_s: Seconds | None = None
    channels: tuple[Channel, ...] | None = None
    error: Error | None = None
    processing: Processing

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

    def with_request_id(self, request_id: str | None) -> "Result":
        """Return a copy that names the request which stores it."""
        return self.model_copy(update={"processing": self.processing.model_copy(update={"request_id": request_id})})

    def to_json(self, *, indent: int | None = None) -> str:
        """The document as stored: UTF-8 JSON, absent fields left out."""
        return self.model_dump_json(exclude_none=True, indent=indent)


def mean_scores(parts: Iterable[tuple[Mapping[str, float], float]]) -> dict[str, float]:
    """The mean of scores weighted by durations: pairs of scores and seconds, at least one of them."""
    totals: dict[str, float] = {}
    duration_s = 0.0
    for scores, seconds in parts:
        duration_s += seconds
        for label, score in scores.items():
            totals[label] = totals.get(label, 0.0) + score * seconds
    return {label: total / duration_s for label, total in totals.items()}


def now() -> datetime:
    """The moment a result is finished, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def json_schema() -> str:
    """The JSON Schema of the document, as kept in docs/result.schema.json."""
    schema = Result.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False)
