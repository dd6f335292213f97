"""Lambda entry point for S3 Batch Operations: a backfill, one recording a task, over the same pipeline as an upload.

S3 repeats a task that answers TemporaryFailure by itself, and does not say how often: no attempt is known to be the
last. So none leaves a `failed` result beforehand, as the queue's last delivery does. A recording that could not be
brought to its end keeps the result that it had, and the job's report names it.

Whoever begins a job may have turned a setting or restored a recording: what failed for want of that is tried again.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from aws_lambda_powertools.metrics import MetricUnit

from core.delivery import Outcome, Upload
from core.errors import EventNotUnderstood, TransientError
from handlers import processing
from handlers.events import known_version
from handlers.log import logger
from handlers.processing import metrics

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_SCHEMAS = ("1.0", "2.0")
_MAX_RESULT_STRING_CHARS = 1024
"""More of a task's text would not fit into a row of the job's report."""


@metrics.log_metrics(capture_cold_start_metric=True)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Work on every task, and say of each what became of it.

    A recording that cannot be classified has succeeded as a task: its `failed` result says why. Otherwise a folder of
    such files would end the job, which S3 gives up once more than half of the tasks have failed.

    Raises
    ------
    EventNotUnderstood
        If the event is no invocation by S3 Batch Operations.
    """
    metrics.add_metric("Invocations", MetricUnit.Count, 1)
    if event.get("invocationSchemaVersion") not in _SCHEMAS or not isinstance(event.get("tasks"), list):
        raise EventNotUnderstood(f"The event is no task of S3 Batch Operations of schema {' or '.join(_SCHEMAS)}.")
    invocation = processing.Invocation(processing.delivery(), context)
    return {
        "invocationSchemaVersion": event["invocationSchemaVersion"],
        # Of a task that our answer leaves out: there is none, and if there ever were, it had better come again.
        "treatMissingKeysAs": "TemporaryFailure",
        "invocationId": event.get("invocationId"),
        "results": [_result(task, invocation) for task in event["tasks"]],
    }


def _result(task: Mapping[str, Any], invocation: processing.Invocation) -> dict[str, Any]:
    try:
        code, text = "Succeeded", _told(invocation.process(upload_of(task), last=False, anew=True))
    except EventNotUnderstood as error:
        logger.error("task not understood", task=task, reason=str(error))
        code, text = "PermanentFailure", str(error)
    except TransientError as error:
        code, text = "TemporaryFailure", str(error)
    except Exception as error:  # noqa: BLE001 (in the log already; whatever it is, another try may fare better)
        code, text = "TemporaryFailure", f"{type(error).__name__}: {error}"
    return {"taskId": task.get("taskId"), "resultCode": code, "resultString": text[:_MAX_RESULT_STRING_CHARS]}


def upload_of(task: Mapping[str, Any]) -> Upload:
    """The upload that a task is about, in either schema.

    Raises
    ------
    EventNotUnderstood
        If the task names no object.
    """
    # Schema 1.0 has the bucket's ARN, with or without region and account; 2.0 has its name.
    bucket = task.get("s3Bucket") or str(task.get("s3BucketArn") or "").rpartition(":")[2]
    key = task.get("s3Key")
    if not bucket or not isinstance(key, str) or not key:
        raise EventNotUnderstood("The task names no bucket or no key.")
    # Keys come as they stand in a manifest: form-encoded.
    return Upload(bucket=bucket, key=unquote_plus(key), version_id=known_version(task.get("s3VersionId")))


def _told(outcome: Outcome) -> str:
    result = outcome.result
    if result is None:
        return outcome.kind
    if result.error:
        return f"failed: {result.error.code}"
    return f"{result.status}: {result.emotion} {result.score}" if result.emotion else result.status


processing.warm_up()
