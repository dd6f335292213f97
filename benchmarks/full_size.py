"""A checkpoint of the published size with random weights, and its serving packages.

Speed and memory do not depend on the weights' values.
"""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig

from core.audio.waveform import Waveform
from core.checkpoints.checkpoint import read_checkpoint
from core.checkpoints.network import build_network
from core.checkpoints.reference import ReferenceNetwork
from core.export.exporter import write_package
from core.export.graph import Precision
from tests.support.networks import HUBERT_BASE_CH, preprocessor_of

_SEED = 20


def clip(duration_s: float, seed: int = 0) -> Waveform:
    """Return noise with the envelope of syllables, at 16 kHz."""
    samples = round(duration_s * 16_000)
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (0.1 * noise * np.abs(np.sin(np.arange(samples) / 1500.0))).astype(np.float32)


def full_size_checkpoint(folder: Path) -> Path:
    """Write the checkpoint unless the folder holds it."""
    if (folder / "pytorch_model.bin").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(_SEED)
    # transformers' defaults are HuBERT base, the published size.
    config = HubertConfig(num_class=6, classifier_dropout=0.1, name_or_path="random-hubert-base")
    described = {**config.to_dict(), "_name_or_path": "random-hubert-base", "num_class": 6}
    described.pop("id2label", None)
    network = build_network(HUBERT_BASE_CH, described)
    (folder / "config.json").write_text(json.dumps(described, default=str), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_of(network)), encoding="utf-8")
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    return folder


def full_size_package(checkpoint: Path, folder: Path, precision: Precision) -> Path:
    """Write a serving package unless the folder holds it. Parity is not checked: random weights decide nothing."""
    if (folder / "manifest.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    read = read_checkpoint(checkpoint)
    clips = [clip(2.0)]
    write_package(read, folder, precision, clips, [ReferenceNetwork(read).logits(waveform) for waveform in clips])
    return folder
