"""Inputs of the serving graph for networks that classify the clip alone, without padding and mask.

In training, clips were padded to the longest of a batch, and a mask excluded the padding from the computation:

- Samples are normalised over the clip, which removes a DC offset too, or not at all.
- Hidden states after the clip are zero in the positional convolution, as if the clip were alone.
- Attention and the mean over time use frames of the clip only.

So a clip without padding and mask gives the same logits. `core.export.graph.clip` builds the graph.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from core.audio.offset import remove_offset
from core.audio.waveform import Waveform
from core.model.convolutions import Convolutions, row_statistics
from core.model.preprocessing import VARIANCE_FLOOR, cut_clip, normalise_clip


@dataclass(frozen=True)
class ClipGeometry(Convolutions):
    """The sizes of a network that determine the number of frames of a clip.

    The aliases are the names of release 1.0, which existing packages and their fingerprints use.

    Attributes
    ----------
    input_mode
        Distinguishes this geometry from `WindowGeometry` in a manifest.
    max_samples
        Longer waveforms are cut to this length.
    kernels, strides
        The sizes of the feature encoder's convolutions, first layer first.
    is_normalised
        Whether the clip is scaled to zero mean and unit variance.
    has_group_norm
        Whether the first layer has a group norm, which needs the statistics of the rows.
    variance_floor
        The number that the normalisation adds to the variance.
    """

    input_mode: Annotated[Literal["clip"], Field(alias="hearing")]
    max_samples: Annotated[int, Field(alias="most_samples")]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    is_normalised: bool = True
    has_group_norm: bool = False
    variance_floor: float = VARIANCE_FLOOR

    def network_input(self, waveform: Waveform) -> Waveform:
        """Compute the reference network's input: the clip, normalised or not, padded to one frame's receptive field."""
        if self.is_normalised:
            return normalise_clip(waveform, self.receptive_field, self.max_samples, self.variance_floor)
        return cut_clip(remove_offset(waveform[: self.max_samples]), self.receptive_field, self.max_samples)

    def graph_inputs(self, waveform: Waveform) -> dict[str, npt.NDArray[np.generic]]:
        """Compute the inputs of the serving graph for one waveform.

        Parameters
        ----------
        waveform
            Mono samples at 16 kHz, shape ``(n,)``. A waveform shorter than the receptive field is padded with zeros to
            one frame.

        Returns
        -------
        ``rows``
            Shape ``(rows, kernel)``, float32: the samples under the first convolution's kernel. There are a few more
            rows than the last frame needs, so that each layer's rows are a multiple of the next one's stride.
        ``row_mean``, ``row_covariance``
            Shapes ``(1, kernel)`` and ``(kernel, kernel)``, over all rows of the clip; only for a group norm.
        ``frame_count``
            Shape ``(1,)``, int64: the number of frames of the clip. The graph drops frames of the additional rows.

        Raises
        ------
        EmptyRecording
            If there are no samples.
        """
        clip = self.network_input(waveform)
        if self.has_group_norm:
            clip = clip - clip.mean()  # the norm removes any constant, but a large one costs float32 its last digits
        frames = self.frames(clip.size)
        used_samples = (frames - 1) * self.stride_samples + self.receptive_field
        count = -(-used_samples // self.stride_samples) * self.rows_per_frame
        samples = np.zeros((count - 1) * self.strides[0] + self.kernels[0], np.float32)
        samples[: min(clip.size, samples.size)] = clip[: samples.size]
        rows, frame_count = self.first_layer_rows(samples, count), np.array([frames])
        return {"rows": rows, **self._statistics(clip), "frame_count": frame_count}

    def _statistics(self, clip: Waveform) -> dict[str, npt.NDArray[np.float32]]:
        """Return the statistics of all rows of the clip, also of those after the last frame."""
        if not self.has_group_norm:
            return {}
        count = self.frames(clip.size, layers=1)
        return row_statistics(self.first_layer_rows(clip, count), count)
