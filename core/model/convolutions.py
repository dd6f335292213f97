"""The sizes of a feature encoder, whatever is fed to it, and the rows of samples that its first convolution sees."""

from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from core.audio.waveform import Waveform


class Convolutions:
    """A stack of convolutions over time, without padding of their own; a mixin for dataclasses with these fields."""

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
        """Samples that one frame of the last layer sees."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def frames(self, samples: int, layers: int | None = None) -> int:
        """How many frames the first `layers` convolutions (all, unless told) make of so many samples."""
        for kernel, stride in list(zip(self.kernels, self.strides, strict=True))[:layers]:
            samples = (samples - kernel) // stride + 1
        return samples

    def first_layer_rows(self, samples: Waveform, count: int) -> npt.NDArray[np.float32]:
        """The samples under the first kernel at each of its first `count` places: shape ``(count, kernel)``."""
        rows = np.lib.stride_tricks.sliding_window_view(samples, self.kernels[0])[:: self.strides[0]]
        return np.ascontiguousarray(rows[:count])
