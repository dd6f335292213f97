"""Which checkpoints exist, fetching one, and reading it strictly.

Reading is our own rather than `from_pretrained`'s, because that one starts a missing tensor at random and only logs it:
several published forks of such models answer from a random head without anybody noticing. Here a tensor that is
missing, unexpected or mis-shaped is an error that names it, and nothing is ever unpickled.

Needs PyTorch and transformers, which the Lambda function does not have.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import HubertConfig

from core.errors import CheckpointUnreachable, CheckpointUnreadable
from core.model.network import HubertForSpeechClassification

SOURCE_FILE = "source.json"
"""Beside the weights: which model this is, and the commit it was fetched at."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference: safetensors cannot carry code."""

_CONFIG_FILES = ("config.json", "preprocessor_config.json")

_LABELS_BY_DEFAULT = ("anger", "fear", "happy", "neutral", "sad", "surprise")
"""Index order of the published head, whose config names no labels (its model card writes "angry")."""

_RENAMED_SINCE_TRANSFORMERS_4 = {
    ".pos_conv_embed.conv.weight_g": ".pos_conv_embed.conv.parametrizations.weight.original0",
    ".pos_conv_embed.conv.weight_v": ".pos_conv_embed.conv.parametrizations.weight.original1",
}


@dataclass(frozen=True)
class CheckpointName:
    """A checkpoint that `audio-emotion model pull` knows by name."""

    repo_id: str
    licence: str


CHECKPOINTS = {
    "hubert-base-ch": CheckpointName("xmj2002/hubert-base-ch-speech-emotion-recognition", "Apache-2.0"),
}
DEFAULT_CHECKPOINT = "hubert-base-ch"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, read and checked; the network is in evaluation mode."""

    network: HubertForSpeechClassification
    labels: tuple[str, ...]
    model_id: str
    revision: str
    weights_sha256: str
    demo: bool


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a Hugging Face folder: config.json, preprocessor_config.json and the weights.

    Raises
    ------
    CheckpointUnreadable
        If a file is missing or malformed, or a tensor is missing, unexpected, mis-shaped or not finite.
    """
    config = _read_config(folder)
    _check_preprocessor(folder)
    weights_file = _weights_file(folder)
    try:
        network = HubertForSpeechClassification(HubertConfig(**config))
    except Exception as error:  # sizes that fit no network show as any kind of error, in transformers and in PyTorch
        problem = f"{type(error).__name__}: {str(error).splitlines()[-1].strip()}"
        raise CheckpointUnreadable(f"{folder}/config.json describes no network ({problem}).") from error
    network.load_state_dict(_checked(_read_weights(weights_file), network, weights_file.name))
    source = _source(folder)
    with weights_file.open("rb") as weights:
        weights_sha256 = hashlib.file_digest(weights, "sha256").hexdigest()
    return Checkpoint(
        network=network.eval(),
        labels=_labels(config),
        model_id=str(source.get("id") or config.get("_name_or_path") or folder.name),
        revision=str(source.get("revision") or f"sha256:{weights_sha256[:12]}"),
        weights_sha256=weights_sha256,
        demo=bool(config.get("demo", False)),
    )


def pull(
    name: str,
    destination: Path,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
    folder: Path | None = None,
) -> str:
    """Fetch a checkpoint into `destination`, and record the commit that it came from.

    Parameters
    ----------
    name
        A key of `CHECKPOINTS`, or any `owner/name` on the Hub.
    destination
        The folder to fill; files that are there already and complete are not fetched again.
    revision
        A branch, a tag or a commit; the Hub's main branch unless told.
    endpoint
        Another server that speaks the Hub's protocol.
    folder
        Copy from this folder instead of asking a server.

    Returns
    -------
    The resolved commit, or "local" for a folder that does not know its own.

    Raises
    ------
    CheckpointUnreachable
        If the server does not answer, or does not have the checkpoint or the revision.
    CheckpointUnreadable
        If the folder or the repository lacks a file that a checkpoint needs.
    """
    repo_id = CHECKPOINTS[name].repo_id if name in CHECKPOINTS else name
    if folder is not None:
        return _pull_from_folder(repo_id, folder, destination)
    return _pull_from_hub(repo_id, destination, revision, endpoint)


def _pull_from_folder(repo_id: str, folder: Path, destination: Path) -> str:
    files = [*(folder / name for name in _CONFIG_FILES), _weights_file(folder)]
    for file in files:
        if not file.exists():
            raise CheckpointUnreadable(f"{folder} has no {file.name}.")
    if folder.resolve() == destination.resolve():
        raise CheckpointUnreadable(f"{folder} cannot be copied into itself.")
    destination.mkdir(parents=True, exist_ok=True)
    _forget_another(destination)
    for file in files:
        shutil.copyfile(file, destination / file.name)
    source = _source(folder)
    return _record_source(destination, str(source.get("id") or repo_id), str(source.get("revision") or "local"))


def _pull_from_hub(repo_id: str, destination: Path, revision: str | None, endpoint: str | None) -> str:
    # Imported here: reading a checkpoint that is on this machine needs no HTTP client.
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=endpoint)
    try:
        info = api.model_info(repo_id, revision=revision)
        commit = str(info.sha)
        files = {sibling.rfilename for sibling in info.siblings or ()}
        weights = [name for name in WEIGHT_FILES if name in files][:1]
        absent = [name for name in _CONFIG_FILES if name not in files] or ([] if weights else ["weights"])
        if absent:
            raise CheckpointUnreadable(f"{repo_id} at {commit} has no {absent[0]}.")
        if _source(destination) != {"id": repo_id, "revision": commit}:
            _forget_another(destination)
        for name in (*_CONFIG_FILES, *weights):
            # By commit, so that a push between two files cannot mix two revisions.
            api.hf_hub_download(repo_id, name, revision=commit, local_dir=destination)
    except HfHubHTTPError as error:
        raise CheckpointUnreachable(f"The Hub does not deliver {repo_id} ({_first_line(error)}).") from error
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise CheckpointUnreachable(f"{repo_id} could not be fetched: {_first_line(error)}") from error
    return _record_source(destination, repo_id, commit)


def _forget_another(destination: Path) -> None:
    """Remove the checkpoint that is there: its weights must never be taken for the new one's."""
    for name in (SOURCE_FILE, *_CONFIG_FILES, *WEIGHT_FILES):
        (destination / name).unlink(missing_ok=True)


def _source(folder: Path) -> dict[str, Any]:
    return _read_json(folder / SOURCE_FILE) if (folder / SOURCE_FILE).exists() else {}


def _record_source(destination: Path, repo_id: str, revision: str) -> str:
    document = json.dumps({"id": repo_id, "revision": revision}, indent=2)
    (destination / SOURCE_FILE).write_text(document + "\n", encoding="utf-8")
    return revision


def _read_config(folder: Path) -> dict[str, Any]:
    config = _read_json(folder / "config.json")
    if config.get("model_type") != "hubert":
        raise CheckpointUnreadable(f"{folder}/config.json is of model type {config.get('model_type')!r}, not 'hubert'.")
    if config.get("feat_extract_norm") != "group" or config.get("do_stable_layer_norm") or config.get("conv_bias"):
        raise CheckpointUnreadable(
            f"{folder}/config.json describes another HuBERT than base: feat_extract_norm must be 'group', "
            "do_stable_layer_norm and conv_bias false."
        )
    if {config.get("feat_extract_activation", "gelu"), config.get("hidden_act", "gelu")} != {"gelu"}:
        raise CheckpointUnreadable(f"{folder}/config.json names another activation than 'gelu'.")
    if config.get("num_class") != len(_labels(config)):
        raise CheckpointUnreadable(f"{folder}/config.json has num_class {config.get('num_class')} but other labels.")
    return config


def _labels(config: dict[str, Any]) -> tuple[str, ...]:
    id2label = config.get("id2label")
    if not id2label:
        return _LABELS_BY_DEFAULT
    try:
        return tuple(str(id2label[key]) for key in sorted(id2label, key=int))
    except (TypeError, ValueError) as error:
        raise CheckpointUnreadable("config.json has an id2label that does not number its labels.") from error


def _check_preprocessor(folder: Path) -> None:
    """The reference is fed 16 kHz, normalised, right-padded, without a mask; anything else is another model."""
    stated = _read_json(folder / "preprocessor_config.json")
    needed = {
        "do_normalize": True,
        "padding_side": "right",
        "padding_value": 0,
        "return_attention_mask": False,
        "sampling_rate": 16_000,
    }
    for name, value in needed.items():
        if stated.get(name) != value:
            raise CheckpointUnreadable(
                f"{folder}/preprocessor_config.json has {name} {stated.get(name)!r}; only {value!r} is supported."
            )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointUnreadable(f"{file.parent} has no {file.name}.") from error
    except (ValueError, OSError) as error:
        raise CheckpointUnreadable(f"{file} is not readable JSON: {_first_line(error)}") from error
    if not isinstance(document, dict):
        raise CheckpointUnreadable(f"{file} holds no JSON object.")
    return document


def _weights_file(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).exists():
            return folder / name
    raise CheckpointUnreadable(f"{folder} has neither {' nor '.join(WEIGHT_FILES)}.")


def _read_weights(file: Path) -> dict[str, torch.Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, EOFError) as error:
        raise CheckpointUnreadable(f"{file} cannot be read: {_first_line(error)}") from error
    except Exception as error:
        raise CheckpointUnreadable(f"{file} holds more than tensors: {_first_line(error)}") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise CheckpointUnreadable(f"{file} is not a dictionary of tensors.")
    return weights


def _checked(
    weights: dict[str, torch.Tensor], network: HubertForSpeechClassification, file_name: str
) -> dict[str, torch.Tensor]:
    """Today's names, float32, and exactly the tensors that the network has."""
    given = {_name_of_today(name): tensor for name, tensor in weights.items()}
    expected = network.state_dict()
    missing = sorted(expected.keys() - given.keys())
    unexpected = sorted(given.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointUnreadable(
            f"{file_name} does not fit the network; missing: {_listed(missing)}; unexpected: {_listed(unexpected)}."
        )
    for name, tensor in given.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointUnreadable(
                f"{file_name} has {name} of shape {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}."
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointUnreadable(f"{file_name} has values in {name} that are not finite.")
    return {name: tensor.to(torch.float32) for name, tensor in given.items()}


def _name_of_today(name: str) -> str:
    for old, new in _RENAMED_SINCE_TRANSFORMERS_4.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _listed(names: list[str], most: int = 5) -> str:
    if not names:
        return "none"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
