"""The function's handler, which also records every pass through the pipeline.

The function's log has one line for each delivery, but none for inference whose result was lost. Each pass appends two
lines to the file in SOAK_NOTES, at its start and at its end. A killed pass appends only the first.
"""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.deadline import Deadline
from core.pipeline import Advance, Pipeline
from core.results import Result, Source
from core.resumption import ProgressStore
from core.settings import SpeakerMode
from handlers import s3_upload

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

_notes = os.open(os.environ["SOAK_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_run = Pipeline.run
_request_ids: list[str] = []


def _note(what: str, source: Source) -> None:
    line = {"what": what, "at_s": time.time(), "pid": os.getpid(), "request_id": _request_ids[-1]}
    # A single write to a file opened for appending, so that the lines of several processes do not mix.
    os.write(_notes, json.dumps({**line, "key": source.key, "version_id": source.version_id}).encode() + b"\n")


def _noted(
    self: Pipeline,
    path: Path,
    source: Source,
    *,
    deadline: Deadline | None = None,
    store: ProgressStore | None = None,
    speakers: SpeakerMode | None = None,
    advance: Advance | None = None,
) -> Result:
    _note("begun", source)
    try:
        return _run(self, path, source, deadline=deadline, store=store, speakers=speakers, advance=advance)
    finally:
        _note("ended", source)


Pipeline.run = _noted  # type: ignore[method-assign]


def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Handle one event as the function does."""
    _request_ids.append(context.aws_request_id)
    answer: dict[str, Any] = s3_upload.handler(event, context)
    return answer
