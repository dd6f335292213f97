"""The geometry of a checkpoint's network, from which the inputs of its serving graph are computed."""

from core.audio.waveform import WINDOW_SAMPLES
from core.checkpoints.architecture import Encoder, InputMode
from core.checkpoints.network import SpeechNetwork
from core.model.clip_inputs import ClipGeometry
from core.model.inputs import Geometry
from core.model.preprocessing import VARIANCE_FLOOR
from core.model.window_inputs import WindowGeometry

_END_GROUPS = 8
"""At the window's end, tokens are averaged in groups of the positional kernel's width divided by this number.

With 8, the averages change scores much less than 8-bit products do: docs/decisions/0005-padding-shortcut.md.
"""

_CLIP_GROUPS = 16
"""The same for tokens after the clip: docs/decisions/0053-groups-after-the-clip.md."""

_VARIANCE_FLOORS = {Encoder.EMOTION2VEC: 1e-5}
"""FunASR normalises with PyTorch's `layer_norm`, whose default this is."""


def geometry_of(network: SpeechNetwork, *, exact: bool = True) -> Geometry:
    """Read a network's geometry from its config.

    Parameters
    ----------
    exact
        Whether the serving graph may differ from the reference by rounding only. Graphs with 8-bit products may
        average tokens as well.
    """
    kernels, strides = tuple(network.config.conv_kernel), tuple(network.config.conv_stride)
    has_group_norm = network.config.feat_extract_norm == "group"
    if network.architecture.input_mode is InputMode.CLIP:
        return ClipGeometry(
            input_mode="clip",
            max_samples=WINDOW_SAMPLES,
            kernels=kernels,
            strides=strides,
            is_normalised=network.architecture.is_normalised,
            has_group_norm=has_group_norm,
            variance_floor=_VARIANCE_FLOORS.get(network.architecture.encoder, VARIANCE_FLOOR),
        )
    position_kernel = network.config.num_conv_pos_embeddings
    return WindowGeometry(
        window_samples=WINDOW_SAMPLES,
        kernels=kernels,
        strides=strides,
        position_kernel=position_kernel,
        end_group_tokens=1 if exact else max(1, position_kernel // _END_GROUPS),
        clip_group_tokens=1 if exact else max(1, position_kernel // _CLIP_GROUPS),
        is_normalised=network.architecture.is_normalised,
        has_group_norm=has_group_norm,
    )
