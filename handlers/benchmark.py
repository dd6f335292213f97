"""The benchmark event, with which `audio-emotion benchmark` invokes the function for uploads directly.

The event is `{"benchmark": {"rounds": 5}}` and has no other key. The events of SQS, S3, SNS and EventBridge all have
others, and the body of a message is parsed as an event of S3 only (`handlers.events`), so no upload starts a benchmark.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from core import settings
from core.errors import EventNotUnderstood
from core.model.classifier import default_threads
from core.settings import ModelSettings
from handlers import processing
from handlers.log import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from core.benchmark import Request

KEY = "benchmark"


def is_benchmark(event: Mapping[str, Any]) -> bool:
    """Return whether the event asks for a benchmark, in a valid form or not."""
    return isinstance(event, dict) and KEY in event


def request_in(event: Mapping[str, Any]) -> "Request":
    """Return the options of a benchmark event.

    Raises
    ------
    EventNotUnderstood
        If the event has another key, an unknown field or an invalid value.
    """
    from core.benchmark import Request

    if others := sorted(map(str, set(event) - {KEY})):
        raise EventNotUnderstood(f"A benchmark event has the key {KEY} only, not {', '.join(others)}.")
    try:
        return Request.model_validate(event[KEY])
    except ValidationError as error:
        problems = "; ".join(".".join(map(str, (KEY, *each["loc"]))) + f": {each['msg']}" for each in error.errors())
        raise EventNotUnderstood(f"The benchmark event is invalid: {problems}.") from error


def answer(event: Mapping[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Run the benchmark and return its outcome as JSON.

    Raises
    ------
    EventNotUnderstood
        If the event is invalid.
    BenchmarkFailed
        If the built-in speech cannot be classified in time.
    """
    from core.benchmark import run  # an upload needs none of this

    request = request_in(event)
    delivery = processing.delivery()
    deadline = processing.Invocation(delivery, context).attempt.deadline
    outcome = run(request, delivery.pipeline, deadline, default_threads(settings.read(ModelSettings)))
    logger.info("benchmark", rounds=outcome.rounds, call_ms=outcome.call.median_total_ms)
    return outcome.model_dump(mode="json")
