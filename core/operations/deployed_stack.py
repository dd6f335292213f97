"""A deployed stack, read from its outputs and parameters in CloudFormation."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from core.errors import AwsRefused, StackUnknown

_UPLOADS_BUCKET = re.compile(r"(?P<stack>.+)-uploads-\d{12}-[a-z0-9-]+")


@dataclass(frozen=True)
class DeployedStack:
    """A stack on AWS.

    Attributes
    ----------
    backfill_concurrency
        Maximum number of recordings that a backfill classifies at once; 0 if only the account's limit applies.
    architecture
        Architecture of the functions' processors, `x86_64` or `arm64`.
    """

    name: str
    uploads_bucket: str
    results_bucket: str
    results_prefix: str
    queue_url: str
    dead_letter_queue_url: str
    dead_letter_queue_arn: str
    backfill_version_arn: str
    batch_operations_role_arn: str
    memory_size_mb: int
    timeout_s: int
    backfill_concurrency: int
    log_retention_days: int
    speakers: str = "off"
    architecture: str = "x86_64"

    @property
    def classify_function(self) -> str:
        """The name of the function that classifies uploads."""
        return f"{self.name}-classify"

    @property
    def log_groups(self) -> tuple[str, ...]:
        """The log groups that contain keys of recordings."""
        return tuple(f"/aws/lambda/{self.name}-{function}" for function in ("classify", "backfill"))

    @property
    def account(self) -> str:
        """The AWS account of the stack."""
        return self.backfill_version_arn.split(":")[4]

    @property
    def partition(self) -> str:
        """`aws`, or another AWS partition such as `aws-cn`."""
        return self.backfill_version_arn.split(":")[1]

    def bucket_arn(self, bucket: str) -> str:
        """Return the ARN of one of the stack's buckets."""
        return f"arn:{self.partition}:s3:::{bucket}"


def find_stack(name: str, cloudformation: Any) -> DeployedStack:
    """Return the stack of this name.

    Raises
    ------
    StackUnknown
        If no stack has this name, or another template made it.
    AwsRefused
        If CloudFormation cannot be reached or refuses the request.
    """
    with aws_errors(f"the stack {name}", unknown="does not exist"):
        stacks = cloudformation.describe_stacks(StackName=name)["Stacks"]
    if not stacks:
        raise StackUnknown(f"AWS cannot find the stack {name} in this account and region.")
    [stack] = stacks
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    parameters = {given["ParameterKey"]: given["ParameterValue"] for given in stack.get("Parameters", [])}
    try:
        return DeployedStack(
            name=name,
            uploads_bucket=outputs["UploadsBucketName"],
            results_bucket=outputs["ResultsBucketName"],
            results_prefix=parameters["ResultsPrefix"],
            queue_url=outputs["QueueUrl"],
            dead_letter_queue_url=outputs["DeadLetterQueueUrl"],
            dead_letter_queue_arn=outputs["DeadLetterQueueArn"],
            backfill_version_arn=outputs["BackfillVersionArn"],
            batch_operations_role_arn=outputs["BatchOperationsRoleArn"],
            memory_size_mb=int(parameters["MemorySizeMb"]),
            timeout_s=int(parameters["TimeoutS"]),
            backfill_concurrency=int(parameters["BackfillConcurrency"]),
            log_retention_days=int(parameters["LogRetentionDays"]),
            speakers=parameters.get("Speakers", "off"),
            architecture=parameters.get("Architecture", "x86_64"),
        )
    except KeyError as error:
        raise StackUnknown(
            f"The stack {name} has no {error.args[0]}: it was deployed with an older or a different template. "
            "Deploy it again."
        ) from error


def stack_name_from_bucket(bucket: str) -> str:
    """Return the name of an uploads bucket's stack, with which template.yaml begins the bucket's name.

    Raises
    ------
    StackUnknown
        If the name is not that of an uploads bucket.
    """
    match = _UPLOADS_BUCKET.fullmatch(bucket)
    if match is None:
        raise StackUnknown(
            f"{bucket} is not the name of a stack's uploads bucket, such as STACK-uploads-123456789012-REGION."
        )
    return match["stack"]


@contextmanager
def aws_errors(what: str, *, unknown: str | None = None) -> Iterator[None]:
    """Translate AWS errors into one sentence for the operator.

    Parameters
    ----------
    what
        The resource of the request, such as "the queue NAME".
    unknown
        Part of AWS's message for a resource that does not exist.

    Raises
    ------
    StackUnknown
        If AWS's message contains `unknown`.
    AwsRefused
        On every other error.
    """
    try:
        yield
    except ClientError as error:
        about = error.response.get("Error", {})
        if unknown and unknown in about.get("Message", ""):
            raise StackUnknown(f"AWS cannot find {what} in this account and region.") from error
        raise AwsRefused(f"AWS refused the request for {what}: {about.get('Message') or about.get('Code')}") from error
    except NoRegionError as error:
        raise AwsRefused("No AWS region is set. Set AWS_REGION, or a region in the AWS configuration.") from error
    except BotoCoreError as error:
        # botocore's own message explains missing credentials, a missing region and network errors.
        raise AwsRefused(f"The request for {what} failed: {error}") from error
