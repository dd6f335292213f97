"""What a role of the template allows, and what rights a call to AWS takes."""

import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

from tests.support.cloudformation import ACCOUNT, REGION, Deployed


@dataclass(frozen=True, order=True)
class Right:
    """An action on a resource; in a grant the resource may end in an asterisk."""

    action: str
    resource: str

    def covers(self, needed: "Right") -> bool:
        """Whether who holds this may do that."""
        return self.action == needed.action and fnmatch.fnmatchcase(needed.resource, _pattern(self.resource))


def _pattern(resource: str) -> str:
    return resource.replace("[", "[[]")


def as_list(value: Any) -> list[Any]:
    """IAM takes one of something for a list of it."""
    return value if isinstance(value, list) else [value]


def granted(stack: Deployed, role: str) -> set[Right]:
    """Every right that a role holds: by its own policies, and by those that are attached to it."""
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


def needed(service: str, operation: str, told: Mapping[str, Any]) -> set[Right]:
    """The rights that a call takes, as the Service Authorization Reference has it.

    A write or a deletion under the condition that the object is still the same takes the right to read it, too, by S3's
    user guide: "How to prevent object overwrites with conditional writes", "Enforce conditional deletes".

    Raises
    ------
    KeyError
        If the operation is not known here: add it, once it is clear that the function should call it.
    """
    if service == "s3":
        versioned = "Version" if told.get("VersionId") else ""
        action = {
            "HeadObject": f"s3:GetObject{versioned}",
            "GetObject": f"s3:GetObject{versioned}",
            "PutObject": "s3:PutObject",
            "DeleteObject": f"s3:DeleteObject{versioned}",
        }[operation]
        actions = {action, "s3:GetObject"} if told.get("IfMatch") else {action}
        return {Right(action, f"arn:aws:s3:::{told['Bucket']}/{told['Key']}") for action in actions}
    action = {("events", "PutEvents"): "events:PutEvents"}[service, operation]
    [bus] = {entry["EventBusName"] for entry in told["Entries"]}
    return {Right(action, f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{bus}")}


@contextmanager
def recorded() -> Iterator[list[Right]]:
    """The rights that every call takes which any client makes that is created within the block."""
    calls: list[Right] = []

    def note(params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if context.get("is_presign_request"):
            return  # nobody is called: botocore takes a CreateBucket for the address of an upload form
        calls.extend(sorted(needed(model.service_model.service_name, model.name, params)))

    # boto3.client() makes its clients from this session, and each takes over what listens there.
    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    events = boto3.DEFAULT_SESSION.events
    events.register("provide-client-params", note)
    try:
        yield calls
    finally:
        events.unregister("provide-client-params", note)
        boto3.setup_default_session()
