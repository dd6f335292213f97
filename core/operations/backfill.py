"""A backfill: S3 Batch Operations takes the function through uploads that are there already.

S3 lists the objects, invokes the function for each, repeats what fails and writes a report; a job may have billions. A
recording that has its result by the very same model costs an invocation of some milliseconds and no inference, so the
job need not know which those are. What it will take is judged from results that are there.
"""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.delivery import is_final
from core.delivery.keys import is_folder_marker, result_key_for
from core.operations.deployed_stack import DeployedStack, aws_errors
from core.operations.requests import LEASE_PUTS, READS_IF_DONE, RESULT_PUTS, RESULT_READS, UPLOAD_READS
from core.operations.results import StoredResult, read_results
from core.operations.s3_listing import ReservoirSample, S3Object, listed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REPORTS_PREFIX = "backfill"
"""Of the results bucket; the role of a job may write nowhere else."""

_SAMPLE = 200
"""Results that are read to judge the others by: a share is then known to within seven points."""
_PRIORITY = 10
ENDED = ("Complete", "Failed", "Cancelled")


@dataclass(frozen=True)
class Prices:
    """List prices of us-east-1 in US dollars, on x86. A DELETE is free."""

    job: float = 0.25
    object: float = 1.0e-6
    invocation: float = 0.2e-6
    gb_s: float = 16.6667e-6
    s3_put: float = 5e-6
    s3_get: float = 0.4e-6


@dataclass(frozen=True)
class Scope:
    """Which uploads."""

    bucket: str
    prefix: str = ""
    created_after: datetime | None = None

    def holds(self, found: S3Object) -> bool:
        """Whether an object is one of them; a folder marker never is."""
        is_new = self.created_after is None or found.modified_at > self.created_after
        return is_new and not is_folder_marker(found.key, found.size_bytes)


@dataclass(frozen=True)
class Forecast:
    """What a backfill has before it.

    Attributes
    ----------
    with_result
        Recordings that have a result of any kind.
    share_done
        Of those, how many are of this very model and final, judged from `sampled` of them.
    seconds_each
        The function's time for a recording, from those that did not fail; None if there is nothing to judge from.
    """

    recordings: int
    size_bytes: int
    with_result: int
    sampled: int
    share_done: float
    seconds_each: float | None

    @property
    def to_classify(self) -> int:
        """About how many cost inference."""
        return self.recordings - round(self.with_result * self.share_done)

    @property
    def work_s(self) -> float | None:
        """The function's time in all."""
        return None if self.seconds_each is None else self.to_classify * self.seconds_each

    def cost_usd(self, memory_size_mb: int, prices: Prices | None = None) -> float | None:
        """What it costs, at list prices; None if there is nothing to judge from."""
        if self.work_s is None:
            return None
        prices = prices or Prices()
        done = self.recordings - self.to_classify
        puts = self.to_classify * (RESULT_PUTS + LEASE_PUTS)
        reads = self.to_classify * (UPLOAD_READS + RESULT_READS) + done * READS_IF_DONE
        a_recording = prices.object + prices.invocation
        return (
            prices.job
            + self.recordings * a_recording
            + self.work_s * memory_size_mb / 1024 * prices.gb_s
            + puts * prices.s3_put
            + reads * prices.s3_get
        )  # fmt: skip


def forecast(s3: "S3Client", stack: DeployedStack, scope: Scope, fingerprint: str | None) -> Forecast:
    """Count the recordings, and judge from some of their results what they will take.

    Parameters
    ----------
    fingerprint
        Of the model that the function has; None if it is not known here, and then nothing counts as done.
    """
    prefix = stack.results_prefix
    stored = {found.key for found in listed(s3, stack.results_bucket, prefix + scope.prefix)}
    sample = ReservoirSample(_SAMPLE)
    recordings = size_bytes = 0
    for found in listed(s3, scope.bucket, scope.prefix):
        if not scope.holds(found):
            continue
        recordings += 1
        size_bytes += found.size_bytes
        result_key = result_key_for(found.key, prefix)
        if result_key in stored:
            sample.offer(result_key)
    read = list(read_results(s3, stack.results_bucket, sample.items))
    return Forecast(recordings, size_bytes, sample.seen, len(read), *judged(read, fingerprint))


def judged(results: Iterable[StoredResult], fingerprint: str | None) -> tuple[float, float | None]:
    """The share of results that are done with, and the mean time that each took, in seconds.

    Failures are left out of the mean: what was given up or refused took no time, and would make the rest look cheap.
    """
    known = list(results)
    done = [found for found in known if is_done(found, fingerprint)]
    heard = [found.result.processing for found in known if found.result and found.result.status != "failed"]
    seconds = [(times.decode_ms + times.inference_ms) / 1000 for times in heard]
    return len(done) / len(known) if known else 0.0, sum(seconds) / len(seconds) if seconds else None


def is_done(found: StoredResult, fingerprint: str | None) -> bool:
    """Whether a result is this model's last word, so that the function will not work on its recording again."""
    if found.result is None or found.result.model.fingerprint != fingerprint:
        return False
    error = found.result.error
    return is_final(found.state, error.code if error else None, anew=True)


def job_request(stack: DeployedStack, scope: Scope) -> dict[str, Any]:
    """What S3 is asked for: parameters of `CreateJob`."""
    only: dict[str, Any] = {}
    if scope.prefix:
        only["KeyNameConstraint"] = {"MatchAnyPrefix": [scope.prefix]}
    if scope.created_after:
        only["CreatedAfter"] = scope.created_after
    generator: dict[str, Any] = {
        "ExpectedBucketOwner": stack.account,
        "SourceBucket": stack.bucket_arn(scope.bucket),
        # The list is made for this job alone; kept, it would need a right more.
        "EnableManifestOutput": False,
        **({"Filter": only} if only else {}),
    }
    return {
        "AccountId": stack.account,
        # Whoever called was asked already.
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
    """Have S3 begin; returns the job's id.

    Raises
    ------
    OperationFailed
        If S3 will not.
    """
    with aws_errors("the job"):
        answer = s3control.create_job(**job_request(stack, scope))
    return str(answer["JobId"])


@dataclass(frozen=True)
class JobState:
    """How far a job is."""

    status: str
    tasks: int
    succeeded: int
    failed: int
    why: str = ""


def job_states(s3control: Any, stack: DeployedStack, job_id: str) -> Iterator[JobState]:
    """How far a job is, whenever the caller asks, until it has ended."""
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
