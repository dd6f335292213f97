"""Helpers of the commands that work on a deployed stack."""

import os
from typing import Any

import boto3
from botocore.config import Config
from rich.console import Console

from core.operations.deployed_stack import DeployedStack, aws_errors, find_stack, stack_name_from_bucket

_BYTES_PER_GB = 1e9


def named_stack(name: str, bucket: str | None) -> DeployedStack:
    """Return the stack of an uploads bucket if one is given, or the stack of this name.

    Raises
    ------
    StackUnknown
        If the stack does not exist, or the name is not that of an uploads bucket.
    AwsRefused
        If CloudFormation cannot be reached or refuses the request.
    """
    return find_stack(stack_name_from_bucket(bucket) if bucket else name, aws_client("cloudformation"))


def aws_client(service: str, *, region: str | None = None, config: Config | None = None) -> Any:
    """Return a client for a region, by default that in AWS_REGION, as the AWS CLI does, or else boto3's.

    Raises
    ------
    AwsRefused
        If no region is set, or the AWS configuration is invalid.
    """
    region = region or os.environ.get("AWS_REGION")
    options: dict[str, Any] = {
        **({"region_name": region} if region else {}),
        **({"config": config} if config else {}),
    }
    with aws_errors(f"a client of {service}"):
        return boto3.client(service, **options)  # type: ignore[call-overload]


def aws_console() -> Console:
    """Return a console that prints commands and URLs on one line each, so that they can be copied."""
    return Console(highlight=False, soft_wrap=True)


def gigabytes(size_bytes: int) -> str:
    """Format a size in gigabytes (10^9 bytes)."""
    return f"{size_bytes / _BYTES_PER_GB:,.3f} GB"
