"""An ONNX Runtime session as this project wants it: no more threads than told, exact, and talking to nobody."""

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


def onnx_session(model: bytes | Path, threads: int, *, has_vnni: bool | None = None) -> "onnxruntime.InferenceSession":
    """Load a network.

    Parameters
    ----------
    model
        The ONNX file, or its bytes.
    threads
        How many to compute with.
    has_vnni
        Whether 8-bit products may be added up in hardware; None asks the processor.
    """
    # ONNX Runtime 1.32 reports its use over the network, and leaves a device id in the home folder, unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Imported here: reading settings and results should not cost a tenth of a second.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait by spinning use up the processor time that Lambda meters, and slow each other down where cores
    # are shared: with the other core busy, two threads took 316 ms for what they do in 174 without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not (processor_has_vnni() if has_vnni is None else has_vnni):
        # Without VNNI, sums of two 8-bit products saturate at 16 bits, which changes 5 % of the decisions of a trained
        # network. This takes exact products, which are no slower there: measured on a processor with AVX2 only, both
        # are as fast as float32. With VNNI they would only be slower (1.8 times).
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def processor_has_vnni() -> bool:
    """Whether the processor adds up 8-bit products in 32 bits; True where that cannot be found out, as on Arm."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True
    flags = next((line for line in described.splitlines() if line.startswith("flags")), None)
    return flags is None or bool({"avx512_vnni", "avx_vnni"} & set(flags.split()))
