"""The convolution in the frequency domain equals a convolution."""

import numpy as np
import pytest
import torch

from core.export.graph.spectrum import Spectrum

GROUPS, CHANNELS = 2, 3


@pytest.mark.parametrize("kernel", [1, 2, 3, 16, 31, 128])
def test_the_spectra_give_the_convolution_of_a_block(kernel: int) -> None:
    rng = np.random.default_rng(kernel)
    weight = rng.standard_normal((GROUPS * CHANNELS, CHANNELS, kernel)).astype(np.float32)
    spectrum = Spectrum.of(weight, GROUPS)
    window = rng.standard_normal((GROUPS, spectrum.segments * spectrum.hop, CHANNELS)).astype(np.float32)

    # Real and imaginary parts of each frequency, as one row for each input channel.
    parts = (spectrum.forward @ window).reshape(GROUPS, 2, -1, 1, CHANNELS)
    real, imaginary = (
        inverse @ (parts @ spectra[:, None]).reshape(GROUPS, -1, CHANNELS)
        for spectra, inverse in (
            (spectrum.kernel_real, spectrum.inverse_real),
            (spectrum.kernel_imaginary, spectrum.inverse_imaginary),
        )
    )
    block = real + imaginary

    used = torch.from_numpy(window[:, : spectrum.hop + kernel - 1].transpose(0, 2, 1).reshape(1, GROUPS * CHANNELS, -1))
    expected = torch.nn.functional.conv1d(used, torch.from_numpy(weight), groups=GROUPS)[0].numpy()
    assert block.shape == (GROUPS, spectrum.hop, CHANNELS)
    np.testing.assert_allclose(block.transpose(0, 2, 1).reshape(GROUPS * CHANNELS, -1), expected, atol=5e-5)


def test_the_spectrum_of_the_published_kernel_needs_half_as_much_memory_again() -> None:
    weight = np.zeros((768, 48, 128), np.float32)

    spectrum = Spectrum.of(weight, 16)

    assert spectrum.kernel_real.size + spectrum.kernel_imaginary.size == 1.5 * weight.size
