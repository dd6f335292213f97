"""The sizes of a feature encoder's convolutions, and the input rows of the first one with their statistics."""

from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from core.audio.waveform import Waveform


class Convolutions:
    """A stack of convolutions over time without padding; a mixin for dataclasses with these fields."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    @cached_property
    def stride_samples(self) -> int:
        """Samples from the start of one frame to the start of the next."""
        return prod(self.strides)

    @property
    def rows_per_frame(self) -> int:
        """Rows of the first layer from the start of one frame to the start of the next."""
        return self.stride_samples // self.strides[0]

    @cached_property
    def receptive_field(self) -> int:
        """Samples that one frame of the last layer depends on."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def frames(self, samples: int, layers: int | None = None) -> int:
        """Count the frames that the first `layers` convolutions, or all of them, compute from a number of samples."""
        for kernel, stride in list(zip(self.kernels, self.strides, strict=True))[:layers]:
            samples = (samples - kernel) // stride + 1
        return samples

    def first_layer_rows(self, samples: Waveform, count: int) -> npt.NDArray[np.float32]:
        """Return the samples under the first kernel at its first `count` positions: shape ``(count, kernel)``."""
        rows = np.lib.stride_tricks.sliding_window_view(samples, self.kernels[0])[:: self.strides[0]]
        return np.ascontiguousarray(rows[:count])


def row_statistics(rows: npt.NDArray[np.float32], count: int) -> dict[str, npt.NDArray[np.float32]]:
    """Compute the inputs of a graph whose first layer has a group norm, which averages over time.

    Parameters
    ----------
    rows
        Rows of the first convolution, shape ``(n, kernel)``.
    count
        The number of rows to average over. Those that are not in `rows` equal its last row.

    Returns
    -------
    ``row_mean``
        Shape ``(1, kernel)``.
    ``row_covariance``
        Shape ``(kernel, kernel)``.
    """
    counted = rows[:count].astype(np.float64)
    omitted = count - len(counted)
    mean = (counted.sum(axis=0) + omitted * counted[-1]) / count
    centred = counted - mean
    covariance = (centred.T @ centred + omitted * np.outer(centred[-1], centred[-1])) / count
    return {"row_mean": mean[None].astype(np.float32), "row_covariance": covariance.astype(np.float32)}
