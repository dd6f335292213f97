"""The state of a recording that is cut in several invocations: JSON with arrays in base64, so that it is exact."""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

State = dict[str, Any]
"""A JSON object."""


def pack(array: npt.NDArray[np.float32]) -> State:
    """Return an array of float32 as a JSON object."""
    return {"shape": array.shape, "data": base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()}


def unpack(packed: State) -> npt.NDArray[np.float32]:
    """Return the array of a JSON object."""
    samples = np.frombuffer(base64.b64decode(packed["data"]), "<f4").reshape(packed["shape"])
    return np.array(samples, np.float32)
