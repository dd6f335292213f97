"""Inputs of the serving graph for networks that classify a padded window of six seconds.

The network pads a recording of two seconds to six, so most of its work is on padding. The serving graph computes only
the clip, and one of each set of equal vectors:

- **The padding shortcut.** After normalisation, the padding is constant, and the feature encoder's convolutions have no
  bias and no padding. Therefore all frames that start after the clip are equal in every layer, and the graph computes
  one of them. Only the first layer's group norm needs all frames. Its statistics follow from the mean and the
  covariance of the samples under the kernel, in which the omitted frames are counted.
- **Equal tokens.** A token depends on its position only through the positional convolution, which covers half a kernel
  to either side. Tokens with only padding in that range are equal in every layer of the transformer. One token
  represents them: the logarithm of their number is added to the token's attention score as a key, and their number is
  the token's weight in the mean over time.

Both are exact up to rounding, for any kernels and strides. A third step is an approximation, used only with 8-bit
products, whose rounding is larger:

- **Tokens of padding.** The positional kernel of the tokens just after the clip reaches into it, and that of the last
  tokens reaches over the end of the window. Except for the first eighth of a kernel after the clip, these tokens differ
  little from their neighbours. Groups of neighbours are replaced by their mean, whose weight is the number of tokens.

An evident DC offset is removed first, because the padding would turn it into a step. The reference network gets the
same input.

`core.export.graph.window` builds the graph. Measured in docs/decisions/0005-padding-shortcut.md and
0053-groups-after-the-clip.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from core.audio.offset import remove_offset
from core.audio.waveform import Waveform
from core.model.convolutions import Convolutions, row_statistics
from core.model.preprocessing import normalise, window_statistics


@dataclass(frozen=True)
class WindowGeometry(Convolutions):
    """The sizes of a network that determine which samples each frame and token depends on.

    Attributes
    ----------
    window_samples
        The length that the network was trained on, padding included.
    kernels, strides
        The sizes of the feature encoder's convolutions, first layer first.
    position_kernel
        The kernel of the positional convolution, in frames.
    end_group_tokens
        The number of neighbouring tokens at the window's end that are replaced by their mean; 1 is exact.
    clip_group_tokens
        The same for tokens after the clip, from an eighth of the positional kernel on.
    is_normalised
        Whether the window is scaled to zero mean and unit variance.
    has_group_norm
        Whether the first layer has a group norm, which needs the statistics of the rows.
    """

    window_samples: int
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    position_kernel: int
    end_group_tokens: int = 1
    clip_group_tokens: int = 1
    is_normalised: bool = True
    has_group_norm: bool = True

    @cached_property
    def first_layer_frames(self) -> int:
        """Frames of the first layer in a whole window, over which its group norm averages."""
        return self.frames(self.window_samples, layers=1)

    @cached_property
    def window_frames(self) -> int:
        """Frames of the last layer in a whole window."""
        return self.frames(self.window_samples)

    def plan(self, clip_samples: int) -> "Plan":
        """Return the rows and tokens to compute for a clip of the given length."""
        first_padding_frame = -(-clip_samples // self.stride_samples)
        tokens = min(self.window_frames, first_padding_frame + self.position_kernel)
        shared_token = min(first_padding_frame + self.position_kernel // 2, tokens - 1)
        counts = np.ones(tokens, np.float32)
        counts[shared_token] += self.window_frames - tokens
        first_grouped = min(first_padding_frame + self.position_kernel // 8, shared_token)
        groups = (
            (first_grouped, 1),
            (shared_token, self.clip_group_tokens),
            (shared_token + 1, 1),
            (tokens, self.end_group_tokens),
        )
        shares = _shares(groups)
        return Plan(
            # Up to the first frame with only padding, even if that frame begins after the window. The graph repeats the
            # last row where a kernel needs more rows, so the last row must contain only padding.
            first_layer_rows=(first_padding_frame + 1) * self.rows_per_frame,
            token_frames=np.minimum(np.arange(tokens), first_padding_frame),
            token_shares=shares / shares.sum(axis=1, keepdims=True),
            token_weights=shares @ counts,
        )

    def network_input(self, waveform: Waveform) -> Waveform:
        """Compute the reference network's input: the window, normalised if need be, shape ``(window_samples,)``."""
        clip = self._clip(waveform)
        if self.is_normalised:
            return normalise(clip, self.window_samples)
        return np.pad(clip, (0, self.window_samples - clip.size))

    def graph_inputs(self, waveform: Waveform) -> dict[str, npt.NDArray[np.generic]]:
        """Compute the inputs of the serving graph for one waveform.

        Parameters
        ----------
        waveform
            Mono samples at 16 kHz, shape ``(n,)``, cut to the window.

        Returns
        -------
        ``rows``
            Shape ``(rows, kernel)``: the normalised samples under the first convolution's kernel.
        ``row_mean``, ``row_covariance``
            Shapes ``(1, kernel)`` and ``(kernel, kernel)``, over all rows of the whole window; only for a group norm.
        ``token_frames``, ``token_weights``, ``token_shares``
            As in `Plan`; ``token_shares`` only if tokens are replaced by their mean.

        Raises
        ------
        EmptyRecording
            If there are no samples.
        """
        clip = self._clip(waveform)
        plan = self.plan(clip.size)
        rows = _normalised_rows(clip, self, plan.first_layer_rows)
        statistics = row_statistics(rows, self.first_layer_frames) if self.has_group_norm else {}
        is_grouped = max(self.end_group_tokens, self.clip_group_tokens) > 1
        grouped = {"token_shares": plan.token_shares} if is_grouped else {}
        return {
            "rows": rows,
            **statistics,
            "token_frames": plan.token_frames,
            "token_weights": plan.token_weights,
            **grouped,
        }

    def _clip(self, waveform: Waveform) -> Waveform:
        """Return the part of a waveform in the window, without an evident offset."""
        return remove_offset(waveform[: self.window_samples])


@dataclass(frozen=True)
class Plan:
    """The rows and tokens to compute for one clip.

    Attributes
    ----------
    first_layer_rows
        Rows of the first convolution; those of the other layers follow from their strides.
    token_frames
        Shape ``(tokens,)``, int64: the frame of the feature encoder for each token.
    token_shares
        Shape ``(groups, tokens)``, float32: the weights with which tokens are averaged; rows sum to 1.
    token_weights
        Shape ``(groups,)``, float32: the number of tokens of the whole window that each group represents.
    """

    first_layer_rows: int
    token_frames: npt.NDArray[np.int64]
    token_shares: npt.NDArray[np.float32]
    token_weights: npt.NDArray[np.float32]


def _shares(groups: Iterable[tuple[int, int]]) -> npt.NDArray[np.float32]:
    """Return a matrix of zeros and ones in which each row is a group of tokens.

    Parameters
    ----------
    groups
        The end of each part of the tokens, and the number of tokens in each of its groups. The last may have fewer.
    """
    numbers: list[int] = []
    for end, group in groups:
        first = numbers[-1] + 1 if numbers else 0
        numbers += [first + token // group for token in range(end - len(numbers))]
    return np.asarray(np.array(numbers) == np.arange(numbers[-1] + 1)[:, None], np.float32)


def _normalised_rows(clip: Waveform, geometry: WindowGeometry, count: int) -> npt.NDArray[np.float32]:
    kernel, stride = geometry.kernels[0], geometry.strides[0]
    mean, scale = window_statistics(clip, geometry.window_samples) if geometry.is_normalised else (0.0, 1.0)
    samples = np.full((count - 1) * stride + kernel, -np.float32(mean) / np.float32(scale), np.float32)
    samples[: clip.size] = ((clip - np.float32(mean)) / np.float32(scale))[: samples.size]
    return geometry.first_layer_rows(samples, count)
