"""The reference implementation of emotion2vec in FunASR, and checkpoints in the layout of the published ones.

FunASR's package imports everything that it has, and its module that loads audio needs further packages. The modules of
the network need PyTorch and omegaconf only, so they are imported alone.
"""

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf

from core.audio.waveform import Waveform
from core.checkpoints.architecture import EMOTION2VEC, Architecture, Encoder
from core.checkpoints.emotion2vec import Emotion2vecConfig
from core.checkpoints.funasr import read_config
from core.checkpoints.network import SpeechNetwork, build_network
from core.checkpoints.registry import CHECKPOINTS
from tests.support.networks import randomised

PUBLISHED = Path(__file__).parents[1] / "checkpoints"
NAMES = ("emotion2vec-plus-seed", "emotion2vec-plus-base", "emotion2vec-plus-large")

TOKENS = tuple((PUBLISHED / NAMES[0] / "tokens.txt").read_text(encoding="utf-8").splitlines())
"""The published labels, in the order of the logits."""
LABELS = CHECKPOINTS[NAMES[0]].labels
"""This project's names for them."""

SIZES: Mapping[str, Emotion2vecConfig] = {name: read_config(PUBLISHED / name).sizes for name in NAMES}
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
    """Return the content of the published config.yaml with other sizes."""
    content = OmegaConf.to_container(OmegaConf.load(PUBLISHED / NAMES[0] / "config.yaml"))
    assert isinstance(content, dict)
    network = content["model_conf"]
    network |= {
        "depth": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "norm_eps": config.layer_norm_eps,
        "embed_dim": config.hidden_size,
        "mlp_ratio": config.intermediate_size / config.hidden_size,
    }
    convolutions = zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)
    network["modalities"]["audio"] |= {
        "prenet_depth": config.num_prenet_layers,
        "num_extra_tokens": config.num_extra_tokens,
        "num_alibi_heads": config.num_attention_heads,
        "model_depth": config.num_hidden_layers,
        "feature_encoder_spec": str(list(convolutions)),
        "conv_pos_width": config.num_conv_pos_embeddings * config.num_conv_pos_layers,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "conv_pos_depth": config.num_conv_pos_layers,
    }
    return {str(key): value for key, value in content.items()}


def random_emotion2vec(config: Emotion2vecConfig, labels: tuple[str, ...] = LABELS) -> SpeechNetwork:
    """Build a network with random tensors that all have an effect, in evaluation mode."""
    architecture = Architecture(encoder=Encoder.EMOTION2VEC, head=EMOTION2VEC, labels=labels)
    return randomised(build_network(architecture, vars(config)))


def write_folder(
    network: SpeechNetwork,
    content: Mapping[str, Any],
    folder: Path,
    *,
    tokens: Sequence[str] = TOKENS,
    weights: object = None,
) -> Path:
    """Write a checkpoint in the layout of the Hub and of ModelScope.

    Parameters
    ----------
    weights
        The content of model.pt; None for the network's tensors with the state of a training, as published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(content)))
    (folder / "tokens.txt").write_text("\n".join(tokens), encoding="utf-8")
    (folder / "configuration.json").write_text('{"framework": "pytorch", "model": {"type": "funasr"}}')
    tensors = network.state_dict()
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(5)}}}
    torch.save(weights or {"model": tensors, "last_optimizer_state": optimizer}, folder / "model.pt")
    return folder


class FunAsrNetwork:
    """FunASR's network, with the tensors of another one.

    Parameters
    ----------
    content
        The content of config.yaml.
    tokens
        The lines of tokens.txt.
    """

    def __init__(self, network: SpeechNetwork, content: Mapping[str, Any], tokens: Sequence[str] = TOKENS) -> None:
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
