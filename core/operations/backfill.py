"""A backfill: S3 Batch Operations invokes the function for uploads that are already in the bucket.

S3 lists the objects, invokes the function for each, retries, and writes a report; a job may have billions of objects.
The job includes recordings that have a final result of the deployed model: each costs an invocation of some
milliseconds and no inference. The estimate of time and cost comes from a sample of the stored results.
"""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.delivery import is_final
from core.delivery.keys import is_folder_marker, result_key_for
from core.delivery.metadata import has_speakers
from core.errors import AwsRefused
from core.operations.deployed_stack import DeployedStack, aws_errors
from core.operations.invocation import error_of, invoke
from core.operations.prices import (
    INVOCATION_USD,
    JOB_USD,
    LEASE_PUTS,
    OBJECT_USD,
    READS_IF_DONE,
    RESULT_PUTS,
    RESULT_READS,
    S3_READ_USD,
    S3_WRITE_USD,
    UPLOAD_READS,
    function_usd,
)
from core.operations.results import StoredResult, read_results
from core.operations.s3_listing import ReservoirSample, S3Object, list_objects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REPORTS_PREFIX = "backfill"
"""Prefix of the job's report in the results bucket; the job's role may write nowhere else."""

ENDED = ("Complete", "Failed", "Cancelled")
"""The final states of a job."""

_SAMPLE_SIZE = 200
"""Results to read for the estimate. A share is then known to within seven points."""
_PRIORITY = 10
_NO_TASKS = {"invocationSchemaVersion": "2.0", "invocationId": "activation", "tasks": []}


@dataclass(frozen=True)
class Scope:
    """The uploads that a backfill covers."""

    bucket: str
    prefix: str = ""
    created_after: datetime | None = None

    def contains(self, found: S3Object) -> bool:
        """Return whether the backfill covers an object below the prefix; folder markers are never covered."""
        is_new = self.created_after is None or found.modified_at > self.created_after
        return is_new and not is_folder_marker(found.key, found.size_bytes)


@dataclass(frozen=True)
class Forecast:
    """The estimated size, duration and cost of a backfill.

    Attributes
    ----------
    with_result
        Recordings that have a result of any kind.
    sampled
        Results that were read for the estimate.
    share_done
        Share of the sampled results that are final results of the deployed model.
    seconds_each
        Mean time of the function for a recording that did not fail; None without such a result.
    """

    recordings: int
    size_bytes: int
    with_result: int
    sampled: int
    share_done: float
    seconds_each: float | None

    @property
    def to_classify(self) -> int:
        """Recordings that need inference, estimated."""
        return self.recordings - round(self.with_result * self.share_done)

    @property
    def work_s(self) -> float | None:
        """Total time of the function; None if unknown."""
        return None if self.seconds_each is None else self.to_classify * self.seconds_each

    def cost_usd(self, memory_size_mb: int, architecture: str = "x86_64") -> float | None:
        """Return the cost at list prices; None if unknown."""
        if self.work_s is None:
            return None
        done = self.recordings - self.to_classify
        puts = self.to_classify * (RESULT_PUTS + LEASE_PUTS)
        reads = self.to_classify * (UPLOAD_READS + RESULT_READS) + done * READS_IF_DONE
        requests_usd = puts * S3_WRITE_USD + reads * S3_READ_USD
        time_usd = self.recordings * INVOCATION_USD + function_usd(self.work_s, memory_size_mb, architecture)
        return JOB_USD + self.recordings * OBJECT_USD + time_usd + requests_usd


def forecast(s3: "S3Client", stack: DeployedStack, scope: Scope, fingerprint: str | None) -> Forecast:
    """Count the recordings of a scope, and estimate the work from a sample of their results.

    Parameters
    ----------
    fingerprint
        Fingerprint of the deployed model. If None, every recording counts as not done.

    Raises
    ------
    OperationFailed
        If S3 cannot be reached or refuses the request.
    """
    prefix = stack.results_prefix
    stored = {found.key for found in list_objects(s3, stack.results_bucket, prefix + scope.prefix)}
    sample = ReservoirSample(_SAMPLE_SIZE)
    recordings = size_bytes = 0
    for found in list_objects(s3, scope.bucket, scope.prefix):
        if not scope.contains(found):
            continue
        recordings += 1
        size_bytes += found.size_bytes
        result_key = result_key_for(found.key, prefix)
        if result_key in stored:
            sample.offer(result_key)
    read = list(read_results(s3, stack.results_bucket, sample.items))
    return Forecast(recordings, size_bytes, sample.seen, len(read), *estimate_from(read, fingerprint, stack.speakers))


def estimate_from(
    results: Iterable[StoredResult], fingerprint: str | None, speakers: str = "off"
) -> tuple[float, float | None]:
    """Return the share of results that are done, and the function's mean time for a recording in seconds.

    The mean excludes failures: refused recordings take almost no time, so the estimate would be too low.
    """
    stored = list(results)
    done = [found for found in stored if is_done(found, fingerprint, speakers)]
    times = [found.result.processing for found in stored if found.result and found.result.status != "failed"]
    seconds = [(time.decode_ms + time.inference_ms) / 1000 for time in times]
    return len(done) / len(stored) if stored else 0.0, sum(seconds) / len(seconds) if seconds else None


def is_done(found: StoredResult, fingerprint: str | None, speakers: str = "off") -> bool:
    """Return whether a result is final for this model and these speakers, so that the function skips its recording."""
    if found.result is None or found.result.model.fingerprint != fingerprint:
        return False
    if not has_speakers(found.speakers, speakers):
        return False
    error = found.result.error
    return is_final(found.state, error.code if error else None, retry_recoverable=True)


def activate(lambda_client: Any, stack: DeployedStack) -> None:
    """Invoke the version for the next job once, without a recording, and wait until it is active.

    Lambda deactivates a version of an image that was not invoked for weeks. It rejects the first invocation, and the
    tasks of a job would fail meanwhile. The invocation also shows that the function starts.

    Raises
    ------
    AwsRefused
        If the function does not start, or AWS cannot be reached or refuses the request.
    """
    answer = invoke(lambda_client, stack.backfill_version_arn, _NO_TASKS, "the backfill function")
    if error := error_of(answer):
        raise AwsRefused(f"The backfill function does not start: {error[1]}")


def job_request(stack: DeployedStack, scope: Scope) -> dict[str, Any]:
    """Return the parameters of `CreateJob`."""
    job_filter: dict[str, Any] = {}
    if scope.prefix:
        job_filter["KeyNameConstraint"] = {"MatchAnyPrefix": [scope.prefix]}
    if scope.created_after:
        job_filter["CreatedAfter"] = scope.created_after
    generator: dict[str, Any] = {
        "ExpectedBucketOwner": stack.account,
        "SourceBucket": stack.bucket_arn(scope.bucket),
        # Nothing reads the list after the job, and keeping it would need one more permission.
        "EnableManifestOutput": False,
        **({"Filter": job_filter} if job_filter else {}),
    }
    return {
        "AccountId": stack.account,
        # The command line has already asked for confirmation.
        "ConfirmationRequired": False,
        "Operation": {
            "LambdaInvoke": {"FunctionArn": stack.backfill_version_arn, "InvocationSchemaVersion": "2.0"},
        },
        "ManifestGenerator": {"S3JobManifestGenerator": generator},
        "Report": {
            "Bucket": stack.bucket_arn(stack.results_bucket),
            "Prefix": REPORTS_PREFIX,
            "Format": "Report_CSV_20180820",
            "Enabled": True,
            "ReportScope": "FailedTasksOnly",
            "ExpectedBucketOwner": stack.account,
        },
        "Description": f"Audio Emotion: s3://{scope.bucket}/{scope.prefix}"[:256],
        "Priority": _PRIORITY,
        "RoleArn": stack.batch_operations_role_arn,
        "ClientRequestToken": str(uuid.uuid4()),
    }


def create_job(s3control: Any, stack: DeployedStack, scope: Scope) -> str:
    """Start the job and return its id.

    Raises
    ------
    OperationFailed
        If S3 refuses the job.
    """
    with aws_errors("the job"):
        answer = s3control.create_job(**job_request(stack, scope))
    return str(answer["JobId"])


@dataclass(frozen=True)
class JobState:
    """The progress of a job."""

    status: str
    tasks: int
    succeeded: int
    failed: int
    why: str = ""


def job_states(s3control: Any, stack: DeployedStack, job_id: str) -> Iterator[JobState]:
    """Yield the job's current progress in each iteration, until the job has ended.

    Raises
    ------
    OperationFailed
        If S3 cannot be reached or refuses the request.
    """
    while True:
        with aws_errors(f"the job {job_id}"):
            job = s3control.describe_job(AccountId=stack.account, JobId=job_id)["Job"]
        progress = job.get("ProgressSummary", {})
        yield JobState(
            status=job["Status"],
            tasks=progress.get("TotalNumberOfTasks", 0),
            succeeded=progress.get("NumberOfTasksSucceeded", 0),
            failed=progress.get("NumberOfTasksFailed", 0),
            why=" ".join(reason.get("FailureReason", "") for reason in job.get("FailureReasons", [])),
        )
        if job["Status"] in ENDED:
            return
