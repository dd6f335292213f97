"""The network that a training starts from and saves: the encoder of a checkpoint under transformers' own head.

The head uses a weighted sum of all hidden states, so `AutoModelForAudioClassification` computes the same logits from
the same samples: those of the clip alone, or of a padded window if the start classifies one.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForAudioClassification

from core.audio.waveform import SAMPLE_RATE_HZ
from core.checkpoints.architecture import STOCK, Encoder, InputMode, Overrides
from core.checkpoints.checkpoint import Checkpoint
from core.checkpoints.files import CONFIG_FILE, PREPROCESSOR_FILE, SOURCE_FILE, write_source
from core.checkpoints.network import SpeechNetwork, build_network
from core.errors import TrainingRefused
from core.results import Output

WEIGHTS_FILE = "model.safetensors"
_DROPOUTS = {"layerdrop": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
"""With layers left out, the weighted sum has fewer states than weights. PyTorch's fast attention has no dropout."""
INNER_SIZE = 256
"""transformers' default for `classifier_proj_size`."""
_ENCODERS = (Encoder.HUBERT, Encoder.WAV2VEC2, Encoder.WAVLM)
"""The encoders for which transformers has an audio classifier with a weighted sum."""


def check_start(start: Checkpoint) -> None:
    """Check that transformers has an audio classifier with the encoder of a checkpoint.

    Raises
    ------
    TrainingRefused
        If it has none.
    """
    if start.network.architecture.encoder not in _ENCODERS:
        raise TrainingRefused(
            f"{start.model_id} cannot be trained: transformers has no classifier for its encoder; start from a HuBERT, "
            "wav2vec 2.0 or WavLM checkpoint."
        )


def start_network(start: Checkpoint, labels: tuple[str, ...], seed: int) -> SpeechNetwork:
    """Build a network with a copy of a checkpoint's encoder and a random head for other labels, in evaluation mode."""
    architecture = replace(
        start.network.architecture,
        has_weighted_sum=True,
        head=STOCK,
        output=Output.SOFTMAX,
        labels=labels,
        dimensions_range=None,
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = build_network(architecture, start.network.config.to_dict() | _DROPOUTS, INNER_SIZE)
    network.base_model.load_state_dict(start.network.base_model.state_dict())
    return network.eval()


def transformers_config(network: SpeechNetwork, name: str) -> dict[str, Any]:
    """Return the config.json of transformers' audio classifier with this network."""
    labels = network.architecture.labels
    config: dict[str, Any] = network.config.to_dict() | {
        "_name_or_path": name,
        "use_weighted_layer_sum": True,
        "classifier_proj_size": INNER_SIZE,
        "problem_type": "single_label_classification",
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        # Otherwise, transformers 5.23 takes the last state before the encoder's final norm.
        "tie_last_hidden_states": True,
    }
    model_class = AutoModelForAudioClassification._model_mapping[type(network.config)]
    return {**config, "architectures": [model_class.__name__]}


def write_network(network: SpeechNetwork, folder: Path, name: str) -> None:
    """Write the files of a checkpoint in transformers' layout, and source.json if it classifies a padded window."""
    folder.mkdir(parents=True, exist_ok=True)
    extractor = {
        "do_normalize": network.architecture.is_normalised,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": network.config.feat_extract_norm == "layer",
        "sampling_rate": SAMPLE_RATE_HZ,
    }
    for file, values in ((CONFIG_FILE, transformers_config(network, name)), (PREPROCESSOR_FILE, extractor)):
        (folder / file).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    # safetensors lets only the owner read the file, whatever the umask is.
    shutil.copymode(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
    if network.architecture.input_mode is InputMode.CLIP:
        (folder / SOURCE_FILE).unlink(missing_ok=True)  # of an earlier training
    else:
        write_source(folder, {"overrides": Overrides(input_mode=network.architecture.input_mode).recorded()})
