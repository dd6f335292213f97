"""The memory of a training."""

import subprocess
import sys

from tests.conftest import ROOT

CLEARED_PAGES = """
import ctypes, resource, sys
from core.training.memory import keep_freed_memory

if sys.argv[1:]:
    keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
for _ in range(10):
    block = ctypes.c_void_p(library.malloc(64 << 20))
    library.memset(block, 1, 64 << 20)
    library.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def test_freed_memory_is_used_again() -> None:
    def cleared_pages(*arguments: str) -> int:
        command = [sys.executable, "-c", CLEARED_PAGES, *arguments]
        return int(subprocess.run(command, check=True, cwd=ROOT, capture_output=True).stdout)

    assert cleared_pages("keep") < cleared_pages() / 3
