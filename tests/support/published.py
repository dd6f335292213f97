"""The config files of the published checkpoints, and small checkpoints with them."""

import json
from pathlib import Path
from typing import Any

from core.checkpoints.architecture import (
    EHCALABRES,
    EMOTION2VEC,
    SOXAN,
    STOCK,
    Architecture,
    Encoder,
    Head,
    InputMode,
    Output,
)
from core.checkpoints.network import SpeechNetwork, build_network
from core.checkpoints.registry import CHECKPOINTS
from tests.support import emotion2vec
from tests.support.networks import PUBLISHED_KERNELS, randomised, write_checkpoint

_FOLDER = Path(__file__).parents[1] / "checkpoints"
_IN_CORPORA = {"hubert-base-ch": "data/seed", "wav2vec2-xlsr-en": "data/seed/ehcalabres"}

HEADS: dict[str, tuple[Head, bool, bool]] = {
    "hubert-base-ch": (SOXAN, False, True),
    "wav2vec2-xlsr-en": (EHCALABRES, False, True),
    "hubert-large-superb-er": (STOCK, True, True),
    "hubert-base-superb-er": (STOCK, True, False),
    "wav2vec2-large-superb-er": (STOCK, True, True),
    "wav2vec2-base-superb-er": (STOCK, True, False),
    "wav2vec2-msp-dim": (SOXAN, False, True),
    "hubert-dusha-ru": (STOCK, False, True),
    "wav2vec2-resd-ru": (STOCK, False, True),
    "wav2vec2-shemo-fa": (SOXAN, False, True),
    "wav2vec2-aesdd-el": (SOXAN, False, True),
    "wav2vec2-base-en": (STOCK, False, True),
    **dict.fromkeys(emotion2vec.NAMES, (EMOTION2VEC, False, True)),
}
"""Checkpoint -> its head, whether it has a weighted sum, and whether its clips are normalised."""


def published_folder(name: str, corpora: Path) -> Path:
    """Return the folder with the config files of a checkpoint."""
    return corpora / _IN_CORPORA[name] if name in _IN_CORPORA else _FOLDER / name


def published_config(name: str, corpora: Path) -> dict[str, Any]:
    """Return the published config.json of a checkpoint of transformers."""
    config: dict[str, Any] = json.loads((published_folder(name, corpora) / "config.json").read_text())
    return config


def small(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config for a network that runs in milliseconds, with all other values as published."""
    return {
        **config,
        "classifier_proj_size": 24,
        "conv_dim": [8 + 2 * layer for layer in range(len(PUBLISHED_KERNELS))],
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_conv_pos_embedding_groups": 4,
        "num_hidden_layers": 2,
    }


def published_network(name: str, config: dict[str, Any]) -> SpeechNetwork:
    """Build the network of a checkpoint of transformers, with its initial weights."""
    head, has_weighted_sum, is_normalised = HEADS[name]
    architecture = Architecture(
        encoder=Encoder(config["model_type"]),
        input_mode=InputMode.PADDED_WINDOW if name == "hubert-base-ch" else InputMode.CLIP,
        is_normalised=is_normalised,
        has_weighted_sum=has_weighted_sum,
        head=head,
        output=Output.LINEAR if name == "wav2vec2-msp-dim" else Output.SOFTMAX,
        labels=CHECKPOINTS[name].labels,
    )
    inner_size = config["classifier_proj_size"] if head == STOCK else None
    return build_network(architecture, {**config, "vocab_size": 32}, inner_size)


def full_size_network(name: str, corpora: Path) -> SpeechNetwork:
    """Build the network of any checkpoint with its published sizes."""
    if name in emotion2vec.NAMES:
        architecture = Architecture(encoder=Encoder.EMOTION2VEC, head=EMOTION2VEC, labels=CHECKPOINTS[name].labels)
        return build_network(architecture, vars(emotion2vec.SIZES[name]))
    return published_network(name, published_config(name, corpora))


def small_published_checkpoint(name: str, corpora: Path, folder: Path) -> SpeechNetwork:
    """Write a small checkpoint with random weights and the published config files, and return its network.

    The folder has a record of the repository, as after `model pull`.
    """
    source = json.dumps({"id": CHECKPOINTS[name].repo_id, "revision": "1" * 40})
    if name in emotion2vec.NAMES:
        network = emotion2vec.random_emotion2vec(emotion2vec.SMALL)
        emotion2vec.write_folder(network, emotion2vec.document(emotion2vec.SMALL), folder)
        (folder / "source.json").write_text(source)
        return network
    config = small(published_config(name, corpora))
    network = randomised(published_network(name, config))
    write_checkpoint(network, config, folder)
    preprocessor = published_folder(name, corpora) / "preprocessor_config.json"
    if preprocessor.exists():
        (folder / preprocessor.name).write_bytes(preprocessor.read_bytes())
    else:
        (folder / preprocessor.name).unlink()
    (folder / "source.json").write_text(source)
    return network
