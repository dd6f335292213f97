"""The serving graph of emotion2vec: a clip's graph with extra tokens, ALiBi and several positional convolutions.

The layers of the pre-net and the later ones are equal in kind, and equal to transformers' layers with norms after them.
So the tensors get transformers' names, and the base classes build the feature encoder, the layers and the head.
`core.checkpoints.emotion2vec` describes the network.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from onnx import TensorProto

from core.checkpoints.emotion2vec import NORM_EPSILON, alibi_slopes
from core.checkpoints.network import SpeechNetwork
from core.export.graph.builder import CONTRIB, TO_THE_END, Floats
from core.export.graph.clip import ClipGraph
from core.export.graph.precision import Linear


class Emotion2vecGraph(ClipGraph):
    """Builds the graph of an emotion2vec network; its inputs are `ClipGeometry.graph_inputs`."""

    def _tensors(self, network: SpeechNetwork) -> dict[str, Floats]:
        weights = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
        for name, module in _named_modules(network.base_model):
            for kind, tensor in module.named_parameters():
                weights[f"{self._prefix}.{name}.{kind}"] = tensor.detach().numpy()
        return weights

    @property
    def _projection_epsilon(self) -> float:
        return NORM_EPSILON

    @property
    def _is_stable(self) -> bool:
        return False

    @property
    def _layer_count(self) -> int:
        return int(self._config.num_prenet_layers + self._config.num_hidden_layers)

    def _query_key_value(self, prefix: str, *, int8: bool) -> Iterator[Linear]:
        together = self._read_linear(f"{prefix}.qkv")
        assert together.bias is not None
        weights, biases = np.split(together.weight, 3, axis=1), np.split(together.bias, 3)
        return (Linear(weight, bias, int8) for weight, bias in zip(weights, biases, strict=True))

    def _embeddings(self, frames: str) -> str:
        """Add the positional convolutions to the frames, and put the extra tokens in front."""
        position = frames
        for layer in range(self._config.num_conv_pos_layers):
            position = self._positional_layer(position, f"{self._prefix}.encoder.pos_conv_embed.{layer}")
        extra = self._constant(self._weights[f"{self._prefix}.{_AUDIO}.extra_tokens"][0])
        tokens = self._node("Concat", extra, self._node("Add", frames, position), axis=0)
        return self._node("Unsqueeze", tokens, self._constant(np.array([0])))

    def _positional_layer(self, rows: str, prefix: str) -> str:
        """Add a grouped convolution, its layer norm without weights, and the activation: ``(frames, hidden)``."""
        kernel, first = self._config.num_conv_pos_embeddings, self._constant(np.array([0]))
        columns = self._node("Unsqueeze", self._node("Transpose", rows, perm=[1, 0]), first)
        weight, bias = (self._constant(self._weights[f"{prefix}.{name}"]) for name in ("weight", "bias"))
        pads, groups = [kernel // 2, (kernel - 1) // 2], self._config.num_conv_pos_embedding_groups
        convolved = self._node("Conv", columns, weight, bias, group=groups, pads=pads)
        convolved = self._node("Transpose", convolved, perm=[0, 2, 1])
        normed = self._standardised(convolved, lambda: "frame_count", NORM_EPSILON)
        return self._node("Squeeze", self._node("Gelu", normed, domain=CONTRIB), first)

    def _attention_bias(self) -> str:
        """Compute ALiBi's bias, shape ``(heads, tokens, tokens)``, which all layers share.

        It falls with the distance of two frames, and is 0 from and to an extra token.
        """
        zero, one = self._constant(np.array(0)), self._constant(np.array(1))
        frame = self._node("Range", zero, self._node("Squeeze", "frame_count"), one)
        difference = self._node("Sub", frame, self._node("Unsqueeze", frame, self._constant(np.array([1]))))
        distance = self._node("Cast", self._node("Abs", difference), to=TensorProto.FLOAT)
        extra = self._config.num_extra_tokens
        distance = self._node("Pad", distance, self._constant(np.array([extra, extra, 0, 0])))
        scale = np.maximum(self._weights[f"{self._prefix}.{_AUDIO}.alibi_scale"], 0).reshape(-1, 1, 1)
        slopes = np.array(alibi_slopes(self._config.num_attention_heads), np.float32)
        return self._node("Mul", distance, self._constant(-slopes[:, None, None] * scale))

    def _mean(self, hidden: str) -> str:
        return super()._mean(self._slice(hidden, self._config.num_extra_tokens, TO_THE_END, axis=1))

    def _token_count(self) -> str:
        return self._node("Add", "frame_count", self._constant(np.array([self._config.num_extra_tokens])))


_AUDIO = "modality_encoders.AUDIO"


def _named_modules(encoder: Any) -> Iterator[tuple[str, Any]]:
    """Yield transformers' name of each module of the encoder with weights, and the module."""
    audio = encoder.get_submodule(_AUDIO)
    for number, layer in enumerate(audio.local_encoder.conv_layers):
        yield f"feature_extractor.conv_layers.{number}.conv", layer[0]
        yield f"feature_extractor.conv_layers.{number}.layer_norm", layer[2][1]
    yield "feature_projection.layer_norm", audio.project_features[1]
    yield "feature_projection.projection", audio.project_features[2]
    for number, layer in enumerate(audio.relative_positional_encoder[1:-1]):
        yield f"encoder.pos_conv_embed.{number}", layer[0]
    yield "encoder.layer_norm", audio.context_encoder.norm
    for number, layer in enumerate(chain(audio.context_encoder.blocks, encoder.blocks)):
        prefix = f"encoder.layers.{number}"
        yield f"{prefix}.attention.qkv", layer.attn.qkv
        yield f"{prefix}.attention.out_proj", layer.attn.proj
        yield f"{prefix}.layer_norm", layer.norm1
        yield f"{prefix}.feed_forward.intermediate_dense", layer.mlp.fc1
        yield f"{prefix}.feed_forward.output_dense", layer.mlp.fc2
        yield f"{prefix}.final_layer_norm", layer.norm2
