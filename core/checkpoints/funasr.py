"""Reads what FunASR's config.yaml and tokens.txt say of an emotion2vec network.

Values that would change scores in a way that this project does not compute are refused.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from core.checkpoints.config import check_values
from core.checkpoints.emotion2vec import Emotion2vecConfig
from core.checkpoints.files import FUNASR, TOKENS_FILE
from core.errors import CheckpointUnreadable
from core.formatting import first_line

_MASKED = "unuse"
"""The beginning of labels that a checkpoint does not know, whose logits do not count."""

_MANDARIN: Mapping[str, str] = {
    "生气": "angry",
    "厌恶": "disgusted",
    "恐惧": "fearful",
    "开心": "happy",
    "中立": "neutral",
    "其他": "other",
    "难过": "sad",
    "吃惊": "surprised",
}
"""A published label -> its English name."""

_MIN_POSITION_KERNEL = 3
_MAX_CONVOLUTIONS = 100

_SUPPORTED: Mapping[str, tuple[object, ...]] = {"norm_affine": (True,), "layer_norm_first": (False, None)}
_SUPPORTED_AUDIO: Mapping[str, tuple[object, ...]] = {
    "extractor_mode": ("layer_norm",),
    "use_alibi_encoder": (True,),
    "learned_alibi": (False, None),
    "learned_alibi_scale_per_head": (True,),
    "learned_alibi_scale_per_layer": (False, None),
    "conv_pos_pre_ln": (False, None),
}
"""Keys that change scores -> the values that this project computes."""

_Size = Annotated[int, Field(gt=0)]


class _Audio(BaseModel):
    """The sizes in `modalities.audio`."""

    prenet_depth: Annotated[int, Field(ge=0)]
    num_extra_tokens: _Size
    num_alibi_heads: _Size
    feature_encoder_spec: str
    conv_pos_width: _Size
    conv_pos_groups: _Size
    conv_pos_depth: _Size


class _Modalities(BaseModel):
    audio: _Audio


class _Network(BaseModel):
    """The sizes in `model_conf`."""

    depth: _Size
    embed_dim: _Size
    num_heads: _Size
    mlp_ratio: Annotated[float, Field(gt=0)]
    norm_eps: Annotated[float, Field(gt=0)]
    normalize: bool | None = None
    modalities: _Modalities


@dataclass(frozen=True)
class FunAsrConfig:
    """The description of a network in config.yaml.

    Attributes
    ----------
    sizes
        The network's sizes.
    is_normalised
        Whether clips are normalised.
    """

    sizes: Emotion2vecConfig
    is_normalised: bool


def read_config(folder: Path) -> FunAsrConfig:
    """Read config.yaml.

    Raises
    ------
    CheckpointUnreadable
        If the file is missing or malformed, or describes another network than emotion2vec's.
    """
    file = folder / FUNASR.config
    document = _read_yaml(file)
    network = _mapping(document, "model_conf")
    _check(file, document, {"model": ("Emotion2vec",)})
    _check(file, network, _SUPPORTED)
    _check(file, _mapping(_mapping(network, "modalities"), "audio"), _SUPPORTED_AUDIO)
    try:
        values = _Network.model_validate(network)
        return FunAsrConfig(_sizes(values), bool(values.normalize))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, ("model_conf", *first["loc"])))
        raise CheckpointUnreadable(f"{file} is malformed: {place}: {first['msg']}.") from error
    except ValueError as error:
        raise CheckpointUnreadable(f"{file} is malformed: {error}.") from error


def read_labels(folder: Path) -> tuple[str | None, ...]:
    """Read tokens.txt: one label for each logit, in English; None for a label that does not count.

    Raises
    ------
    CheckpointUnreadable
        If the file is missing or malformed, or has fewer than two labels that count.
    """
    file = folder / TOKENS_FILE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise CheckpointUnreadable(f"{folder} has no {TOKENS_FILE}.") from error
    except (OSError, ValueError) as error:
        raise CheckpointUnreadable(f"{file} is not readable: {first_line(error)}") from error
    labels = tuple(_label(line.strip()) for line in lines)
    counted = [label for label in labels if label is not None]
    if "" in counted or len(set(counted)) < len(counted):
        raise CheckpointUnreadable(f"{file} has an empty line or a repeated label.")
    if len(counted) < 2:  # noqa: PLR2004 (the softmax of one label is always 1)
        raise CheckpointUnreadable(f"{file} has fewer than two labels.")
    return labels


def _label(token: str) -> str | None:
    """Return the English name of a label such as 生气/angry."""
    name = token.rpartition("/")[2]
    return None if token.startswith(_MASKED) else _MANDARIN.get(name, name)


def _sizes(values: _Network) -> Emotion2vecConfig:
    audio = values.modalities.audio
    if audio.num_alibi_heads != values.num_heads or values.embed_dim % values.num_heads:
        raise ValueError(
            f"{values.num_heads} heads do not fit embed_dim {values.embed_dim} and {audio.num_alibi_heads} ALiBi heads"
        )
    channels, kernels, strides = zip(*_convolutions(audio.feature_encoder_spec), strict=True)
    return Emotion2vecConfig(
        hidden_size=values.embed_dim,
        num_attention_heads=values.num_heads,
        intermediate_size=int(values.embed_dim * values.mlp_ratio),
        num_hidden_layers=values.depth,
        num_prenet_layers=audio.prenet_depth,
        layer_norm_eps=values.norm_eps,
        conv_dim=channels,
        conv_kernel=kernels,
        conv_stride=strides,
        num_conv_pos_layers=audio.conv_pos_depth,
        num_conv_pos_embeddings=max(_MIN_POSITION_KERNEL, audio.conv_pos_width // audio.conv_pos_depth),
        num_conv_pos_embedding_groups=audio.conv_pos_groups,
        num_extra_tokens=audio.num_extra_tokens,
    )


def _convolutions(spec: str) -> list[tuple[int, int, int]]:
    """Return channels, kernel and stride of each convolution in a Python expression, without evaluating it.

    FunASR evaluates the expression, such as ``[(512, 10, 5)] + [(512, 3, 2)] * 4``.

    Raises
    ------
    ValueError
        If the expression contains anything but sums and multiples of lists of three positive numbers.
    """
    try:
        layers = _evaluate(ast.parse(spec.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"feature_encoder_spec {spec!r} is no list of convolutions") from error
    if not layers or not all(number > 0 for layer in layers for number in layer):
        raise ValueError(f"feature_encoder_spec {spec!r} is no list of convolutions")
    return layers


def _evaluate(node: ast.expr) -> list[tuple[int, int, int]]:
    match node:
        case ast.List(elts=elements):
            return [_triple(element) for element in elements]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _evaluate(left) + _evaluate(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(count))):
            layers = _evaluate(left)
            if len(layers) * count <= _MAX_CONVOLUTIONS:
                return layers * count
    raise ValueError(f"feature_encoder_spec contains {ast.unparse(node)!r} instead of a list of convolutions")


def _triple(node: ast.expr) -> tuple[int, int, int]:
    match node:
        case ast.Tuple(
            elts=[ast.Constant(value=int(channels)), ast.Constant(value=int(kernel)), ast.Constant(value=int(stride))]
        ):
            return channels, kernel, stride
    raise ValueError(f"feature_encoder_spec contains {ast.unparse(node)!r} instead of channels, kernel and stride")


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointUnreadable(f"{file.parent} has no {file.name}.") from error
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise CheckpointUnreadable(f"{file} is not readable YAML: {first_line(error)}") from error
    if not isinstance(document, dict):
        raise CheckpointUnreadable(f"{file} does not contain a YAML mapping.")
    return document


def _check(file: Path, values: Mapping[str, Any], supported: Mapping[str, tuple[object, ...]]) -> None:
    """Check values of which a missing one counts as None, as in FunASR."""
    check_values(file, {name: values.get(name) for name in supported}, supported)


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a part of the document; an empty one if it is missing, which the next check reports."""
    part = values.get(key)
    return part if isinstance(part, dict) else {}
