"""The duration of this process's start and its peak memory, as the kernel reports them."""

import os
import time
from functools import cache
from pathlib import Path


@cache
def start_ms() -> int | None:
    """Return how long the start of this process took; None if the kernel does not report it.

    The first call marks the end of the start. The kernel stores the beginning in steps of ten milliseconds.
    """
    try:
        # The name of the program, in parentheses, may contain spaces. The start is the 22nd field of proc(5).
        after_name = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started_s = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return round((time.clock_gettime(time.CLOCK_BOOTTIME) - started_s) * 1000)
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def peak_memory_mb() -> int | None:
    """Return the peak of this process's resident memory, without its children; None if the kernel does not report it.

    Not getrusage, whose peak includes the parent process.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None
