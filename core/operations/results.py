"""Many result documents: from the results bucket, or from a folder that holds copies of them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from pydantic import ValidationError

from core.errors import ResultUnreadable
from core.operations.deployed_stack import aws_errors
from core.operations.s3_listing import in_threads, listed
from core.results import Result

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SUFFIX = ".json"
_AGO = re.compile(r"(\d+)\s*([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class ResultFilter:
    """Which results are asked for; what is None does not matter.

    Attributes
    ----------
    since
        Finished then or later.
    emotion
        Of the recording: the one with the highest mean score.
    utterance
        Of at least one utterance.
    key_prefix
        Of the recording.
    """

    since: datetime | None = None
    emotion: str | None = None
    utterance: str | None = None
    status: str | None = None
    key_prefix: str = ""

    def fits(self, result: Result) -> bool:
        """Whether a result is one of those."""
        return (
            (self.since is None or result.processing.finished_at >= self.since)
            and (self.emotion is None or result.emotion == self.emotion)
            and (self.utterance is None or self.utterance in _heard(result))
            and (self.status is None or result.status == self.status)
            and result.source.key.startswith(self.key_prefix)
        )


def _heard(result: Result) -> set[str]:
    return {part.emotion for channel in result.channels or () for part in channel.utterances}


@dataclass(frozen=True)
class StoredResult:
    """A document that was read, and what S3 knows of it; `result` is None if it is no result document."""

    place: str
    result: Result | None
    state: str | None = None


def point_in_time(text: str) -> datetime:
    """A moment as people write it: 2026-01-31, 2026-01-31T14:00 (both UTC unless they say otherwise), 90m, 12h, 7d.

    Raises
    ------
    ValueError
        If it is none of these; the message says what would do.
    """
    ago = _AGO.fullmatch(text.strip().lower())
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no time: write 2026-01-31, 2026-01-31T14:00, 90m, 12h or 7d.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def results_in_folder(folder: Path) -> Iterator[StoredResult]:
    """Every document below a folder.

    Raises
    ------
    ResultUnreadable
        If there is no such folder.
    """
    if not folder.is_dir():
        raise ResultUnreadable(f"{folder} is no folder: `audio-emotion local` and `demo` fill out/results.")
    for file in sorted(folder.rglob(f"*{_SUFFIX}")):
        yield StoredResult(str(file), _parsed(file.read_bytes()))


def results_in_bucket(s3: "S3Client", bucket: str, prefix: str, wanted: ResultFilter) -> Iterator[StoredResult]:
    """Every document below a prefix of a bucket that may be wanted, read by several threads.

    Raises
    ------
    OperationFailed
        If S3 cannot or will not say.
    """
    # A document is finished before it is stored, so what was stored earlier was finished earlier. Its key begins as its
    # recording's does, but for those too long to be kept whole.
    keys = (
        found.key
        for found in listed(s3, bucket, prefix + wanted.key_prefix)
        if found.key.endswith(_SUFFIX) and (wanted.since is None or found.modified_at >= wanted.since)
    )
    yield from read_results(s3, bucket, keys)


def read_results(s3: "S3Client", bucket: str, keys: Iterable[str]) -> Iterator[StoredResult]:
    """The documents at these keys; one that has been deleted meanwhile is left out."""

    def read(key: str) -> StoredResult | None:
        with aws_errors(f"s3://{bucket}/{key}"):
            try:
                answer = s3.get_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                    return None
                raise
            return StoredResult(f"s3://{bucket}/{key}", _parsed(answer["Body"].read()), answer["Metadata"].get("state"))

    return (found for found in in_threads(read, keys) if found is not None)


def _parsed(document: bytes) -> Result | None:
    try:
        return Result.model_validate_json(document)
    except ValidationError:
        return None
