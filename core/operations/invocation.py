"""A synchronous invocation of a function, which waits until an inactive function is active."""

import json
from typing import Any

from botocore.exceptions import ClientError

from core.errors import AwsRefused
from core.operations.deployed_stack import aws_errors

_NOT_ACTIVE = ("CodeArtifactUserPendingException", "ResourceConflictException", "ResourceNotReadyException")
"""Lambda's errors for a version that is inactive or pending. The first is not in its API's reference
(https://github.com/boto/boto3/issues/3788)."""
_THROTTLED = "TooManyRequestsException"


def invoke(lambda_client: Any, function: str, event: Any, what: str, **options: Any) -> dict[str, Any]:
    """Invoke a function and return Lambda's answer, in which `FunctionError` marks an error of the function.

    Parameters
    ----------
    function
        Name or ARN of the function.
    what
        The function in words, for messages.
    options
        Further parameters of Lambda's `Invoke`.

    Raises
    ------
    StackUnknown
        If the function does not exist.
    AwsRefused
        If AWS cannot be reached, throttles the invocation or refuses it.
    """
    request = {"FunctionName": function, "Payload": json.dumps(event), **options}
    with aws_errors(what, unknown="Function not found"):
        try:
            answer = lambda_client.invoke(**request)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == _THROTTLED:
                raise AwsRefused(
                    f"Lambda throttled {what}: all of its concurrency, or of the account's, is in use. Try again when "
                    "fewer recordings are processed."
                ) from error
            if code not in _NOT_ACTIVE:
                raise
            lambda_client.get_waiter("function_active_v2").wait(FunctionName=function)
            answer = lambda_client.invoke(**request)
    return dict(answer)


def error_of(answer: dict[str, Any]) -> tuple[str, str] | None:
    """Return the type and the message of a function's error, or None if the function succeeded."""
    if "FunctionError" not in answer:
        return None
    described = json.load(answer["Payload"])
    return described.get("errorType", ""), described.get("errorMessage", answer["FunctionError"])
