"""Lambda entry point for S3 Batch Operations, which runs a backfill with one task per recording.

S3 retries a task after a temporary failure, but does not document how often. The last attempt is unknown, so no attempt
writes a `given_up` result. A recording whose task fails keeps its stored result, and the job's report lists the task.

A backfill classifies recoverable failures again, because a setting may have changed or a recording may have been
restored. If a recording takes longer than one invocation, the uploads' queue gets the rest, and the task succeeds.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from aws_lambda_powertools.metrics import MetricUnit

from core.delivery import Outcome, Upload
from core.delivery.versions import known_version_id
from core.errors import EventNotUnderstood, TransientError
from core.results.verdict import verdict
from handlers import processing
from handlers.log import logger
from handlers.processing import metrics

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_SCHEMAS = ("1.0", "2.0")
_MAX_RESULT_STRING_CHARS = 1024
"""S3's limit for the text of a task in the job's report."""


@metrics.log_metrics(capture_cold_start_metric=True)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Process every task and return its outcome.

    The task of a recording that cannot be classified succeeds, and its `failed` result says why. S3 stops a job after
    more than half of its tasks have failed, and a folder of damaged files must not stop it.

    Raises
    ------
    EventNotUnderstood
        If the event does not come from S3 Batch Operations.
    """
    metrics.add_metric("Invocations", MetricUnit.Count, 1)
    if event.get("invocationSchemaVersion") not in _SCHEMAS or not isinstance(event.get("tasks"), list):
        raise EventNotUnderstood(f"The event is not a task of S3 Batch Operations in schema {' or '.join(_SCHEMAS)}.")
    invocation = processing.Invocation(processing.delivery(), context)
    return {
        "invocationSchemaVersion": event["invocationSchemaVersion"],
        # The answer has a result for every task. S3 would retry a task without one.
        "treatMissingKeysAs": "TemporaryFailure",
        "invocationId": event.get("invocationId"),
        "results": [_result(task, invocation) for task in event["tasks"]],
    }


def _result(task: Mapping[str, Any], invocation: processing.Invocation) -> dict[str, Any]:
    attempt = replace(invocation.attempt, retry_recoverable=True, origin="backfill")
    try:
        code, text = "Succeeded", _describe(invocation.process(upload_of(task), attempt))
    except EventNotUnderstood as error:
        logger.error("task not understood", task=task, reason=str(error))
        code, text = "PermanentFailure", str(error)
    except TransientError as error:
        code, text = "TemporaryFailure", str(error)
    except Exception as error:  # noqa: BLE001 (logged already; a retry may succeed)
        code, text = "TemporaryFailure", f"{type(error).__name__}: {error}"
    return {"taskId": task.get("taskId"), "resultCode": code, "resultString": text[:_MAX_RESULT_STRING_CHARS]}


def upload_of(task: Mapping[str, Any]) -> Upload:
    """Return the upload that a task names, in either schema.

    Raises
    ------
    EventNotUnderstood
        If the task does not name a bucket and a key.
    """
    # Schema 1.0 has the bucket's ARN, with or without region and account. Schema 2.0 has the bucket's name.
    bucket = task.get("s3Bucket") or str(task.get("s3BucketArn") or "").rpartition(":")[2]
    key = task.get("s3Key")
    if not bucket or not isinstance(key, str) or not key:
        raise EventNotUnderstood("The task does not name a bucket and a key.")
    # Keys are form-encoded, as in a manifest.
    return Upload(bucket=bucket, key=unquote_plus(key), version_id=known_version_id(task.get("s3VersionId")))


def _describe(outcome: Outcome) -> str:
    result = outcome.result
    if result is None:
        return outcome.kind
    if result.error:
        return f"failed: {result.error.code}"
    return f"{result.status}: {verdict(result.utterances)}" if result.utterances else result.status


processing.warm_up()
