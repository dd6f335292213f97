"""Either way of feeding a network, as a manifest has it: a serving graph's inputs are made from it without PyTorch."""

from typing import TYPE_CHECKING

from core.model.clip_geometry import ClipGeometry
from core.model.layouts import Hearing
from core.model.window_geometry import WindowGeometry
from core.waveform import WINDOW_SAMPLES

if TYPE_CHECKING:
    from core.model.network import SpeechNetwork

Geometry = WindowGeometry | ClipGeometry
"""Told apart by their fields. The window's has none that says so: it is older than the choice, and a field more would
change the fingerprint of every package that there is."""


def geometry_of(network: "SpeechNetwork") -> Geometry:
    """The sizes that decide which frames of a network see what."""
    kernels, strides = tuple(network.config.conv_kernel), tuple(network.config.conv_stride)
    if network.layout.hearing is Hearing.CLIP:
        return ClipGeometry(hearing="clip", most_samples=WINDOW_SAMPLES, kernels=kernels, strides=strides)
    return WindowGeometry(
        window_samples=WINDOW_SAMPLES,
        kernels=kernels,
        strides=strides,
        position_kernel=network.config.num_conv_pos_embeddings,
    )
