"""The encoder of emotion2vec in PyTorch: the audio branch of data2vec 2.0, with ALiBi instead of a mask.

Written from the paper (https://arxiv.org/abs/2312.15185) and the behaviour of the reference implementation in FunASR,
with which the tests compare it. The names of the tensors are the published ones, so that a checkpoint is read strictly.

`Emotion2vecEncoder` computes, from a clip of shape ``(1, samples)``, where D is the hidden size and T the frames:

1. ``modality_encoders.AUDIO.local_encoder.conv_layers.{i}``: convolutions over time without padding and bias (``0``),
   each followed by a layer norm over the channels with epsilon 1e-5 (``2.1``), and GELU. Result ``(T, conv_dim[-1])``.
2. ``….project_features``: a layer norm with epsilon 1e-5 (``1``), and a dense layer (``2``). Result f, ``(T, D)``.
3. ``….relative_positional_encoder.{1…depth}``: ``g = f``, then for each layer ``g = GELU(norm(conv(g)))``. The
   convolution ``0`` is grouped, has a bias, and pads with ``kernel // 2`` zeros at both ends; the last frame of an even
   kernel is dropped. The layer norm over the channels has no weights and epsilon 1e-5. Result ``x = f + g``.
4. ``….extra_tokens``, shape ``(1, E, D)``, are put in front: E + T tokens.
5. ``….context_encoder.norm``: a layer norm with epsilon ``layer_norm_eps``.
6. ``….context_encoder.blocks.{0…prenet - 1}``, then ``blocks.{0…layers - 1}``: transformer layers with one attention
   bias, shape ``(1, heads, E + T, E + T)``. Between frames i and j, it is ``-|i - j| * slope[h] * scale[h]``, where
   scale is ``….alibi_scale``, shape ``(1, 1, heads, 1, 1)``, and negative scales are 0. `alibi_slopes` has the slopes.
   From and to an extra token, it is 0.
7. The first E tokens are dropped. Result ``(1, T, D)``. There is no norm after the last layer.

A transformer layer computes, with layer norms of epsilon ``layer_norm_eps`` and exact GELU:
``y = norm1(x + attn.proj(attention(attn.qkv(x))))``, then ``norm2(y + mlp.fc2(GELU(mlp.fc1(y))))``. The rows of
``attn.qkv`` are those of query, key and value, in order, and within each, those of the heads. Queries are scaled by
``(D / heads) ** -0.5``.

The head is `core.checkpoints.architecture.EMOTION2VEC`: the mean over the T frames, and one dense layer ``proj``.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

NORM_EPSILON = 1e-5
"""The epsilon of the layer norms before the transformer, which the config cannot change."""


@dataclass(kw_only=True)
class Emotion2vecConfig:
    """The sizes of an encoder. `core.checkpoints.funasr` reads them from config.yaml.

    Attributes
    ----------
    hidden_size
        Values of a token.
    num_attention_heads
        Heads of each transformer layer.
    intermediate_size
        Values between the two dense layers of a transformer layer.
    num_hidden_layers
        Transformer layers after those of the pre-net.
    num_prenet_layers
        Transformer layers of the pre-net, which are equal in kind.
    layer_norm_eps
        The epsilon of the layer norms in the transformer and before it.
    conv_dim, conv_kernel, conv_stride
        Channels, kernels and strides of the feature encoder's convolutions, first layer first.
    num_conv_pos_layers, num_conv_pos_embeddings, num_conv_pos_embedding_groups
        Number, kernel and groups of the positional convolutions.
    num_extra_tokens
        Learned tokens in front of the frames, at least 1.
    initializer_range
        The standard deviation of the head's weights before training.
    """

    hidden_size: int = 768
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    num_hidden_layers: int = 8
    num_prenet_layers: int = 4
    layer_norm_eps: float = 1e-5
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    num_conv_pos_layers: int = 5
    num_conv_pos_embeddings: int = 19
    num_conv_pos_embedding_groups: int = 16
    num_extra_tokens: int = 10
    initializer_range: float = 0.02

    @property
    def feat_extract_norm(self) -> str:
        """The norm of the feature encoder, under transformers' name: a layer norm in each layer."""
        return "layer"


class EncoderOutput(NamedTuple):
    """The result of the encoder, with transformers' names.

    Attributes
    ----------
    last_hidden_state
        Shape ``(batch, frames, hidden_size)``.
    hidden_states
        The input of the pre-net's first layer, and the output of each layer, without the extra tokens.
    """

    last_hidden_state: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...]


class Emotion2vecEncoder(nn.Module):
    """The encoder: see the module's docstring.

    Attributes
    ----------
    config
        The sizes.
    """

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.config = config
        self.modality_encoders = _Modalities(config)
        self.blocks = nn.ModuleList(_TransformerLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *,
        output_hidden_states: bool = False,
    ) -> EncoderOutput:
        """Compute the hidden states of clips of one length.

        Parameters
        ----------
        input_values
            Shape ``(batch, samples)``, float32, each clip normalised.
        attention_mask
            None: padding changes the positional convolutions, so there is none.
        output_hidden_states
            Whether to return the states of all layers too.

        Raises
        ------
        ValueError
            If there is a mask.
        """
        if attention_mask is not None:
            raise ValueError("emotion2vec classifies clips without padding, so there is no attention mask.")
        audio = self.modality_encoders.AUDIO
        tokens, bias = audio(input_values)
        states = [tokens]
        for layer in (*audio.context_encoder.blocks, *self.blocks):
            states.append(layer(states[-1], bias))
        frames = tuple(state[:, self.config.num_extra_tokens :] for state in states)
        return EncoderOutput(frames[-1], frames if output_hidden_states else ())


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """Return the slope of each head's attention bias, as in ALiBi (https://arxiv.org/abs/2108.12409).

    They are a geometric sequence for a power of two. For another number, those of the next lower power are followed by
    every other one of the next higher power.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * (head + 1) / power) for head in range(power)]
    between = [2.0 ** (-4 * (head + 1) / power) for head in range(0, 2 * power, 2)]
    return tuple(slopes + between[: heads - power])


class _Modalities(nn.Module):
    """The part of the network that depends on the modality. data2vec 2.0 has encoders of images and text too."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.AUDIO = _AudioEncoder(config)


class _AudioEncoder(nn.Module):
    """The steps before the transformer, and the layers of its pre-net."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        size, features = config.hidden_size, config.conv_dim[-1]
        self.local_encoder = _LocalEncoder(config)
        self.project_features = nn.Sequential(
            _Transpose(), nn.LayerNorm(features, NORM_EPSILON), nn.Linear(features, size)
        )
        self.relative_positional_encoder = nn.Sequential(
            _Transpose(), *(_positional_layer(config) for _ in range(config.num_conv_pos_layers)), _Transpose()
        )
        self.extra_tokens = nn.Parameter(torch.zeros(1, config.num_extra_tokens, size))
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, config.num_attention_heads, 1, 1))
        self.context_encoder = _Prenet(config)

    def forward(self, input_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens, shape ``(batch, tokens, hidden)``, and the attention bias ``(1, heads, tokens, tokens)``.

        The pre-net's norm has been applied to the tokens, but not its layers.
        """
        frames = self.project_features(self.local_encoder.conv_layers(input_values[:, None]))
        frames = frames + self.relative_positional_encoder(frames)
        tokens = torch.cat([self.extra_tokens.expand(len(frames), -1, -1), frames], dim=1)
        return self.context_encoder.norm(tokens), self._attention_bias(frames.shape[1])

    def _attention_bias(self, frames: int) -> torch.Tensor:
        position = torch.arange(frames, device=self.alibi_scale.device)
        distance = (position[None] - position[:, None]).abs()
        slopes = torch.tensor(alibi_slopes(self.alibi_scale.shape[2]), device=distance.device)
        bias = slopes[:, None, None] * -distance * self.alibi_scale[0].clamp_min(0)
        extra = self.extra_tokens.shape[1]
        return nn.functional.pad(bias, (extra, 0, extra, 0))


class _LocalEncoder(nn.Module):
    """The feature encoder."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        channels = zip((1, *config.conv_dim[:-1]), config.conv_dim, strict=True)
        sizes = zip(channels, config.conv_kernel, config.conv_stride, strict=True)
        self.conv_layers = nn.Sequential(*(_feature_layer(*pair, kernel, stride) for pair, kernel, stride in sizes))


class _Prenet(nn.Module):
    """A layer norm and transformer layers."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.blocks = nn.ModuleList(_TransformerLayer(config) for _ in range(config.num_prenet_layers))


class _TransformerLayer(nn.Module):
    """Self-attention and two dense layers, each with a residual connection and followed by a layer norm."""

    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attn = _Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = _FeedForward(config)

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        attended = self.norm1(tokens + self.attn(tokens, bias))
        result: torch.Tensor = self.norm2(attended + self.mlp(attended))
        return result


class _Attention(nn.Module):
    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        batch, count, size = tokens.shape
        parts = self.qkv(tokens).reshape(batch, count, 3, self.heads, size // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        scores = queries * (size // self.heads) ** -0.5 @ keys.transpose(-2, -1) + bias
        attended = (scores.softmax(dim=-1) @ values).transpose(1, 2).reshape(batch, count, size)
        result: torch.Tensor = self.proj(attended)
        return result


class _FeedForward(nn.Module):
    def __init__(self, config: Emotion2vecConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc2(nn.functional.gelu(self.fc1(tokens)))
        return result


class _Transpose(nn.Module):
    """Swaps channels and time, from ``(batch, channels, frames)`` to ``(batch, frames, channels)`` or back."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value.transpose(-2, -1)


def _feature_layer(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    """Return a layer of the feature encoder. The published names 0 and 2.1 are those of the layers in this order."""
    norm = nn.Sequential(_Transpose(), nn.LayerNorm(outputs, NORM_EPSILON), _Transpose())
    return nn.Sequential(nn.Conv1d(inputs, outputs, kernel, stride, bias=False), nn.Identity(), norm, nn.GELU())


def _positional_layer(config: Emotion2vecConfig) -> nn.Module:
    """Return a positional convolution, with as many frames after as before."""
    size, kernel, groups = config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    return nn.Sequential(
        nn.Conv1d(size, size, kernel, padding=kernel // 2, groups=groups),
        _SameLength(kernel),
        _Transpose(),
        nn.LayerNorm(size, NORM_EPSILON, elementwise_affine=False),
        _Transpose(),
        nn.GELU(),
    )


class _SameLength(nn.Module):
    """Drops the last frame after a convolution with an even kernel, which is one frame too many."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.surplus = 1 - kernel % 2

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value[..., : value.shape[-1] - self.surplus]
