"""Every environment variable that this project reads, once, checked at start.

Names in the environment are the upper-case field names. `template.yaml` sets those that an operator would turn; a test
holds the two together.
"""

import logging
import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from core.errors import SettingsInvalid

MEMORY_MB_PER_VCPU = 1769
"""What AWS documents: at 1,769 MB a function has the equivalent of one vCPU."""


CLI_PREFIX = "AUDIO_EMOTION_"
"""The command line's variables carry this prefix, so that `CHANNELS` of another program is not taken for ours."""

_RENAMED = {
    "leases_prefix": "CLAIMS_PREFIX",
    "min_silence_s": "SHORTEST_PAUSE_S",
    "min_speech_s": "SHORTEST_SPEECH_S",
    "speech_pad_s": "PADDING_S",
}
"""Field -> its variable in 1.0, which is still read."""

_logger = logging.getLogger(__name__)


class Settings(BaseModel):
    """A group of settings; see `read`.

    Not pydantic-settings: it and Powertools' batch processor took a ninth of the function's time for imports
    (docs/performance.md).
    """

    # Built when a group is first read: no program reads all of them.
    model_config = ConfigDict(frozen=True, defer_build=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


class MediaLimits(Settings):
    """What a recording may cost before it is refused. Uploads are hostile until decoded."""

    max_size_bytes: int = Field(default=2_000_000_000, gt=0)
    """Of the upload. /tmp must hold one recording; a three-hour call as 16-bit stereo at 48 kHz is 2 GB."""

    max_duration_s: float = Field(default=4 * 3600.0, gt=0, allow_inf_nan=False)
    """Of the decoded audio. Nothing that people say in one recording is longer than a working morning. The stack
    sets an hour, which its function is reckoned to finish in time on every processor that was measured."""

    max_channels: int = Field(default=16, gt=0, le=64)
    """Phone calls have two, conference bridges up to sixteen."""

    decoder_memory_mb: int = Field(default=1024, ge=256)
    """Address space of one ffmpeg process. Debian's, with its 200 libraries, needs 300 before it decodes anything."""

    decoder_timeout_s: float = Field(default=600.0, gt=0)
    """How long one ffmpeg process may keep us waiting in all, where no deadline of the function's is nearer."""


class SegmentationSettings(Settings):
    """How a recording becomes utterances. docs/how-to/tune-segmentation.md says when to change which."""

    channels: Literal["auto", "split", "mix"] = "auto"
    """`auto` keeps channels apart that carry different speech, such as the two sides of a call, and mixes those that
    are nearly the same; `split` and `mix` do one or the other always."""

    speech_threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """How sure the voice activity network has to be that somebody begins to speak. Its authors' own choice."""

    short_speech_threshold: float = Field(default=0.15, gt=0.0, lt=1.0)
    """The same for a recording of up to 6 s, where one such moment is enough. Low, since somebody cut it out and
    uploaded it: of 446 labelled utterances the least sure reaches 0.24, of 720 tones none 0.11. White
    noise is taken for speech twice in 400 pieces of 2 s (`python -m benchmarks.conversations silence`)."""

    min_silence_s: float = Field(default=0.3, ge=0.1, le=3.0)
    """A shorter silence does not end an utterance. Closures of stops last up to 0.15 s, hesitations within a phrase
    0.25 s; turns are 0.2 s apart on average, but those of two people are most often on two channels."""

    min_speech_s: float = Field(default=0.1, ge=0.0, le=0.5)
    """What is shorter is a click or a cough; the shortest "yes" lasts longer."""

    speech_pad_s: float = Field(default=0.05, ge=0.0, le=1.0)
    """Kept before and after what is heard as speech: the first and the last sound of a phrase are its faintest."""

    @model_validator(mode="after")
    def _padding_fits(self) -> "SegmentationSettings":
        if 2 * self.speech_pad_s > self.min_silence_s:
            raise ValueError("SPEECH_PAD_S must be at most half of MIN_SILENCE_S")
        return self


class ModelSettings(Settings):
    """Which model is loaded, and how."""

    model_dir: Path = Path("build/model")
    """A serving package, or a checkpoint (which needs PyTorch)."""

    inference_threads: int | None = Field(default=None, ge=1)
    """Overrides the number that follows from the function's memory size."""

    aws_lambda_function_memory_size: int | None = Field(default=None, gt=0)
    """Set by Lambda, in MB."""


class StorageSettings(Settings):
    """How long S3 is waited for. Read by whoever opens a client."""

    s3_connect_timeout_s: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    """S3 accepts a connection within milliseconds, or something is wrong."""

    s3_read_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Of silence. Must leave room for another try within DEADLINE_MARGIN_S."""

    s3_attempts: int = Field(default=3, ge=1)
    """The first one included; the queue is the second line of defence."""


class FunctionSettings(Settings):
    """What the function needs beyond the model and the limits."""

    results_bucket: str = Field(min_length=3)
    results_prefix: str = "results/"
    """Put before the source key."""

    reports: Literal["none", "html"] = "none"
    """`html` puts a page that people can look at beside each result, with `.html` in place of `.json`."""

    max_receive_count: int = Field(default=5, ge=1)
    """The queue's own; on the last delivery a `failed` result is written before the attempt."""

    leases_prefix: str = "claims/"
    """Where a delivery notes that it is at work, so that a second one at the same moment does not repeat it. Empty: no
    such notes, one PUT less for each recording, and a rare doubled inference, which still leaves one right result."""

    event_bus: str = ""
    """The EventBridge bus that is told of each result. Empty: nobody is told."""

    deadline_margin_s: float = Field(default=15.0, gt=0)
    """Kept free before the function's time-out, to write a `failed` result: S3 may stall once, for the ten seconds
    after which a connection is given up, and is then asked again."""

    @model_validator(mode="after")
    def _prefixes_are_apart(self) -> "FunctionSettings":
        # Claims expire after a day: a result that lay under their prefix would be lost with them.
        prefixes = (self.results_prefix, self.leases_prefix)
        if self.leases_prefix and (prefixes[0].startswith(prefixes[1]) or prefixes[1].startswith(prefixes[0])):
            raise ValueError("RESULTS_PREFIX and LEASES_PREFIX must not contain each other")
        return self


class ApiSettings(Settings):
    """What the HTTP API needs beyond the model and the limits. Without buckets, it keeps results in a folder."""

    results_bucket: str | None = Field(default=None, min_length=3)
    """Where results go; with it, UPLOADS_BUCKET has to be set as well."""

    uploads_bucket: str | None = Field(default=None, min_length=3)
    """Where large recordings are uploaded to, whose queue brings them to the function."""

    results_prefix: str = "results/"
    """The function's own: a result of the API lies where one of the queue's would."""

    results_folder: Path = Path("out/results")
    """Where results go without a bucket."""

    api_prefix: str = Field(default="api/", pattern=r"^([A-Za-z0-9!_.'()-]+/)+$")
    """Put before the ids of recordings that come over HTTP to make their keys."""

    api_max_request_bytes: int = Field(default=4_500_000, ge=1024)
    """Of a request. Lambda takes 6 MiB (6,291,456 bytes), in which a recording travels as base64, a third longer, with
    the headers beside it. The same everywhere, so that what works on a laptop works on AWS."""

    api_concurrency: int = Field(default=2, ge=1)
    """How many recordings are classified at the same time. One invocation in Lambda has one request anyway."""

    api_waiting: int = Field(default=128, ge=0)
    """How many more may wait for that; whoever comes after them is told to come again."""

    api_upload_expiry_s: int = Field(default=900, ge=60, le=3600)
    """How long an invitation to upload holds."""

    api_allowed_origins: str = Field(default="", pattern=r"^$|^https?://[^\s,/]+(,https?://[^\s,/]+)*$")
    """Origins whose pages may use the API from a browser, with commas between them; the API's own always may."""

    api_deadline_margin_s: float = Field(default=3.0, gt=0)
    """Kept free before the function's time-out, to store the result and answer."""

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """The same, apart."""
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
        If a variable is missing or has an unusable value; the message names the variable.
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
            f"{names.get(str(e['loc'][0]), 'settings') if e['loc'] else 'settings'}: {e['msg']}" for e in error.errors()
        )
        raise SettingsInvalid(f"The environment cannot be used: {problems}.") from error


def _deprecated_name(field: str, info: FieldInfo, prefix: str) -> str | None:
    """Return the name of an earlier release under which a field is set.

    The command line once read names without a prefix. Another program may have set such a name, so an unprefixed value
    that the field does not accept is ignored.
    """
    old = [_RENAMED[field]] if field in _RENAMED else []
    if not prefix:
        return next((name for name in old if _is_set(name, info)), None)
    adapter: TypeAdapter[object] = TypeAdapter(Annotated[info.annotation, info])  # type: ignore[arg-type]
    return next((name for name in [field.upper(), *old] if _is_set(name, info) and _accepts(adapter, name)), None)


def _is_set(name: str, info: FieldInfo) -> bool:
    return bool(os.environ.get(name)) or (name in os.environ and info.annotation is str)


def _accepts(adapter: TypeAdapter[object], name: str) -> bool:
    try:
        adapter.validate_python(os.environ[name])
    except ValidationError:
        return False
    return True
