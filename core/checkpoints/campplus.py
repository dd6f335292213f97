"""CAM++ in PyTorch: a speaker embedding of 192 numbers for each utterance, and the reference of the exported network.

Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking", Interspeech
2023. The tensors have the names of the published checkpoints.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from core.checkpoints.weights import fit_tensors, read_weights

BANKS = 80
FEATURES = 192
SEGMENT_FRAMES = 100
"""Frames of the segments whose means are part of the context of a mask: two seconds after the first convolution."""

_HEAD_CHANNELS = 32
HEAD_FEATURES = _HEAD_CHANNELS * BANKS // 8
"""Channels of the head, times the frequencies that its strides leave."""
_CHANNELS = 128
_GROWTH = 32
_BOTTLENECK = 128
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each block of densely connected layers."""


class CamPlusPlus(nn.Module):
    """CAM++ with the sizes of the checkpoints that 3D-Speaker publishes. Use it in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Head()
        self.xvector = nn.Module()
        self.xvector.add_module(
            "tdnn",
            _modules(
                linear=nn.Conv1d(HEAD_FEATURES, _CHANNELS, 5, stride=2, padding=2, bias=False),
                nonlinear=_norm(_CHANNELS),
            ),
        )
        channels = _CHANNELS
        for number, (layers, dilation) in enumerate(BLOCKS, 1):
            block = nn.ModuleDict(
                {f"tdnnd{index + 1}": _DenseLayer(channels + index * _GROWTH, dilation) for index in range(layers)}
            )
            self.xvector.add_module(f"block{number}", block)
            channels += layers * _GROWTH
            linear = nn.Conv1d(channels, channels // 2, 1, bias=False)
            self.xvector.add_module(f"transit{number}", _modules(nonlinear=_norm(channels), linear=linear))
            channels //= 2
        self.xvector.add_module("out_nonlinear", _norm(channels))
        self.xvector.add_module(
            "dense",
            _modules(linear=nn.Conv1d(2 * channels, FEATURES, 1, bias=False), nonlinear=_norm(FEATURES, affine=False)),
        )

    def forward(self, filter_banks: torch.Tensor) -> torch.Tensor:
        """Compute embeddings.

        Parameters
        ----------
        filter_banks
            Log mel energies minus their means over time, shape ``(batch, frames, 80)``.

        Returns
        -------
        Shape ``(batch, 192)``, not scaled to unit length.
        """
        part = self.xvector.get_submodule
        frames = self.head(filter_banks.transpose(1, 2)[:, None])
        frames = _activated(part("tdnn.nonlinear"), part("tdnn.linear")(frames))
        for number in range(1, len(BLOCKS) + 1):
            for layer in part(f"block{number}").children():
                frames = torch.cat([frames, layer(frames)], dim=1)
            frames = part(f"transit{number}.linear")(_activated(part(f"transit{number}.nonlinear"), frames))
        frames = _activated(part("out_nonlinear"), frames)
        # One frame has no deviation, and PyTorch's would not be a number.
        correction = min(1, frames.shape[-1] - 1)
        statistics = torch.cat([frames.mean(dim=-1), frames.std(dim=-1, correction=correction)], dim=-1)
        embedding: torch.Tensor = part("dense.nonlinear.batchnorm")(part("dense.linear")(statistics[..., None]))
        return embedding[..., 0]


class _Head(nn.Module):
    """Residual convolutions over frequency and time, which keep the number of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _HEAD_CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.layer1 = nn.Sequential(_Residual(stride=2), _Residual(stride=1))
        self.layer2 = nn.Sequential(_Residual(stride=2), _Residual(stride=1))
        self.conv2 = nn.Conv2d(_HEAD_CHANNELS, _HEAD_CHANNELS, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(_HEAD_CHANNELS)

    def forward(self, banks: torch.Tensor) -> torch.Tensor:
        """Return ``(batch, channels * banks / 8, frames)`` for banks of shape ``(batch, 1, banks, frames)``."""
        features = functional.relu(self.bn1(self.conv1(banks)))
        features = self.layer2(self.layer1(features))
        return functional.relu(self.bn2(self.conv2(features))).flatten(1, 2)


class _Residual(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(_HEAD_CHANNELS, _HEAD_CHANNELS, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.conv2 = nn.Conv2d(_HEAD_CHANNELS, _HEAD_CHANNELS, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(_HEAD_CHANNELS, _HEAD_CHANNELS, 1, stride=(stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(_HEAD_CHANNELS))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = functional.relu(self.bn1(self.conv1(features)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(features))


class _DenseLayer(nn.Module):
    """A layer whose output is appended to its input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm(channels)
        self.linear1 = nn.Conv1d(channels, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _norm(_BOTTLENECK)
        self.cam_layer = _modules(
            linear_local=nn.Conv1d(_BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False),
            linear1=nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1),
            linear2=nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1),
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        hidden = _activated(self.nonlinear2, self.linear1(_activated(self.nonlinear1, frames)))
        segments = functional.avg_pool1d(hidden, SEGMENT_FRAMES, ceil_mode=True)
        context = hidden.mean(dim=-1, keepdim=True) + segments
        part = self.cam_layer.get_submodule
        mask = torch.sigmoid(part("linear2")(functional.relu(part("linear1")(context))))
        by_frame = mask.repeat_interleave(SEGMENT_FRAMES, dim=-1)[..., : hidden.shape[-1]]
        local: torch.Tensor = part("linear_local")(hidden)
        return local * by_frame


def _modules(**modules: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(modules)


def _norm(channels: int, *, affine: bool = True) -> nn.ModuleDict:
    return _modules(batchnorm=nn.BatchNorm1d(channels, affine=affine))


def _activated(norm: nn.Module, frames: torch.Tensor) -> torch.Tensor:
    return functional.relu(norm.get_submodule("batchnorm")(frames))


def read_campplus(file: Path) -> CamPlusPlus:
    """Read a published checkpoint, in evaluation mode.

    Raises
    ------
    CheckpointUnreadable
        If the file is missing or damaged, or has other tensors than the network.
    """
    network = CamPlusPlus().eval()
    network.load_state_dict(fit_tensors(read_weights(file), network.state_dict(), file.name))
    return network
