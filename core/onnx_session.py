"""ONNX Runtime sessions with a fixed number of threads, exact 8-bit products and no telemetry."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import PackageRefused
from core.machine import VNNI, processor_flags

if TYPE_CHECKING:
    import onnxruntime


def onnx_session(
    model: bytes | Path, threads: int, *, has_vnni: bool | None = None, has_fixed_shapes: bool = True
) -> "onnxruntime.InferenceSession":
    """Load a network.

    Parameters
    ----------
    model
        The ONNX file, or its bytes.
    threads
        The number of threads to compute with.
    has_vnni
        Whether the processor has VNNI instructions; None detects them.
    has_fixed_shapes
        Whether all inputs have the same shapes. If they vary, planned allocations would fragment the memory.

    Raises
    ------
    PackageRefused
        If the path is not UTF-8, which ONNX Runtime cannot open.
    """
    try:
        path = "" if isinstance(model, bytes) else str(model)
        path.encode()
    except UnicodeEncodeError as error:
        raise PackageRefused(f"{path} has a path that is not UTF-8, which ONNX Runtime cannot open.") from error
    # By default, ONNX Runtime 1.32 sends usage data over the network and stores a device id in the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Imported here, because the import takes 0.1 s and commands that only read results do not need it.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = has_fixed_shapes
    # Threads that spin while they wait use up the CPU time that Lambda meters, and slow each other down on shared
    # cores: docs/decisions/0008-onnx-runtime-session.md.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not (processor_has_vnni() if has_vnni is None else has_vnni):
        # Without VNNI, sums of two 8-bit products saturate at 16 bits, which changes decisions. Exact products cost
        # nothing there, but slow down VNNI processors: docs/decisions/0003-exact-products-without-vnni.md.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def processor_has_vnni() -> bool:
    """Detect whether the processor adds 8-bit products in 32 bits; True if unknown, as on Arm."""
    flags = processor_flags()
    return flags is None or "asimd" in flags or bool(VNNI & flags)
