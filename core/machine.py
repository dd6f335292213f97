"""The processor of this machine, and the start and memory of this process, as the kernel reports them."""

import os
import platform
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Instructions that add products of 8-bit numbers in 32 bits. Arm's are `asimddp` and `i8mm`."""

_SHOWN_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")

_ARM_PARTS = {
    "0xd0c": "Neoverse N1 (Graviton2)",
    "0xd40": "Neoverse V1 (Graviton3)",
    "0xd4f": "Neoverse V2 (Graviton4)",
}
"""Arm's part numbers, as the kernel's `arch/arm64/include/asm/cputype.h` lists them, in AWS's processors."""


def processor_name() -> str:
    """Return the processor's name, or its architecture if the kernel does not report the name."""
    fields = _cpuinfo()
    return fields.get("model name") or _ARM_PARTS.get(fields.get("CPU part", "")) or platform.machine()


def architecture() -> str:
    """Return the architecture in Lambda's terms: `x86_64` or `arm64`."""
    return {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def vector_flags() -> tuple[str, ...]:
    """Return those vector instructions of the processor, in the kernel's names, that decide its speed."""
    flags = processor_flags() or frozenset()
    return tuple(flag for flag in _SHOWN_FLAGS if flag in flags)


def processor_flags() -> frozenset[str] | None:
    """Return the processor's instructions in the kernel's names; None if the kernel does not list them."""
    fields = _cpuinfo()
    listed = fields.get("flags", fields.get("Features"))
    return None if listed is None else frozenset(listed.split())


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _cpuinfo() -> Mapping[str, str]:
    """Return the fields of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    first = text.partition("\n\n")[0]
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


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
