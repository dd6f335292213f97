"""The matrices that convolve rows with a long kernel in the frequency domain, by overlap-save.

The rows are cut into blocks of `hop` rows. The output of a block depends on a window of ``hop + kernel - 1`` rows. The
output is the beginning of the window's circular correlation with the kernel.

The frequencies are odd, ``(f + 1/2) / size``. A window of real numbers has exactly ``size / 2`` complex ones, so all
products have one shape. Products that wrap around change their sign, and the beginning has none of them.

The spectrum of a kernel needs ``(kernel + hop) / kernel`` times its memory. The hop is half a kernel:
docs/decisions/0052-cheaper-graph.md.
"""

from dataclasses import dataclass

import numpy as np

from core.export.graph.builder import Floats


@dataclass(frozen=True)
class Spectrum:
    """The transform of a grouped kernel, and the matrices of the transform and its inverse.

    Attributes
    ----------
    hop
        The number of rows of a block.
    segments
        The number of hops that a window spans.
    forward
        Shape ``(size, segments * hop)``: from a window to the real parts, then the imaginary parts, of its spectrum.
    kernel_real, kernel_imaginary
        Shape ``(groups, size / 2, inputs, outputs)``: the kernel's spectrum, conjugated.
    inverse_real, inverse_imaginary
        Shape ``(hop, size)``: from the products of a window's spectrum with each part of the kernel's to the block.
    """

    hop: int
    segments: int
    forward: Floats
    kernel_real: Floats
    kernel_imaginary: Floats
    inverse_real: Floats
    inverse_imaginary: Floats

    @classmethod
    def of(cls, weight: Floats, groups: int) -> "Spectrum":
        """Transform the weight of a grouped convolution, shape ``(outputs, inputs of a group, kernel)``."""
        outputs, inputs, kernel = weight.shape
        hop = max(1, kernel // 2)
        size = kernel + hop + (kernel + hop) % 2
        segments = -(-size // hop)
        turns = 2 * np.pi * (np.arange(size // 2) + 0.5) / size
        window = np.outer(turns, np.arange(size))
        forward = np.zeros((size, segments * hop))
        forward[:, :size] = np.concatenate([np.cos(window), -np.sin(window)])
        taps = weight.reshape(groups, outputs // groups, inputs, kernel).astype(np.float64)
        angles = np.outer(np.arange(hop), turns)
        cosines, sines = 2 / size * np.cos(angles), 2 / size * np.sin(angles)
        parts = [np.einsum("goik,fk->gfio", taps, wave(window[:, :kernel]), optimize=True) for wave in (np.cos, np.sin)]
        matrices = (
            forward,
            *parts,
            np.concatenate([cosines, -sines], axis=1),
            np.concatenate([-sines, -cosines], axis=1),
        )
        return cls(hop, segments, *(np.asarray(matrix, np.float32) for matrix in matrices))
