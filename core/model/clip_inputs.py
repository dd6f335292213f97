"""What the serving graph of a network that hears the clip alone is fed: the clip, with no padding and no mask.

In training, clips were padded to the longest of a batch under a mask. The mask keeps padding out of everything: samples
are normalised over the clip, hidden states behind it are set to zero before the positional convolution, where nothing
lies behind a clip by itself either, attention looks at frames of the clip only, and so does the mean over time. So one
clip by itself gives the same answer, and there is nothing to be saved but the mask.

This module does the counting, in NumPy; the graph itself is built in `core.export.graph.clip`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from core.audio.waveform import Waveform
from core.model.convolutions import Convolutions
from core.model.preprocessing import normalise_clip


@dataclass(frozen=True)
class ClipGeometry(Convolutions):
    """The sizes of a network that decide how many frames a clip has.

    Attributes
    ----------
    hearing
        Tells this geometry from the window's in a manifest.
    most_samples
        What lies behind is cut off.
    kernels, strides
        Of the feature encoder's convolutions, first layer first.
    """

    hearing: Literal["clip"]
    most_samples: int
    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    def network_input(self, waveform: Waveform) -> Waveform:
        """What the reference network sees of a waveform: the normalised clip, never less than one frame's worth."""
        return normalise_clip(waveform, self.receptive_field, self.most_samples)

    def inputs(self, waveform: Waveform) -> dict[str, npt.NDArray[np.generic]]:
        """The inputs of the serving graph for one waveform.

        Parameters
        ----------
        waveform
            Mono samples at 16 kHz, shape ``(n,)``. Fewer than a frame sees are one frame, with zeros behind them.

        Returns
        -------
        ``rows``
            Shape ``(rows, kernel)``: the normalised samples under the first convolution's kernel. A few more rows than
            the last frame needs, so that every layer's rows are a multiple of the next one's stride.
        ``frame_count``
            Shape ``(1,)``, int64: the frames of the clip; what the rows beyond make is left out.

        Raises
        ------
        EmptyRecording
            If there are no samples.
        """
        clip = self.network_input(waveform)
        frames = self.frames(clip.size)
        seen = (frames - 1) * self.stride_samples + self.receptive_field
        count = -(-seen // self.stride_samples) * self.rows_per_frame
        samples = np.zeros((count - 1) * self.strides[0] + self.kernels[0], np.float32)
        samples[: min(clip.size, samples.size)] = clip[: samples.size]
        return {"rows": self.first_layer_rows(samples, count), "frame_count": np.array([frames])}
