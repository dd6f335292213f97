"""A benchmark of a deployed function: its times, what Lambda reports, and what a thousand hours would cost."""

import base64
import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from core.benchmark import Answer
from core.errors import AwsRefused, OperationFailed
from core.operations.costs import CALL, CLIP, S3_WAIT_S, Workload, lambda_usd
from core.operations.deployed_stack import aws_errors
from core.operations.invocation import error_of, invoke

MAX_TIMEOUT_S = 900
"""Lambda's longest timeout."""

_ADVICE = "Name the function of a stack that classifies uploads, and deploy the stack again if it has another version."
_REPORT = re.compile(
    r"^REPORT RequestId: \S+\s+Duration: [\d.]+ ms\s+Billed Duration: (?P<billed>\d+) ms\s+Memory Size: \d+ MB\s+"
    r"Max Memory Used: (?P<memory>\d+) MB(?:\s+Init Duration: (?P<init>[\d.]+) ms)?",
    re.MULTILINE,
)
"""The last line of an invocation's log (https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html)."""


@dataclass(frozen=True)
class FunctionConfiguration:
    """The configuration of a function, as Lambda returns it."""

    name: str
    region: str
    architecture: str
    memory_mb: int
    timeout_s: int
    tmp_mb: int


@dataclass(frozen=True)
class LambdaReport:
    """Lambda's report of an invocation.

    Attributes
    ----------
    init_ms
        Duration of the init phase; None if the invocation was not a cold start.
    """

    billed_ms: int
    max_memory_mb: int
    init_ms: float | None


@dataclass(frozen=True)
class FunctionBenchmark:
    """A benchmark of a deployed function; `report` is None if Lambda returned none."""

    function: FunctionConfiguration
    answer: Answer
    report: LambdaReport | None

    def service_s(self, workload: Workload) -> float:
        """Return the time that Lambda bills for `CLIP` or `CALL`, of which the built-in call is a short one."""
        if workload is CLIP:
            return self.answer.clips[2].median_total_ms / 1000 + S3_WAIT_S
        call = self.answer.call
        return call.median_total_ms / 1000 * CALL.duration_s / call.duration_s + S3_WAIT_S

    def usd(self, workload: Workload) -> float:
        """Return dollars for a thousand hours with this function's memory, /tmp and architecture."""
        function = self.function
        service_s = self.service_s(workload)
        return lambda_usd(workload, service_s, function.memory_mb, function.architecture, tmp_mb=function.tmp_mb)


def run_on(lambda_client: Any, function: str, rounds: int) -> FunctionBenchmark:
    """Invoke a function with the benchmark event.

    Parameters
    ----------
    function
        Name or ARN.
    rounds
        How often each recording is classified, at most.

    Raises
    ------
    OperationFailed
        If AWS refuses the request, or the function cannot run the benchmark.
    """
    what = f"the function {function}"
    with aws_errors(what, unknown="Function not found"):
        described = lambda_client.get_function(FunctionName=function)["Configuration"]
    configuration = FunctionConfiguration(
        name=described["FunctionName"],
        region=lambda_client.meta.region_name,
        architecture=described.get("Architectures", ["x86_64"])[0],
        memory_mb=described["MemorySize"],
        timeout_s=described["Timeout"],
        tmp_mb=described.get("EphemeralStorage", {}).get("Size", 512),
    )
    answered = invoke(lambda_client, function, {"benchmark": {"rounds": rounds}}, what, LogType="Tail")
    if error := error_of(answered):
        raise _failure(what, *error)
    try:
        answer = Answer.model_validate_json(answered["Payload"].read())
    except ValidationError as invalid:
        raise OperationFailed(f"The answer of {what} is not that of this version's benchmark. {_ADVICE}") from invalid
    return FunctionBenchmark(configuration, answer, _report(answered))


def _failure(what: str, kind: str, message: str) -> OperationFailed:
    if kind == "EventNotUnderstood":
        return OperationFailed(f"{what[0].upper()}{what[1:]} does not accept the benchmark: {message} {_ADVICE}")
    if kind == "BenchmarkFailed":
        return OperationFailed(message)
    return AwsRefused(f"{what[0].upper()}{what[1:]} failed: {message}")


def _report(answered: dict[str, Any]) -> LambdaReport | None:
    tail = base64.b64decode(answered.get("LogResult", "")).decode("utf-8", "replace")
    found = _REPORT.search(tail)
    if found is None:
        return None
    return LambdaReport(int(found["billed"]), int(found["memory"]), float(found["init"]) if found["init"] else None)
