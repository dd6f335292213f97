"""Erasure of recordings: their uploads, results, reports, leases and dead letters, in every version.

A running delivery may store a result after the erasure has listed the objects. Therefore:

1. The uploads are deleted first. A delivery that begins later finds its upload gone and stores nothing, unless S3 fails
   during the last delivery: then it stores a `given_up` result, and its message becomes a dead letter.
2. The results, reports and leases are deleted when no delivery is running that began earlier.

A recording that is uploaded again during the erasure keeps its new version and the result of that version.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.delivery.keys import leases_prefix_for, result_key_for
from core.delivery.report_pages import page_key_for
from core.delivery.storage import Storage
from core.errors import AudioEmotionError, AwsRefused, RecordingEncrypted
from core.operations.deployed_stack import DeployedStack, aws_errors
from core.operations.s3_listing import in_threads, list_objects
from core.operations.status import message_counts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

LEASES_PREFIX = "claims/"
"""The function's `LEASES_PREFIX` in template.yaml."""

POLL_INTERVAL_S = 5.0
_IDLE_POLLS = 2
"""SQS counts messages in flight approximately, so one count of zero is not enough."""
_DEAD_LETTER_VISIBILITY_S = 120
_LONG_POLL_S = 1
"""Long polling asks all of SQS's servers."""
_SQS_BATCH = 10

Kind = Literal["upload", "result", "report", "lease"]


@dataclass(frozen=True)
class Scope:
    """The recordings to forget: those with one of the keys, or with a prefix."""

    keys: frozenset[str] = frozenset()
    prefix: str | None = None

    def contains(self, key: str) -> bool:
        """Return whether the recording with this key is to be forgotten."""
        return key in self.keys or (self.prefix is not None and key.startswith(self.prefix))


@dataclass(frozen=True)
class StoredVersion:
    """A version of an object, or a delete marker.

    Attributes
    ----------
    is_latest
        Whether S3 returns this version for the key.
    size_bytes
        None for a delete marker.
    """

    kind: Kind
    bucket: str
    key: str
    version_id: str
    is_latest: bool
    size_bytes: int | None


@dataclass(frozen=True)
class Recording:
    """A recording and everything that is stored about it, at one moment.

    Attributes
    ----------
    key
        The recording's key. It is unknown (None) if only a result with a shortened key is left.
    """

    key: str | None
    result_key: str
    versions: tuple[StoredVersion, ...] = ()

    def of_kind(self, *kinds: Kind) -> list[StoredVersion]:
        """Return the versions of these kinds."""
        return [version for version in self.versions if version.kind in kinds]


@dataclass(frozen=True)
class Failure:
    """An object or a message that could not be deleted."""

    what: str
    reason: str


@dataclass(frozen=True)
class DeadLetters:
    """The messages of a dead-letter queue that name a recording.

    Attributes
    ----------
    matching
        Messages that name only recordings to forget.
    mixed
        Messages that name other recordings too. They are kept.
    not_understood
        Messages that name no recording, because they are not events of S3.
    """

    matching: int
    mixed: int
    not_understood: int


def find_recordings(s3: "S3Client", stack: DeployedStack, scope: Scope) -> list[Recording]:
    """Return the recordings of a scope about which anything is stored, with every version and delete marker.

    Raises
    ------
    OperationFailed
        If S3 cannot be reached or refuses the request.
    """
    keys: dict[str, str | None] = {result_key_for(key, stack.results_prefix): key for key in sorted(scope.keys)}
    if scope.prefix is not None:
        for result_key in _result_keys(s3, stack, scope.prefix):
            keys.setdefault(result_key, _key_of(result_key, stack.results_prefix))
        for version in _versions(s3, "upload", stack.uploads_bucket, scope.prefix):
            keys[result_key_for(version.key, stack.results_prefix)] = version.key
    found = in_threads(lambda item: _find_versions(s3, stack, Recording(item[1], item[0])), keys.items())
    return [recording for recording in found if recording.versions]


def _result_keys(s3: "S3Client", stack: DeployedStack, prefix: str) -> Iterator[str]:
    """Yield the keys of the results and of the reports' results below a prefix, also of deleted ones."""
    for version in _versions(s3, "result", stack.results_bucket, stack.results_prefix + prefix):
        stem, _, suffix = version.key.rpartition(".")
        # The suffix is not part of the recording's key: `calls.j` is no prefix of the recording `calls`.
        if suffix in ("json", "html") and stem.startswith(stack.results_prefix + prefix):
            yield f"{stem}.json"


def _key_of(result_key: str, results_prefix: str) -> str | None:
    """Return the key of a result's recording, or None if the result's key was shortened."""
    key = result_key.removeprefix(results_prefix).removesuffix(".json")
    return key if result_key_for(key, results_prefix) == result_key else None


def _find_versions(s3: "S3Client", stack: DeployedStack, recording: Recording) -> Recording:
    places: list[tuple[Kind, str, str]] = [
        ("result", stack.results_bucket, recording.result_key),
        ("report", stack.results_bucket, page_key_for(recording.result_key)),
    ]
    if recording.key is not None:
        places.insert(0, ("upload", stack.uploads_bucket, recording.key))
    versions = [
        version for kind, bucket, key in places for version in _versions(s3, kind, bucket, key) if version.key == key
    ]
    versions += _versions(s3, "lease", stack.results_bucket, leases_prefix_for(recording.result_key, LEASES_PREFIX))
    return Recording(recording.key, recording.result_key, tuple(versions))


def _versions(s3: "S3Client", kind: Kind, bucket: str, prefix: str) -> Iterator[StoredVersion]:
    with aws_errors(f"the bucket {bucket}", unknown="bucket does not exist"):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Versions", []):
                yield StoredVersion(kind, bucket, item["Key"], item["VersionId"], item["IsLatest"], item["Size"])
            for marker in page.get("DeleteMarkers", []):
                yield StoredVersion(kind, bucket, marker["Key"], marker["VersionId"], marker["IsLatest"], None)


def delete_versions(s3: "S3Client", versions: Iterable[StoredVersion]) -> list[Failure]:
    """Delete versions and delete markers for good, and return the failures."""
    objects: dict[tuple[str, str], list[StoredVersion]] = defaultdict(list)
    for version in versions:
        objects[version.bucket, version.key].append(version)

    found = in_threads(lambda of_one_object: _delete_in_order(s3, of_one_object), list(objects.values()))
    return [failure for failures in found for failure in failures]


def _delete_in_order(s3: "S3Client", versions: list[StoredVersion]) -> list[Failure]:
    # The latest version last: otherwise S3 would return an older one meanwhile.
    ordered = sorted(versions, key=lambda version: version.is_latest)
    return [failure for version in ordered if (failure := _delete(s3, version))]


def _delete(s3: "S3Client", version: StoredVersion) -> Failure | None:
    # One request for each version, because a key with control characters cannot be part of a batch in XML.
    name = f"s3://{version.bucket}/{version.key} (version {version.version_id})"
    try:
        with aws_errors(name):
            s3.delete_object(Bucket=version.bucket, Key=version.key, VersionId=version.version_id)
    except AwsRefused as error:
        return Failure(name, str(error))
    return None


def _is_uploaded(storage: Storage, stack: DeployedStack, recording: Recording) -> bool:
    if recording.key is None:
        return False
    try:
        return storage.head(stack.uploads_bucket, recording.key) is not None
    except RecordingEncrypted:
        return True


def delete_derived(s3: "S3Client", stack: DeployedStack, recordings: Iterable[Recording]) -> list[Failure]:
    """Delete what is stored about recordings except their uploads, and return the failures.

    If a recording was uploaded again, its newest result and report and its leases stay.
    """
    storage = Storage(s3)

    def delete(recording: Recording) -> list[Failure]:
        try:
            derived = _find_versions(s3, stack, recording).of_kind("result", "report", "lease")
            # The upload is checked after the versions were listed: then they belong to no upload after this answer.
            if _is_uploaded(storage, stack, recording):
                derived = [version for version in derived if version.kind != "lease" and not version.is_latest]
        except AudioEmotionError as error:
            return [Failure(f"s3://{stack.results_bucket}/{recording.result_key}", str(error))]
        return _delete_in_order(s3, derived)

    return [failure for failures in in_threads(delete, recordings) for failure in failures]


def wait_for_deliveries(
    s3: "S3Client",
    sqs: "SQSClient",
    stack: DeployedStack,
    recordings: list[Recording],
    *,
    poll_interval_s: float = POLL_INTERVAL_S,
) -> None:
    """Return when no delivery that began before the call can be running.

    An invocation ends within the function's timeout, so the wait does too.

    Raises
    ------
    OperationFailed
        If AWS cannot be reached or refuses the request.
    """
    ends_at_s = time.monotonic() + stack.timeout_s
    idle_polls = 0
    while time.monotonic() < ends_at_s:
        idle_polls = 0 if is_in_progress(s3, sqs, stack, recordings) else idle_polls + 1
        if idle_polls == _IDLE_POLLS:
            return
        time.sleep(poll_interval_s)


def is_in_progress(s3: "S3Client", sqs: "SQSClient", stack: DeployedStack, recordings: list[Recording]) -> bool:
    """Return whether a delivery of a recording may be running: a message is in flight or a lease is held."""
    _, in_flight = message_counts(sqs, stack.queue_url)
    return in_flight > 0 or any(in_threads(lambda recording: _is_leased(s3, stack, recording), recordings))


def _is_leased(s3: "S3Client", stack: DeployedStack, recording: Recording) -> bool:
    storage = Storage(s3)
    prefix = leases_prefix_for(recording.result_key, LEASES_PREFIX)
    with aws_errors(f"the leases in {stack.results_bucket}"):
        leases = [
            storage.head(stack.results_bucket, item.key) for item in list_objects(s3, stack.results_bucket, prefix)
        ]
    return any(held and float(held.metadata.get("expires-at", 0)) > time.time() for held in leases)


def count_dead_letters(
    sqs: "SQSClient", stack: DeployedStack, scope: Scope, keys_in: Callable[[str], list[str]]
) -> DeadLetters:
    """Count the dead letters that name a recording of the scope.

    Parameters
    ----------
    keys_in
        Returns the keys that a message's body names. It raises an error of this project if it understands none.

    Raises
    ------
    OperationFailed
        If SQS cannot be reached or refuses the request.
    """
    counted, _ = _read_dead_letters(sqs, stack, scope, keys_in, delete=False)
    return counted


def delete_dead_letters(
    sqs: "SQSClient", stack: DeployedStack, scope: Scope, keys_in: Callable[[str], list[str]]
) -> list[Failure]:
    """Delete the dead letters that name only recordings of the scope, and return the failures.

    Raises
    ------
    OperationFailed
        If SQS cannot be reached or refuses the request.
    """
    _, hidden = message_counts(sqs, stack.dead_letter_queue_url)
    counted, failures = _read_dead_letters(sqs, stack, scope, keys_in, delete=True)
    if hidden:
        reason = f"Another reader holds them. Run the command again in {_DEAD_LETTER_VISIBILITY_S} s."
        failures.append(Failure(f"{hidden} dead letters", reason))
    if counted.mixed:
        failures.append(Failure(f"{counted.mixed} dead letters", "They name other recordings, too."))
    return failures


def _read_dead_letters(
    sqs: "SQSClient", stack: DeployedStack, scope: Scope, keys_in: Callable[[str], list[str]], *, delete: bool
) -> tuple[DeadLetters, list[Failure]]:
    url = stack.dead_letter_queue_url
    matching: list[Any] = []
    others: list[Any] = []
    mixed = not_understood = 0
    with aws_errors(f"the queue {url}"):
        # Messages stay hidden, so that each is received once.
        while messages := sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=_SQS_BATCH,
            VisibilityTimeout=_DEAD_LETTER_VISIBILITY_S,
            WaitTimeSeconds=_LONG_POLL_S,
        ).get("Messages", []):
            for message in messages:
                try:
                    named = [scope.contains(key) for key in keys_in(message["Body"])]
                except AudioEmotionError:
                    not_understood += 1
                    named = []
                mixed += any(named) and not all(named)
                (matching if named and all(named) else others).append(message)
        failures = _delete_messages(sqs, url, matching) if delete else []
        for message in others if delete else [*others, *matching]:
            sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    return DeadLetters(len(matching), mixed, not_understood), failures


def _delete_messages(sqs: "SQSClient", url: str, messages: list[Any]) -> list[Failure]:
    failures = []
    for message in messages:
        name = f"dead letter {message['MessageId']}"
        try:
            with aws_errors(name):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        except AwsRefused as error:
            failures.append(Failure(name, str(error)))
    return failures
