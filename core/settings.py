"""Settings: every environment variable that this project reads, checked once at the start.

A variable's name is its field's in upper case. The docstring below a field is its description in
docs/reference/settings.md (`make reference`).
"""

import logging
import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from core.errors import EmptyRecording, RecordingTooLarge, SettingsInvalid

MEMORY_MB_PER_VCPU = 1769
"""At 1,769 MB a function has the equivalent of one vCPU, as AWS documents."""


CLI_PREFIX = "AUDIO_EMOTION_"
"""Prefix of the command line's variables. Without it, the command line would read another program's `CHANNELS`."""

_RENAMED = {
    "leases_prefix": "CLAIMS_PREFIX",
    "min_silence_s": "SHORTEST_PAUSE_S",
    "min_speech_s": "SHORTEST_SPEECH_S",
    "speech_pad_s": "PADDING_S",
}
"""Field -> its variable in release 1.0, which is still accepted."""

SpeakerMode = Literal["off", "2", "auto"]
"""Whether to separate the speakers of a lane: never, always into two, or into two only if the voices clearly differ."""

_logger = logging.getLogger(__name__)


class Settings(BaseModel):
    """Base class of a group of settings, which `read` fills from the environment.

    pydantic-settings would add to the function's imports (docs/decisions/0009-fewer-imports.md).
    """

    # Build a group's validator on first use, because no program reads every group.
    model_config = ConfigDict(frozen=True, defer_build=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


class MediaLimits(Settings):
    """Limits of a recording. Uploads are untrusted until they are decoded."""

    max_size_bytes: int = Field(default=2_000_000_000, gt=0)
    """Maximum size of an upload, which must fit into `/tmp`. Three hours of 16-bit stereo at 48 kHz are 2 GB."""

    max_duration_s: float = Field(default=12 * 3600.0, gt=0, allow_inf_nan=False)
    """Maximum duration of the decoded audio, without gaps. A recording that takes longer than one invocation continues
    in the next one (docs/decisions/0019-long-recordings.md)."""

    max_channels: int = Field(default=16, gt=0, le=64)
    """Maximum number of channels. Phone calls have two, conference bridges up to sixteen."""

    decoder_memory_mb: int = Field(default=1024, ge=256)
    """Maximum address space of one ffmpeg process. Debian's ffmpeg with its 200 libraries needs 300 MB at least."""

    decoder_timeout_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    """Maximum total time to wait for one ffmpeg process. The invocation's deadline may be earlier."""

    def check_size(self, size_bytes: int) -> None:
        """Check the size of an upload.

        Raises
        ------
        EmptyRecording, RecordingTooLarge
            If the upload is empty or exceeds the limit.
        """
        if size_bytes == 0:
            raise EmptyRecording("The file is empty (0 bytes).")
        if size_bytes > self.max_size_bytes:
            raise RecordingTooLarge(f"The file has {size_bytes:,} bytes; the limit is {self.max_size_bytes:,}.")


class SegmentationSettings(Settings):
    """Settings for cutting a recording into utterances. docs/how-to/tune-segmentation.md says which one to change."""

    channels: Literal["auto", "split", "mix"] = "auto"
    """Whether to classify channels separately. `auto` separates channels with different speech, such as the two sides
    of a call, and mixes channels that are nearly the same. `split` always separates, `mix` always mixes."""

    speech_threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Speech probability at which an utterance begins. 0.5 is the default of Silero VAD."""

    short_speech_threshold: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Speech probability that one frame of a recording of up to 6 s must reach. The default is low because a short
    recording was probably cut out around speech (docs/decisions/0012-segmentation-defaults.md)."""

    min_silence_s: float = Field(default=0.3, ge=0.1, le=3.0)
    """Silence that ends an utterance. Closures of stops last up to 0.15 s and hesitations within a phrase 0.25 s."""

    min_speech_s: float = Field(default=0.1, ge=0.0, le=0.5)
    """Shorter sounds, such as clicks and coughs, are ignored. The shortest "yes" is longer."""

    speech_pad_s: float = Field(default=0.05, ge=0.0, le=1.0)
    """Audio added before and after detected speech, because the first and the last sound of a phrase are its faintest.
    At most half of `MIN_SILENCE_S`."""

    @model_validator(mode="after")
    def _padding_fits(self) -> "SegmentationSettings":
        if 2 * self.speech_pad_s > self.min_silence_s:
            raise ValueError("SPEECH_PAD_S must be at most half of MIN_SILENCE_S")
        return self


class SpeakerSettings(Settings):
    """Settings for separating speakers who share a channel. docs/how-to/separate-speakers.md says what to expect."""

    speakers: SpeakerMode = "off"
    """Whether to separate two speakers on a mono recording or on mixed channels. `2` always separates two, `auto` only
    if the voices clearly differ. Channels that are classified separately are speakers already."""

    speakers_model: Path = Path("build/speakers/speakers.onnx")
    """File of the speaker network, which `make speakers` writes. It is loaded only if speakers are separated."""


class ScoreSettings(Settings):
    """Settings for what results say about scores."""

    unsure_below: float = Field(default=0.0, ge=0.0, le=1.0)
    """Score below which a recording, channel, speaker or utterance gets the flag `unsure`. 0 sets no flags. The label
    stays. Choose it by the calibration of the model (docs/how-to/evaluate.md)."""


class ModelSettings(Settings):
    """The model to load, and the resources to run it with."""

    model_dir: Path = Path("build/model")
    """Folder with a serving package, or with a checkpoint where PyTorch is installed."""

    inference_threads: int | None = Field(default=None, ge=1)
    """Number of inference threads. By default, it follows from the function's memory in Lambda, and equals the number
    of available cores elsewhere."""

    aws_lambda_function_memory_size: int | None = Field(default=None, gt=0)
    """The function's memory in MB. Lambda sets it."""

    @property
    def is_lambda(self) -> bool:
        """Whether this process runs in Lambda."""
        return self.aws_lambda_function_memory_size is not None


class StorageSettings(Settings):
    """Timeouts and retries of S3 clients."""

    s3_connect_timeout_s: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    """Maximum time to connect. S3 accepts a connection within milliseconds."""

    s3_read_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Maximum time without receiving a byte. It must leave room for a retry within `DEADLINE_MARGIN_S`."""

    s3_attempts: int = Field(default=3, ge=1)
    """Attempts of each call, including the first. If all fail, the queue retries the message."""


class FunctionSettings(Settings):
    """Settings of the functions that classify uploads."""

    results_bucket: str = Field(min_length=3)
    """Bucket of the results."""

    results_prefix: str = "results/"
    """Prefix of a result's key. The upload's key and `.json` follow."""

    reports: Literal["none", "html"] = "none"
    """`html` stores a report beside each result, with `.html` in place of `.json`."""

    queue_url: str = ""
    """URL of the queue of uploads. The function sets when a failed message is delivered again, and sends messages that
    continue long recordings. Without it, or without leases, a recording must fit into one invocation."""

    max_receive_count: int = Field(default=12, ge=1)
    """The queue's `maxReceiveCount`. On the last delivery, a `failed` result is written before the attempt."""

    retry_delay_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """Time from a failed delivery to the second one. Each further failure doubles the delay, up to two hours
    (docs/decisions/0030-quick-retries.md)."""

    leases_prefix: str = "claims/"
    """Prefix of the leases that mark deliveries as in progress. Empty disables leases: each recording makes three
    fewer S3 requests, and simultaneous deliveries may repeat inference (docs/decisions/0016-leases.md)."""

    delete_results: bool = False
    """Whether the result and the report of a deleted upload are deleted, too. It needs S3's events about deletions, and
    one more S3 request for each recording."""

    event_bus: str = ""
    """EventBridge bus that receives an event for each result. Empty sends none."""

    deadline_margin_s: float = Field(default=15.0, gt=0)
    """Time reserved before the function's timeout to write a `failed` result. It covers one stalled S3 call of
    `S3_READ_TIMEOUT_S` and its retry."""

    @model_validator(mode="after")
    def _prefixes_are_apart(self) -> "FunctionSettings":
        # S3 deletes leases after a day, and would delete results under the same prefix too.
        prefixes = (self.results_prefix, self.leases_prefix)
        if self.leases_prefix and (prefixes[0].startswith(prefixes[1]) or prefixes[1].startswith(prefixes[0])):
            raise ValueError("RESULTS_PREFIX and LEASES_PREFIX must not contain each other")
        return self


class MetricSettings(Settings):
    """Settings of the metrics of the functions that classify uploads."""

    stack_name: str = Field(default="local", min_length=1)
    """Name of the stack, the dimension `stack` of every metric. Stacks of one region share the metrics' namespace."""


class ApiSettings(Settings):
    """Settings of the HTTP API. Without buckets, it stores results in a folder."""

    results_bucket: str | None = Field(default=None, min_length=3)
    """Bucket of the results. It requires `UPLOADS_BUCKET`."""

    uploads_bucket: str | None = Field(default=None, min_length=3)
    """Bucket for large recordings. Its queue passes them to the function."""

    results_prefix: str = "results/"
    """Prefix of a result's key, the same as the function's."""

    results_folder: Path = Path("out/results")
    """Folder of the results if no buckets are set."""

    api_prefix: str = Field(default="api/", pattern=r"^([A-Za-z0-9!_.'()-]+/)+$")
    """Prefix of the keys of recordings that arrive over HTTP. Their ids follow."""

    api_max_request_bytes: int = Field(default=4_500_000, ge=1024)
    """Maximum size of a request. Lambda accepts 6 MiB (6,291,456 bytes) including headers, and a body travels in
    base64, which is a third longer. The same limit applies outside Lambda."""

    api_concurrency: int = Field(default=2, ge=1)
    """Recordings that are classified at the same time (docs/decisions/0017-api-concurrency.md)."""

    api_waiting: int = Field(default=128, ge=0)
    """Recordings that may wait in addition. Further requests get status 503 with `Retry-After`."""

    api_upload_expiry_s: int = Field(default=900, ge=60, le=3600)
    """How long an upload form is valid."""

    api_allowed_origins: str = Field(default="", pattern=r"^$|^https?://[^\s,/A-Z]+(,https?://[^\s,/A-Z]+)*$")
    """Other origins whose pages may use the API from a browser, separated by commas, in lower case as browsers send
    them."""

    api_deadline_margin_s: float = Field(default=3.0, gt=0)
    """Time reserved before the function's timeout to store the result and answer."""

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The allowed origins as a tuple."""
        return tuple(filter(None, self.api_allowed_origins.split(",")))

    @model_validator(mode="after")
    def _both_buckets_or_none(self) -> "ApiSettings":
        if (self.results_bucket is None) != (self.uploads_bucket is None):
            raise ValueError("RESULTS_BUCKET and UPLOADS_BUCKET must both be set, or neither")
        return self


def read(group: type[SettingsT], *, prefix: str = "") -> SettingsT:
    """Read one group of settings from the environment.

    An empty variable counts as unset, except for text: an empty prefix or bus is a value.

    Parameters
    ----------
    prefix
        Put before each variable's name. The command line uses `CLI_PREFIX`.

    Raises
    ------
    SettingsInvalid
        If a variable is missing or has an invalid value. The message names the variable.
    """
    given = {}
    names = {}
    for field, info in group.model_fields.items():
        name = names[field] = prefix + field.upper()
        if _is_set(name, info):
            given[field] = os.environ[name]
        elif old := _deprecated_name(field, info, prefix):
            given[field] = os.environ[old]
            names[field] = old
            _logger.warning("%s is deprecated and will be ignored in the next release: set %s instead.", old, name)
    try:
        return group.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(
            f"{names.get(str(e['loc'][0]), 'settings') if e['loc'] else 'settings'}: "
            f"{e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise SettingsInvalid(f"Invalid environment variables: {problems}.") from error


def _deprecated_name(field: str, info: FieldInfo, prefix: str) -> str | None:
    """Return the deprecated variable that sets a field, or None.

    The command line of release 1.0 read variables without the prefix. Another program may use the same name, so an
    unprefixed value that the field does not accept is ignored.
    """
    names = [_RENAMED[field]] if field in _RENAMED else []
    if prefix:
        names.insert(0, field.upper())
    return next((name for name in names if _is_set(name, info) and (not prefix or _accepts(name, info))), None)


def _is_set(name: str, info: FieldInfo) -> bool:
    return bool(os.environ.get(name)) or (name in os.environ and info.annotation is str)


def _accepts(name: str, info: FieldInfo) -> bool:
    adapter: TypeAdapter[object] = TypeAdapter(Annotated[info.annotation, info])  # type: ignore[arg-type]
    try:
        adapter.validate_python(os.environ[name])
    except ValidationError:
        return False
    return True
