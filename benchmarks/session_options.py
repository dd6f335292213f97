"""What ONNX Runtime's session options change, at the published size in int8: loading, a 2 s utterance, peak memory.

Each in a process of its own; minima of three processes. `python -m benchmarks.session_options`.
"""

import subprocess
import sys

from benchmarks.full_size import full_size_checkpoint, full_size_package
from benchmarks.speed import BUILD
from benchmarks.tables import show
from core.model.graph import Precision
from core.model.package import MODEL_FILE

_OPTIONS = {
    "as the classifier does": "",
    "no arena": "o.enable_cpu_mem_arena = False",
    "no memory pattern": "o.enable_mem_pattern = False",
    "spinning": "o.add_session_config_entry('session.intra_op.allow_spinning', '1')",
    "no pre-packing": "o.add_session_config_entry('session.disable_prepacking', '1')",
    "no graph optimisation": "o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL",
    "basic graph optimisation": "o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC",
    "products that may saturate": "o.add_session_config_entry('session.x64quantprecision', '0')",
}

_PROGRAM = """
import os, sys, time
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np, onnxruntime as ort
from pathlib import Path
from core.inference import processor_has_vnni
from core.model.package import read_manifest
path = sys.argv[1]
noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
inputs = read_manifest(Path(path).parent).geometry.inputs(noise)
o = ort.SessionOptions()
o.intra_op_num_threads = int(sys.argv[3])
started = time.perf_counter()
o.add_session_config_entry("session.intra_op.allow_spinning", "0")
if not processor_has_vnni():
    o.add_session_config_entry("session.x64quantprecision", "1")
exec(sys.argv[2])
session = ort.InferenceSession(path, o)
loaded = time.perf_counter()
session.run(None, inputs)
first = time.perf_counter()
times = []
for _ in range(6):
    begun = time.perf_counter()
    session.run(None, inputs)
    times.append(time.perf_counter() - begun)
peak_kb = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print((loaded - started) * 1000, (first - loaded) * 1000, min(times) * 1000, int(peak_kb) / 1024)
"""


def main() -> None:
    """Print a row for each option, at one and at two threads."""
    package = full_size_package(full_size_checkpoint(BUILD / "checkpoint"), BUILD / "int8", Precision.INT8)
    rows = []
    for name, code in _OPTIONS.items():
        for threads in (1, 2):
            command = [sys.executable, "-c", _PROGRAM, str(package / MODEL_FILE), code, str(threads)]
            runs = [
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)
            ]
            best = [min(float(run[column]) for run in runs) for column in range(4)]
            rows.append([name, str(threads), *(f"{value:.0f}" for value in best)])
    show(
        "ONNX Runtime's session options, int8, 2 s", ["", "threads", "load ms", "first ms", "warm ms", "peak MB"], rows
    )


if __name__ == "__main__":
    main()
