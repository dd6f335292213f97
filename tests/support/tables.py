"""Markdown tables, and the machine that a figure belongs to."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from core.onnx_session import processor_has_vnni


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "|".join("---" if column == 0 else "---:" for column in range(len(header))) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def machine() -> str:
    """Return the processor's name, its cores and the vector instructions that matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    described = {key.strip(): value.strip() for key, value in fields.items()}
    flags = described.get("flags", "").split()
    features = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if name in flags]
    vnni = "with VNNI" if processor_has_vnni() else "without VNNI"
    cores = len(os.sched_getaffinity(0))
    return f"{described.get('model name', 'unknown')}, {cores} cores, {', '.join(features)}: {vnni}"
