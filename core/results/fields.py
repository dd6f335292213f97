"""The fields of a result that do not depend on its speech: the source, the audio and the model."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def six_digits(value: float) -> float:
    """Round a score."""
    return round(value, 6)


def _one_digit(value: float) -> float:
    return round(value, 1)


def _three_digits(value: float) -> float:
    return round(value, 3)


Probability = Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(six_digits)]
Value = Annotated[float, BeforeValidator(six_digits)]
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


class Part(BaseModel):
    """A part of the document. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Source(Part):
    """The upload, or a file on this machine."""

    bucket: str | None = Field(default=None, description="The uploads bucket; absent for a file.")
    key: str = Field(description="Key of the upload, or path of the file.")
    version_id: str | None = Field(default=None, description="Version of the object, in a bucket with versioning.")
    etag: str | None = Field(default=None, description="ETag of the object.")
    size_bytes: int | None = Field(default=None, description="Size of the upload.")


class Audio(Part):
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


class Model(Part):
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
