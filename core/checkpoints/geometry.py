"""The geometry of a checkpoint's network: the sizes that its serving graph's inputs are made from."""

from core.audio.waveform import WINDOW_SAMPLES
from core.checkpoints.network import SpeechNetwork
from core.checkpoints.registry import InputMode
from core.model.clip_inputs import ClipGeometry
from core.model.inputs import Geometry
from core.model.window_inputs import WindowGeometry

_END_GROUPS = 8
"""Into how many parts the positional kernel's reach is cut at the window's end. With 8, the mean change of a score of a
trained network is a tenth of what its 8-bit products cause, the largest a quarter: see docs/performance.md."""


def geometry_of(network: "SpeechNetwork", *, exact: bool = True) -> Geometry:
    """The sizes that decide which frames of a network see what.

    Parameters
    ----------
    exact
        Whether what is computed may differ from the reference by rounding only; with 8-bit products it need not.
    """
    kernels, strides = tuple(network.config.conv_kernel), tuple(network.config.conv_stride)
    if network.architecture.input_mode is InputMode.CLIP:
        return ClipGeometry(hearing="clip", most_samples=WINDOW_SAMPLES, kernels=kernels, strides=strides)
    return WindowGeometry(
        window_samples=WINDOW_SAMPLES,
        kernels=kernels,
        strides=strides,
        position_kernel=network.config.num_conv_pos_embeddings,
        end_group_tokens=1 if exact else max(1, network.config.num_conv_pos_embeddings // _END_GROUPS),
    )
