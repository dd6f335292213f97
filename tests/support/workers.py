"""The function's result for a recording, from the embedded stack and its workers."""

import time
from pathlib import Path

from core.local.folders import result_files
from core.local.stack import running_stack
from core.local.workers import running_workers

_TIMEOUT_S = 60.0


def function_result(aws_server: str, package: Path, recording: Path, folder: Path) -> str:
    """Upload a recording, and return the document that the function stores; its log is `folder / "function.log"`."""
    log = folder / "function.log"
    with (
        running_stack(endpoint=aws_server) as stack,
        running_workers(stack, package, log) as workers,
        result_files(stack, folder / "results", "local") as files,
    ):
        stack.upload(recording)
        give_up_at_s = time.monotonic() + _TIMEOUT_S
        while not (written := files.fetch_new()):
            assert time.monotonic() < give_up_at_s, log.read_text()
            workers.check()
            time.sleep(0.1)
    return written[0].read_text(encoding="utf-8")
