"""The reference implementation of emotion2vec in FunASR, and checkpoints in the layout of the published ones.

FunASR's package imports everything that it has, and its module that loads audio needs further packages. The modules of
the network need PyTorch and omegaconf only, so they are imported alone.
"""

import importlib
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from core.audio.waveform import Waveform
from core.checkpoints.architecture import EMOTION2VEC, Architecture, Encoder
from core.checkpoints.emotion2vec import Emotion2vecConfig
from core.checkpoints.network import SpeechNetwork, build_network
from tests.support.networks import randomised

TOKENS = (
    *("生气/angry", "厌恶/disgusted", "恐惧/fearful", "开心/happy", "中立/neutral"),
    *("其他/other", "难过/sad", "吃惊/surprised", "<unk>"),
)
"""The published labels, in the order of the logits."""
LABELS = ("anger", "disgust", "fear", "happy", "neutral", "other", "sad", "surprise", "unknown")
"""This project's names for them."""

_SPEC = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
_SMALL_SPEC = "[(12, 10, 5)] + [(16, 3, 2)] * 4 + [(20,2,2)] + [(24,2,2)]"

SIZES: Mapping[str, Emotion2vecConfig] = {
    "seed": Emotion2vecConfig(),
    "base": Emotion2vecConfig(),
    "large": Emotion2vecConfig(hidden_size=1024, num_attention_heads=16, intermediate_size=4096),
}
"""The published sizes: seed and base differ in their training only."""
SMALL = Emotion2vecConfig(
    hidden_size=48,
    num_attention_heads=6,
    intermediate_size=96,
    num_hidden_layers=2,
    num_prenet_layers=2,
    conv_dim=(12, 16, 16, 16, 16, 20, 24),
    num_conv_pos_layers=3,
    num_conv_pos_embeddings=5,
    num_conv_pos_embedding_groups=4,
    num_extra_tokens=3,
)
"""A size that runs in milliseconds, with a number of heads that is no power of two."""


def document(config: Emotion2vecConfig) -> dict[str, Any]:
    """Return the content of a config.yaml, with every key that FunASR's network reads."""
    audio = {
        "type": "AUDIO",
        "prenet_depth": config.num_prenet_layers,
        "prenet_layerdrop": 0.05,
        "prenet_dropout": 0.1,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "num_extra_tokens": config.num_extra_tokens,
        "init_extra_token_zero": True,
        "mask_prob": 0.5,
        "mask_channel_prob": 0.0,
        "local_grad_mult": 1.0,
        "use_alibi_encoder": True,
        "alibi_scale": 1.0,
        "learned_alibi": False,
        "alibi_max_pos": None,
        "learned_alibi_scale": True,
        "learned_alibi_scale_per_head": True,
        "learned_alibi_scale_per_layer": False,
        "num_alibi_heads": config.num_attention_heads,
        "model_depth": config.num_hidden_layers,
        "decoder": {"decoder_dim": 16, "decoder_groups": 4, "decoder_kernel": 7, "decoder_layers": 2}
        | {"projection_layers": 1, "projection_ratio": 2.0, "decoder_residual": True, "input_dropout": 0.1},
        "extractor_mode": "layer_norm",
        "feature_encoder_spec": _SMALL_SPEC if config.conv_dim == SMALL.conv_dim else _SPEC,
        "conv_pos_width": config.num_conv_pos_embeddings * config.num_conv_pos_layers,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "conv_pos_depth": config.num_conv_pos_layers,
        "conv_pos_pre_ln": False,
    }
    network = {
        "depth": config.num_hidden_layers,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "num_heads": config.num_attention_heads,
        "norm_eps": config.layer_norm_eps,
        "norm_affine": True,
        "encoder_dropout": 0.1,
        "post_mlp_drop": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "dropout_input": 0.0,
        "layerdrop": 0.05,
        "embed_dim": config.hidden_size,
        "mlp_ratio": config.intermediate_size / config.hidden_size,
        "layer_norm_first": False,
        "end_of_block_targets": False,
        "clone_batch": 8,
        "normalize": True,
        "modalities": {"audio": audio},
    }
    tokenizer = {"unk_symbol": "<unk>", "split_with_space": True}
    return {"model": "Emotion2vec", "model_conf": network, "tokenizer": "CharTokenizer", "tokenizer_conf": tokenizer}


def random_emotion2vec(config: Emotion2vecConfig, labels: tuple[str, ...] = LABELS) -> SpeechNetwork:
    """Build a network with random tensors that all have an effect, in evaluation mode."""
    architecture = Architecture(encoder=Encoder.EMOTION2VEC, head=EMOTION2VEC, labels=labels)
    return randomised(build_network(architecture, vars(config)))


class FunAsrNetwork:
    """FunASR's network, with the tensors of another one."""

    def __init__(self, network: SpeechNetwork, content: Mapping[str, Any], tokens: tuple[str, ...] = TOKENS) -> None:
        self._tokens = tokens
        self.model = _emotion2vec_class()(model_conf=content["model_conf"], vocab_size=len(tokens))
        tensors = {name.removeprefix("d2v_model."): tensor for name, tensor in network.state_dict().items()}
        missing, unexpected = self.model.load_state_dict(tensors, strict=False)
        assert not unexpected
        assert all(".decoder." in name for name in missing), missing
        self.model.eval()

    @torch.inference_mode()
    def logits(self, waveform: Waveform) -> torch.Tensor:
        """Compute the logits as FunASR's `inference` does, shape ``(labels,)``."""
        source = torch.from_numpy(waveform)
        source = torch.nn.functional.layer_norm(source, source.shape)[None]
        states = self.model.extract_features(source, padding_mask=None)["x"]
        logits: torch.Tensor = self.model.proj(states.mean(dim=1))[0]
        return logits

    @torch.inference_mode()
    def scores(self, waveform: Waveform) -> dict[str, float]:
        """Compute the scores with FunASR's `inference`."""
        tokenizer = ModuleType("tokenizer")
        tokenizer.token_list = list(self._tokens)  # type: ignore[attr-defined]
        results, _ = self.model.inference([torch.from_numpy(waveform)], key=["clip"], tokenizer=tokenizer, device="cpu")
        return dict(zip(results[0]["labels"], results[0]["scores"], strict=True))


@cache
def _emotion2vec_class() -> Any:
    """Import FunASR's network without the rest of the package."""
    spec = find_spec("funasr")
    assert spec is not None
    package, audio = ModuleType("funasr"), ModuleType("funasr.utils.load_utils")
    package.__path__ = list(spec.submodule_search_locations or ())
    audio.load_audio_text_image_video = lambda data, **_: data  # type: ignore[attr-defined]
    sys.modules.update({package.__name__: package, audio.__name__: audio})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about distutils
        return importlib.import_module("funasr.models.emotion2vec.model").Emotion2vec


def write_folder(network: SpeechNetwork, config: Emotion2vecConfig, folder: Path) -> Path:
    """Write a checkpoint in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(document(config)))
    (folder / "tokens.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    torch.save({"model": network.state_dict()}, folder / "model.pt")
    return folder
