"""The permissions that a role of the template grants, and those that a call to AWS needs."""

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product, starmap
from typing import Any

import boto3

from tests.support.cloudformation import ACCOUNT, REGION, Deployed

S3, SQS = (f"{service}.{REGION}.amazonaws.com" for service in ("s3", "sqs"))
"""The values of `kms:ViaService`."""
_VIA, _CONTEXT = "kms:ViaService", "kms:EncryptionContext:aws:s3:arn"


@dataclass(frozen=True, order=True)
class Right:
    """An action on a resource. The resource and the conditions of a granted right may end in an asterisk.

    Attributes
    ----------
    via
        The service that calls KMS for the function; empty for other actions.
    context
        The bucket or the object in the encryption context of a call to KMS. A granted right without it has no such
        condition.
    """

    action: str
    resource: str
    via: str = ""
    context: str = ""

    def covers(self, needed: "Right") -> bool:
        """Return whether this right includes another one."""
        return (
            self.action == needed.action
            and _matches(needed.resource, self.resource)
            and _matches(needed.via, self.via)
            and (not self.context or _matches(needed.context, self.context))
        )


def _matches(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def as_list(value: Any) -> list[Any]:
    """Return a list: IAM accepts a single value in place of a list."""
    return value if isinstance(value, list) else [value]


def granted(stack: Deployed, role: str) -> set[Right]:
    """Return the rights of a role, from its inline policies and its attached ones."""
    rights = set()
    name = stack.resolve({"Ref": role})
    attached = [policy for policy in stack.resources("AWS::IAM::Policy").values() if name in policy["Roles"]]
    for policy in [*stack.resources()[role]["Policies"], *attached]:
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
            conditions = statement.get("Condition", {"StringLike": {}})
            assert set(conditions) == {"StringLike"}
            assert set(conditions["StringLike"]) <= {_VIA, _CONTEXT}
            via, context = (as_list(conditions["StringLike"].get(name, "")) for name in (_VIA, _CONTEXT))
            rights |= set(
                starmap(Right, product(as_list(statement["Action"]), as_list(statement["Resource"]), via, context))
            )
    return rights


def needed(service: str, operation: str, parameters: Mapping[str, Any]) -> set[Right]:
    """Return the rights that a call needs according to AWS's Service Authorization Reference.

    A write or a deletion with `If-Match` also needs the right to read the object. See "How to prevent object overwrites
    with conditional writes" and "Enforce conditional deletes" in S3's user guide.

    Raises
    ------
    KeyError
        If the operation is unknown. Add it after checking that the function should call it.
    """
    actions, resource = _NEEDED[service](operation, parameters)
    return {Right(action, resource) for action in actions}


def _of_s3(operation: str, parameters: Mapping[str, Any]) -> tuple[set[str], str]:
    versioned = "Version" if parameters.get("VersionId") else ""
    action = {
        "HeadObject": f"s3:GetObject{versioned}",
        "GetObject": f"s3:GetObject{versioned}",
        "PutObject": "s3:PutObject",
        "DeleteObject": f"s3:DeleteObject{versioned}",
        "ListObjectsV2": "s3:ListBucket",
        "ListObjectVersions": "s3:ListBucketVersions",
    }[operation]
    key = f"/{parameters['Key']}" if "Key" in parameters else ""
    return {action, "s3:GetObject"} if parameters.get("IfMatch") else {
        action
    }, f"arn:aws:s3:::{parameters['Bucket']}{key}"


def _of_sqs(operation: str, parameters: Mapping[str, Any]) -> tuple[set[str], str]:
    """Return the rights on the queue.

    SQS moves messages in the caller's name. See "Configure queue permissions" of a redrive in the SQS developer guide.
    """
    queue = parameters["QueueUrl"].rpartition("/")[2] if "QueueUrl" in parameters else ""
    return {
        "ChangeMessageVisibility": {"sqs:ChangeMessageVisibility"},
        "DeleteMessage": {"sqs:DeleteMessage"},
        "GetQueueAttributes": {"sqs:GetQueueAttributes"},
        "ListMessageMoveTasks": {"sqs:ListMessageMoveTasks"},
        "ReceiveMessage": {"sqs:ReceiveMessage"},
        "SendMessage": {"sqs:SendMessage"},
        "StartMessageMoveTask": {
            "sqs:StartMessageMoveTask",
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
        },
    }[operation], parameters.get("SourceArn", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")


def _of_events(operation: str, parameters: Mapping[str, Any]) -> tuple[set[str], str]:
    [bus] = {entry["EventBusName"] for entry in parameters["Entries"]}
    return {{"PutEvents": "events:PutEvents"}[operation]}, f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{bus}"


def _of_lambda(operation: str, parameters: Mapping[str, Any]) -> tuple[set[str], str]:
    actions = {"Invoke": "InvokeFunction"}
    known = ("GetFunction", "GetAlias", "ListVersionsByFunction", "DeleteFunction")
    action = actions | {name: name for name in known}
    name = parameters["FunctionName"]
    resource = name if name.startswith("arn:") else f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    return {f"lambda:{action[operation]}"}, resource


def _of_jobs(operation: str, parameters: Mapping[str, Any]) -> tuple[set[str], str]:
    """Only an existing job is a resource."""
    known = {
        "CreateJob": "*",
        "ListJobs": "*",
        "DescribeJob": f"arn:aws:s3:{REGION}:{ACCOUNT}:job/{parameters.get('JobId')}",
    }
    return {f"s3:{operation}"}, known[operation]


def _of_ecr(operation: str, parameters: Mapping[str, Any]) -> tuple[set[str], str]:
    known = {name: f"ecr:{name}" for name in ("DescribeImages", "BatchGetImage", "BatchDeleteImage", "PutImage")}
    return {known[operation]}, f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{parameters['repositoryName']}"


def _of_cloudformation(operation: str, parameters: Mapping[str, Any]) -> tuple[set[str], str]:
    known = {"DescribeStacks": "cloudformation:DescribeStacks"}
    return {known[operation]}, f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{parameters['StackName']}/id"


def _of_cloudwatch(operation: str, _parameters: Mapping[str, Any]) -> tuple[set[str], str]:
    return {{"GetMetricStatistics": "cloudwatch:GetMetricStatistics"}[operation]}, "*"


_NEEDED: dict[str, Callable[[str, Mapping[str, Any]], tuple[set[str], str]]] = {
    "s3": _of_s3,
    "sqs": _of_sqs,
    "events": _of_events,
    "lambda": _of_lambda,
    "s3control": _of_jobs,
    "ecr": _of_ecr,
    "cloudformation": _of_cloudformation,
    "cloudwatch": _of_cloudwatch,
}


def needed_for_key(operation: str, parameters: Mapping[str, Any], answer: Mapping[str, Any]) -> set[Right]:
    """Return the rights on a KMS key that a call to S3 needs, according to S3's answer.

    S3 checks a bucket key with `kms:Decrypt` before a write. See "Reducing the cost of SSE-KMS with Amazon S3 Bucket
    Keys" in S3's user guide.
    """
    used = {"GetObject": ["kms:Decrypt"], "PutObject": ["kms:Decrypt", "kms:GenerateDataKey"]}
    if not answer.get("SSEKMSKeyId"):
        return set()
    bucket = f"arn:aws:s3:::{parameters['Bucket']}"
    context = bucket if answer.get("BucketKeyEnabled") else f"{bucket}/{parameters['Key']}"
    return {Right(action, answer["SSEKMSKeyId"], S3, context) for action in used.get(operation, [])}


@contextmanager
def recorded(queue_key: str | None = None) -> Iterator[list[Right]]:
    """Record the rights that the calls of all clients need that are created within the block.

    Parameters
    ----------
    queue_key
        The KMS key of the queue. SQS does not name it in its answers, as S3 does.
    """
    calls: list[Right] = []

    def note(params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if context.get("is_presign_request"):
            return  # no call: botocore prepares a CreateBucket to find the address of an upload form
        calls.extend(sorted(needed(model.service_model.service_name, model.name, params)))
        if queue_key and model.name == "SendMessage":
            calls.extend(Right(action, queue_key, SQS) for action in ("kms:Decrypt", "kms:GenerateDataKey"))
        context["recorded"] = params

    def note_key(parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if model.service_model.service_name == "s3" and "recorded" in context:
            calls.extend(sorted(needed_for_key(model.name, context["recorded"], parsed)))

    # boto3.client() uses this session, and each client inherits the session's event handlers.
    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    events = boto3.DEFAULT_SESSION.events
    events.register("provide-client-params", note)
    events.register("after-call", note_key)
    try:
        yield calls
    finally:
        events.unregister("provide-client-params", note)
        events.unregister("after-call", note_key)
        boto3.setup_default_session()
