"""The precision of matrix products, and the quantisation of their weights."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from core.export.graph.builder import Floats


class Precision(StrEnum):
    """The products computed in 8-bit integers, fastest first; the rest is float32."""

    INT8 = "int8"
    """All products with a weight in the transformer, and all but the first in the feature encoder."""
    INT8_FFN = "int8-ffn"
    """The feed-forward products of the transformer."""
    FP32 = "fp32"
    """No products: the graph is exact up to rounding."""

    @property
    def groups_tokens(self) -> bool:
        """Whether tokens at the window's end are averaged, which changes scores less than 8-bit products do."""
        return self is Precision.INT8


@dataclass(frozen=True)
class Linear:
    """A product ``x @ weight + bias``, with a weight of shape ``(inputs, outputs)``."""

    weight: Floats
    bias: Floats | None
    int8: bool = False


def quantise_per_column(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Quantise a weight to symmetric 8-bit integers with a scale for each column.

    Returns
    -------
    The integers, shape ``(inputs, outputs)``, and the scales, shape ``(outputs,)``.
    """
    largest = np.abs(weight).max(axis=0)
    scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8), scale
