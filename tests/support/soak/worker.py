"""The function's own handler, with a note of every pass through the pipeline: what `tests.support.soak.run` counts.

The function's log tells what became of each delivery, and says nothing of work that was done in vain. Each pass writes
two lines into the file that SOAK_NOTES names: when it begins, and when it ends. One that is killed writes no second.
"""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.deadline import Deadline
from core.pipeline import Pipeline
from core.results import Result, Source
from handlers import s3_upload

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_notes = os.open(os.environ["SOAK_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_run = Pipeline.run
_request_ids: list[str] = []


def _note(what: str, source: Source) -> None:
    line = {"what": what, "at_s": time.time(), "pid": os.getpid(), "request_id": _request_ids[-1]}
    # One write to a file opened for appending: several processes do not mix their lines.
    os.write(_notes, json.dumps({**line, "key": source.key, "version_id": source.version_id}).encode() + b"\n")


def _noted(
    self: Pipeline,
    path: Path,
    source: Source,
    *,
    deadline: Deadline | None = None,
) -> Result:
    _note("begun", source)
    try:
        return _run(self, path, source, deadline=deadline)
    finally:
        _note("ended", source)


Pipeline.run = _noted  # type: ignore[method-assign]


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Handle one event, as the function does."""
    _request_ids.append(context.aws_request_id)
    answer: dict[str, Any] = s3_upload.handler(event, context)
    return answer
