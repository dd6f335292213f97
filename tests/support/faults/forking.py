"""The process that forks workers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT
from tests.support.faults.world import RESULTS


@contextmanager
def forking_process(folder: Path) -> Iterator[str]:
    """Start the process that forks workers, and yield its address."""
    address = str(folder / "workers")
    environment = {
        **os.environ,
        # A process with threads cannot be forked safely, and OpenBLAS starts threads when it is imported.
        "OPENBLAS_NUM_THREADS": "1",
        "RESULTS_BUCKET": RESULTS,
        "POWERTOOLS_LOG_LEVEL": "CRITICAL",
        "POWERTOOLS_METRICS_DISABLED": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.faults.worker", address],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n", "the forking process did not start"
        yield address
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
