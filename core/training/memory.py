"""The memory of a training."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, from its `malloc.h`."""


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tensors of this process; other C libraries ignore it.

    glibc returns large blocks to the kernel, which clears the pages of each tensor again:
    docs/decisions/0042-training.md.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
