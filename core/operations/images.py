"""The images of a stack's functions in its ECR repository: which of them no function uses.

The repository's lifecycle rule (layers/repository.yaml) expires images with a tag that begins with `unused-`. A
deployment removes these tags first, and sets them again at its end. If it fails in between, no image expires.
"""

from collections.abc import Iterator
from typing import Any

from core.operations.deployed_stack import aws_errors

UNUSED = "unused-"
"""Beginning of the tags that the lifecycle rule selects."""

_FUNCTIONS = ("classify", "backfill", "api")
_UNFINISHED = [
    "Active",
    "Cancelling",
    "Completing",
    "Failing",
    "New",
    "Paused",
    "Pausing",
    "Preparing",
    "Ready",
    "Suspended",
]
"""States in which a job may still invoke its version."""


def remove_marks(ecr: Any, repository: str) -> None:
    """Remove the marks of unused images, because the next deployment may use one of them.

    Raises
    ------
    AwsRefused
        If ECR cannot be reached or refuses the request.
    """
    marks = [tag for image in _images(ecr, repository) for tag in image.get("imageTags", []) if tag.startswith(UNUSED)]
    for mark in marks:
        with aws_errors(f"the repository {repository}"):
            ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": mark}])


def mark_unused(ecr: Any, lambda_client: Any, repository: str, stack: str) -> int:
    """Mark the images that no version of the stack's functions uses, and return their number.

    Raises
    ------
    AwsRefused
        If AWS cannot be reached or refuses the request.
    """
    used = set(_used_digests(lambda_client, stack))
    unused = [image["imageDigest"] for image in _images(ecr, repository) if image["imageDigest"] not in used]
    for digest in unused:
        with aws_errors(f"the repository {repository}"):
            [image] = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])["images"]
            ecr.put_image(
                repositoryName=repository,
                imageManifest=image["imageManifest"],
                imageManifestMediaType=image["imageManifestMediaType"],
                imageTag=UNUSED + digest.removeprefix("sha256:")[:12],
            )
    return len(unused)


def delete_old_versions(lambda_client: Any, s3control: Any, account: str, stack: str) -> int:
    """Delete the versions of the backfill function that no job can invoke any more, and return their number.

    CloudFormation keeps every version, because a job is pinned to one.

    Raises
    ------
    AwsRefused
        If AWS cannot be reached or refuses the request.
    """
    function = f"{stack}-backfill"
    with aws_errors(f"the function {function}"):
        current = lambda_client.get_alias(FunctionName=function, Name="live")["FunctionVersion"]
    versions = {found["FunctionArn"]: found["Version"] for found in _versions(lambda_client, function)}
    pinned = set(_pinned_versions(s3control, account))
    old = [arn for arn, version in versions.items() if version not in ("$LATEST", current) and arn not in pinned]
    for arn in old:
        with aws_errors(f"the function version {arn}"):
            lambda_client.delete_function(FunctionName=arn)
    return len(old)


def _images(ecr: Any, repository: str) -> list[dict[str, Any]]:
    with aws_errors(f"the repository {repository}"):
        pages = ecr.get_paginator("describe_images").paginate(repositoryName=repository)
        return [image for page in pages for image in page["imageDetails"]]


def _used_digests(lambda_client: Any, stack: str) -> Iterator[str]:
    for name in _FUNCTIONS:
        for version in _versions(lambda_client, f"{stack}-{name}"):
            with aws_errors(f"the function {stack}-{name}"):
                code = lambda_client.get_function(FunctionName=version["FunctionArn"])["Code"]
            yield code["ResolvedImageUri"].partition("@")[2]


def _versions(lambda_client: Any, function: str) -> list[dict[str, Any]]:
    """Return the versions of a function, with `$LATEST`; none if the function does not exist."""
    with aws_errors(f"the function {function}"):
        try:
            pages = lambda_client.get_paginator("list_versions_by_function").paginate(FunctionName=function)
            return [version for page in pages for version in page["Versions"]]
        except lambda_client.exceptions.ResourceNotFoundException:
            return []  # a stack without the HTTP API


def _pinned_versions(s3control: Any, account: str) -> Iterator[str]:
    """Yield the function version of each unfinished job of the account."""
    request: dict[str, Any] = {"AccountId": account, "JobStatuses": _UNFINISHED}
    with aws_errors("the jobs of S3 Batch Operations"):
        while True:
            page = s3control.list_jobs(**request)
            for job in page.get("Jobs", []):
                described = s3control.describe_job(AccountId=account, JobId=job["JobId"])["Job"]
                if "LambdaInvoke" in described["Operation"]:
                    yield described["Operation"]["LambdaInvoke"]["FunctionArn"]
            if "NextToken" not in page:
                return
            request["NextToken"] = page["NextToken"]
