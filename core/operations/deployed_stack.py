"""Finding the parts of a deployed stack: CloudFormation knows its outputs and its parameters."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from core.errors import AwsRefused, StackUnknown

_UPLOADS_BUCKET = re.compile(r"(?P<stack>.+)-uploads-\d{12}-[a-z0-9-]+")


@dataclass(frozen=True)
class DeployedStack:
    """A stack on AWS.

    Attributes
    ----------
    backfill_concurrency
        How many recordings a backfill classifies at the same time; 0 if the account alone limits it.
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
    backfill_concurrency: int

    @property
    def account(self) -> str:
        """The account that it lies in."""
        return self.backfill_version_arn.split(":")[4]

    @property
    def partition(self) -> str:
        """`aws`, or another of Amazon's worlds."""
        return self.backfill_version_arn.split(":")[1]

    def bucket_arn(self, bucket: str) -> str:
        """The ARN of one of its buckets."""
        return f"arn:{self.partition}:s3:::{bucket}"


def find_stack(name: str, cloudformation: Any) -> DeployedStack:
    """Ask CloudFormation for a stack.

    Raises
    ------
    StackUnknown
        If there is none of this name, or it was made by another template.
    AwsRefused
        If CloudFormation cannot or will not say.
    """
    with aws_errors(f"the stack {name}", unknown="does not exist"):
        [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
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
            backfill_concurrency=int(parameters["BackfillConcurrency"]),
        )
    except KeyError as error:
        raise StackUnknown(
            f"The stack {name} has no {error.args[0]}: it is another template's, or an older one's; deploy it again."
        ) from error


def stack_of_bucket(bucket: str) -> str:
    """The name of the stack that an uploads bucket belongs to: template.yaml puts it first.

    Raises
    ------
    StackUnknown
        If the bucket is none of ours.
    """
    match = _UPLOADS_BUCKET.fullmatch(bucket)
    if match is None:
        raise StackUnknown(f"{bucket} is no stack's uploads bucket, whose name has -uploads- and an account in it.")
    return match["stack"]


@contextmanager
def aws_errors(what: str, *, unknown: str | None = None) -> Iterator[None]:
    """Tell what AWS answers to an operator in one sentence.

    Parameters
    ----------
    unknown
        What AWS says in its message if there is no such thing.
    """
    try:
        yield
    except ClientError as error:
        about = error.response.get("Error", {})
        if unknown and unknown in about.get("Message", ""):
            raise StackUnknown(f"There is no such thing as {what} in this account and region.") from error
        raise AwsRefused(f"AWS did not answer for {what}: {about.get('Message') or about.get('Code')}") from error
    except BotoCoreError as error:
        # Without credentials, without a region, without a network: botocore's own sentence says it best.
        raise AwsRefused(f"AWS could not be asked for {what}: {error}") from error
