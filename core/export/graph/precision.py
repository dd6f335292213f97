"""How many bits a product takes, and what its weights are then."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from core.export.graph.builder import Floats


class Precision(StrEnum):
    """What is computed in 8-bit integers; the rest is float32. Fastest first."""

    INT8 = "int8"
    """All products with a weight in the transformer, and in the feature encoder all but the first layer's."""
    INT8_FFN = "int8-ffn"
    """The feed-forward products of the transformer."""
    FP32 = "fp32"
    """Nothing: exact up to rounding."""

    @property
    def groups_tokens(self) -> bool:
        """Whether tokens at the window's end are replaced by their mean, which moves scores less than 8 bits do."""
        return self is Precision.INT8


@dataclass(frozen=True)
class Linear:
    """A product with a weight: ``x @ weight + bias``; weight of shape ``(inputs, outputs)``."""

    weight: Floats
    bias: Floats | None
    int8: bool = False


def quantised_per_column(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Symmetric 8-bit weights with one scale for each column: shapes ``(inputs, outputs)`` and ``(outputs,)``."""
    largest = np.abs(weight).max(axis=0)
    scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale
