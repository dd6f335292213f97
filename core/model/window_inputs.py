"""What the serving graph is fed: the clip instead of the padded window, and of equal things one with its count.

A recording of two seconds is padded to six before the network sees it, and most of the work would go into the padding.
But the padding is one constant after normalisation, so, with ``n`` samples of clip:

- **The padding shortcut.** A convolution of the feature encoder has neither bias nor padding of its own. From the first
  frame that starts behind the clip, every frame of every layer is the same vector. It is enough to compute one of them.
  Only the first layer's group norm looks at all frames; its statistics follow from the mean and the covariance of
  the samples under the kernel, where the omitted frames are counted.
- **Equal tokens.** The positional convolution sees half a kernel to either side and nothing else tells positions apart:
  padding frames that see nothing but padding enter the transformer as the same vector, and leave every layer as the
  same vector. One stands for all of them: the logarithm of their number is added to its attention score as a key, and
  its vector counts that many times in the mean over time.

Both are exact up to rounding and hold for any kernels and strides. With 8-bit products, whose rounding is larger, one
thing more is done:

- **Tokens at the window's end.** Behind the equal tokens come those that also see where the window ends. They differ
  only in how much of the positional kernel's sum over the constant padding lies inside, which changes little from one
  to the next: groups of neighbours are replaced by their mean, which then counts as often as there were.

This module does the counting, in NumPy; the graph itself is built in `core.export.graph.window`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from core.audio.waveform import Waveform
from core.model.convolutions import Convolutions
from core.model.preprocessing import normalise, window_statistics


@dataclass(frozen=True)
class WindowGeometry(Convolutions):
    """The sizes of a network that decide which frames see what.

    Attributes
    ----------
    window_samples
        The length that the network was trained on, padding included.
    kernels, strides
        Of the feature encoder's convolutions, first layer first.
    position_kernel
        Of the positional convolution.
    end_group_tokens
        How many neighbouring tokens at the window's end are replaced by their mean; with 1, all is exact.
    """

    window_samples: int
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    position_kernel: int
    end_group_tokens: int = 1

    @cached_property
    def first_layer_frames(self) -> int:
        """Frames of the first layer in a whole window: what its group norm averages over."""
        return self.frames(self.window_samples, layers=1)

    @cached_property
    def window_frames(self) -> int:
        """Frames of the last layer in a whole window."""
        return self.frames(self.window_samples)

    def plan(self, clip_samples: int) -> "Plan":
        """What to compute for a clip of so many samples."""
        first_padding_frame = -(-clip_samples // self.stride_samples)
        tokens = min(self.window_frames, first_padding_frame + self.position_kernel)
        shared_token = min(first_padding_frame + self.position_kernel // 2, tokens - 1)
        counts = np.ones(tokens, np.float32)
        counts[shared_token] += self.window_frames - tokens
        shares = _shares(tokens, shared_token + 1, self.end_group_tokens)
        return Plan(
            # Up to the first frame of nothing but padding, even where that begins behind the window: the graph repeats
            # the last row where a kernel reaches further, so the last row must be one of padding.
            first_layer_rows=(first_padding_frame + 1) * self.rows_per_frame,
            token_frames=np.minimum(np.arange(tokens), first_padding_frame),
            token_shares=shares / shares.sum(axis=1, keepdims=True),
            token_weights=shares @ counts,
        )

    def network_input(self, waveform: Waveform) -> Waveform:
        """What the reference network sees of a waveform: the normalised window, shape ``(window_samples,)``."""
        return normalise(waveform, self.window_samples)

    def inputs(self, waveform: Waveform) -> dict[str, npt.NDArray[np.generic]]:
        """The inputs of the serving graph for one waveform.

        Parameters
        ----------
        waveform
            Mono samples at 16 kHz, shape ``(n,)``; what lies behind the window is cut off.

        Returns
        -------
        ``rows``
            Shape ``(rows, kernel)``: the normalised samples under the first convolution's kernel.
        ``row_mean``, ``row_covariance``
            Shapes ``(1, kernel)`` and ``(kernel, kernel)``, over all the rows of the whole window.
        ``token_frames``, ``token_weights``, and ``token_shares`` where tokens are replaced by their mean
            As in `Plan`.

        Raises
        ------
        EmptyRecording
            If there are no samples.
        """
        clip = waveform[: self.window_samples]
        plan = self.plan(clip.size)
        rows = _normalised_rows(clip, self, plan.first_layer_rows)
        mean, covariance = _row_statistics(rows, self.first_layer_frames)
        grouped = {"token_shares": plan.token_shares} if self.end_group_tokens > 1 else {}
        return {
            "rows": rows,
            "row_mean": mean,
            "row_covariance": covariance,
            "token_frames": plan.token_frames,
            "token_weights": plan.token_weights,
            **grouped,
        }


@dataclass(frozen=True)
class Plan:
    """What to compute for one clip.

    Attributes
    ----------
    first_layer_rows
        Rows of the first convolution; the others follow by their strides.
    token_frames
        Shape ``(tokens,)``, int64: the frame of the feature encoder that each token shows.
    token_shares
        Shape ``(groups, tokens)``, float32: the tokens whose mean each token of the transformer is; rows sum to 1.
    token_weights
        Shape ``(groups,)``, float32: how many tokens of the whole window each one stands for.
    """

    first_layer_rows: int
    token_frames: npt.NDArray[np.int64]
    token_shares: npt.NDArray[np.float32]
    token_weights: npt.NDArray[np.float32]


def _shares(tokens: int, first_grouped: int, group: int) -> npt.NDArray[np.float32]:
    """Which tokens belong together, as ones and zeros: each alone, and from `first_grouped` on so many at a time."""
    numbers = np.arange(tokens)
    groups = np.where(numbers < first_grouped, numbers, first_grouped + (numbers - first_grouped) // group)
    return np.asarray(groups == np.arange(groups[-1] + 1)[:, None], np.float32)


def _normalised_rows(clip: Waveform, geometry: WindowGeometry, count: int) -> npt.NDArray[np.float32]:
    kernel, stride = geometry.kernels[0], geometry.strides[0]
    mean, scale = window_statistics(clip, geometry.window_samples)
    samples = np.full((count - 1) * stride + kernel, -np.float32(mean) / np.float32(scale), np.float32)
    samples[: clip.size] = ((clip - np.float32(mean)) / np.float32(scale))[: samples.size]
    return geometry.first_layer_rows(samples, count)


def _row_statistics(
    rows: npt.NDArray[np.float32], first_layer_frames: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and covariance over the whole window's rows; those not in `rows` repeat its last one."""
    counted = rows[:first_layer_frames].astype(np.float64)
    omitted = first_layer_frames - len(counted)
    mean = (counted.sum(axis=0) + omitted * counted[-1]) / first_layer_frames
    centred = counted - mean
    covariance = (centred.T @ centred + omitted * np.outer(centred[-1], centred[-1])) / first_layer_frames
    return mean[None].astype(np.float32), covariance.astype(np.float32)
