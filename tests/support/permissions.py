"""The permissions that a role of the template grants, and those that a call to AWS needs."""

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

from tests.support.cloudformation import ACCOUNT, REGION, Deployed


@dataclass(frozen=True, order=True)
class Right:
    """An action on a resource. The resource of a granted right may end in an asterisk."""

    action: str
    resource: str

    def covers(self, needed: "Right") -> bool:
        """Return whether this right includes another one."""
        return self.action == needed.action and fnmatch.fnmatchcase(needed.resource, _pattern(self.resource))


def _pattern(resource: str) -> str:
    return resource.replace("[", "[[]")


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
            assert set(statement) <= {"Sid", "Effect", "Action", "Resource"}
            rights |= {
                Right(action, resource)
                for action in as_list(statement["Action"])
                for resource in as_list(statement["Resource"])
            }
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
    if service == "s3":
        versioned = "Version" if parameters.get("VersionId") else ""
        action = {
            "HeadObject": f"s3:GetObject{versioned}",
            "GetObject": f"s3:GetObject{versioned}",
            "PutObject": "s3:PutObject",
            "DeleteObject": f"s3:DeleteObject{versioned}",
        }[operation]
        actions = {action, "s3:GetObject"} if parameters.get("IfMatch") else {action}
        return {Right(action, f"arn:aws:s3:::{parameters['Bucket']}/{parameters['Key']}") for action in actions}
    if service == "sqs":
        action = {"ChangeMessageVisibility": "sqs:ChangeMessageVisibility", "SendMessage": "sqs:SendMessage"}[operation]
        return {Right(action, f"arn:aws:sqs:{REGION}:{ACCOUNT}:{parameters['QueueUrl'].rpartition('/')[2]}")}
    action = {("events", "PutEvents"): "events:PutEvents"}[service, operation]
    [bus] = {entry["EventBusName"] for entry in parameters["Entries"]}
    return {Right(action, f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{bus}")}


@contextmanager
def recorded() -> Iterator[list[Right]]:
    """Record the rights that the calls of all clients need that are created within the block."""
    calls: list[Right] = []

    def note(params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if context.get("is_presign_request"):
            return  # no call: botocore prepares a CreateBucket to find the address of an upload form
        calls.extend(sorted(needed(model.service_model.service_name, model.name, params)))

    # boto3.client() uses this session, and each client inherits the session's event handlers.
    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    events = boto3.DEFAULT_SESSION.events
    events.register("provide-client-params", note)
    try:
        yield calls
    finally:
        events.unregister("provide-client-params", note)
        boto3.setup_default_session()
