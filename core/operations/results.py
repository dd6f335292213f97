"""Many result documents, from a results bucket or from a folder."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from pydantic import ValidationError

from core.delivery.metadata import ResultMetadata
from core.emotions import standard_name
from core.errors import ResultUnreadable
from core.operations.deployed_stack import aws_errors
from core.operations.s3_listing import in_threads, list_objects
from core.results import Result

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_SUFFIX = ".json"
_AGO = re.compile(r"(\d+)\s*([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class ResultFilter:
    """The conditions that selected results meet; None sets no condition.

    Attributes
    ----------
    since
        Earliest time at which processing finished.
    emotion
        Emotion of the recording: the one with the highest mean score. Synonyms of a label match it.
    utterance
        Emotion of at least one utterance, or a synonym.
    key_prefix
        Prefix of the recording's key.
    """

    since: datetime | None = None
    emotion: str | None = None
    utterance: str | None = None
    status: str | None = None
    key_prefix: str = ""

    def matches(self, result: Result) -> bool:
        """Return whether the filter selects a result."""
        return (
            (self.since is None or result.processing.finished_at >= self.since)
            and (self.emotion is None or _is_named(self.emotion, [result.emotion], result))
            and (
                self.utterance is None
                or _is_named(self.utterance, [part.emotion for part in result.utterances], result)
            )
            and (self.status is None or result.status == self.status)
            and result.source.key.startswith(self.key_prefix)
        )


def _is_named(name: str, emotions: Iterable[str | None], result: Result) -> bool:
    """Return whether a name is that of one of the emotions. A label of the model is no synonym of another."""
    present = filter(None, emotions)
    if name in result.model.labels:
        return name in present
    return standard_name(name).lower() in {standard_name(emotion).lower() for emotion in present}


@dataclass(frozen=True)
class StoredResult:
    """A stored document.

    Attributes
    ----------
    place
        Path or URL of the document.
    result
        None if it is not a result document.
    state
        From the object's metadata: `done` or `given-up`.
    speakers
        From the object's metadata: the mode of separating speakers.
    """

    place: str
    result: Result | None
    state: str | None = None
    speakers: str | None = None


def parse_time(text: str) -> datetime:
    """Parse a time such as 2026-01-31 or 2026-01-31T14:00 (UTC without an offset), or an age such as 90m, 12h or 7d.

    Raises
    ------
    ValueError
        If the text has none of these forms; the message lists them.
    """
    ago = _AGO.fullmatch(text.strip().lower())
    try:
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time: write 2026-01-31, 2026-01-31T14:00, 90m, 12h or 7d.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def results_in_folder(folder: Path) -> Iterator[StoredResult]:
    """Yield every document below a folder.

    Raises
    ------
    ResultUnreadable
        If the folder does not exist.
    """
    if not folder.is_dir():
        raise ResultUnreadable(
            f"{folder} is not a folder. `audio-emotion demo` and `local` write results to out/results."
        )
    for file in sorted(path for path in folder.rglob(f"*{_SUFFIX}") if path.is_file()):
        try:
            yield StoredResult(str(file), _parsed(file.read_bytes()))
        except OSError:  # it was removed, or may not be read
            yield StoredResult(str(file), None)


def results_in_bucket(s3: "S3Client", bucket: str, prefix: str, selection: ResultFilter) -> Iterator[StoredResult]:
    """Yield the documents below a prefix of a bucket that the filter may select, read in several threads.

    Raises
    ------
    OperationFailed
        If S3 cannot be reached or refuses the request.
    """
    # A document is stored after processing has finished, so an object older than `since` cannot match. A result's key
    # contains the recording's key, possibly shortened at the end.
    keys = (
        found.key
        for found in list_objects(s3, bucket, prefix + selection.key_prefix)
        if found.key.endswith(_SUFFIX) and (selection.since is None or found.modified_at >= selection.since)
    )
    yield from read_results(s3, bucket, keys)


def read_results(s3: "S3Client", bucket: str, keys: Iterable[str]) -> Iterator[StoredResult]:
    """Yield the documents at these keys, except those that no longer exist.

    Raises
    ------
    OperationFailed
        If S3 cannot be reached or refuses the request.
    """

    def read(key: str) -> StoredResult | None:
        with aws_errors(f"s3://{bucket}/{key}"):
            try:
                answer = s3.get_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                    return None
                raise
            metadata = ResultMetadata.from_s3(answer["Metadata"])
            document = _parsed(answer["Body"].read())
            return StoredResult(f"s3://{bucket}/{key}", document, metadata.state, metadata.speakers)

    return (found for found in in_threads(read, keys) if found is not None)


def _parsed(document: bytes) -> Result | None:
    try:
        return Result.model_validate_json(document)
    except ValidationError:
        return None
