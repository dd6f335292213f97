"""Markdown tables, and the machine that a figure belongs to."""

from collections.abc import Sequence

from core.machine import cores, processor_name, vector_flags
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
    vnni = "with VNNI" if processor_has_vnni() else "without VNNI"
    return f"{processor_name()}, {cores()} cores, {', '.join(vector_flags())}: {vnni}"
