"""The files of a checkpoint: a Hugging Face folder, and a record of its source. Needs no PyTorch."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import CheckpointUnreadable
from core.formatting import first_line

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
"""transformers 5 writes the preprocessor's values into this file if a tokenizer belongs to the checkpoint."""
CONFIG_FILES = (CONFIG_FILE, PREPROCESSOR_FILE)

SOURCE_FILE = "source.json"
"""The record of the model's name and the commit that was fetched."""

SHARD_INDEX_FILE = "model.safetensors.index.json"
"""The list of the tensors of a checkpoint whose weights are in several files."""

WEIGHT_FILES = ("model.safetensors", SHARD_INDEX_FILE, "pytorch_model.bin")
"""In order of preference: safetensors cannot contain code."""


def weights_file(folder: Path) -> Path:
    """Return the preferred file of weights in a folder.

    Raises
    ------
    CheckpointUnreadable
        If there is none.
    """
    for name in WEIGHT_FILES:
        if (folder / name).exists():
            return folder / name
    raise CheckpointUnreadable(f"{folder} has neither {' nor '.join(WEIGHT_FILES)}.")


def weight_parts(file: Path) -> tuple[Path, ...]:
    """Return the files with the tensors: the file itself, or those that an index lists."""
    return tuple(file.parent / name for name in shard_names(file)) if file.name == SHARD_INDEX_FILE else (file,)


def shard_names(index: Path) -> tuple[str, ...]:
    """Return the names of the files that an index of sharded weights lists, sorted.

    Raises
    ------
    CheckpointUnreadable
        If the index is malformed, or names a file outside the folder.
    """
    return tuple(sorted(set(read_shard_index(index).values())))


def read_shard_index(index: Path) -> dict[str, str]:
    """Return the file of each tensor in an index of sharded weights.

    Raises
    ------
    CheckpointUnreadable
        If the index is malformed, or names a file outside the folder.
    """
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(map(_is_shard_name, files.values())):
        raise CheckpointUnreadable(f"{index} has no weight_map from tensors to names such as model-00001-of-00002.")
    return files


def _is_shard_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"model-\d+-of-\d+\.safetensors", name) is not None


def read_json(file: Path) -> dict[str, Any]:
    """Read a file with a JSON object.

    Raises
    ------
    CheckpointUnreadable
        If the file is missing, or does not contain a JSON object.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointUnreadable(f"{file.parent} has no {file.name}.") from error
    except (ValueError, OSError) as error:
        raise CheckpointUnreadable(f"{file} is not readable JSON: {first_line(error)}") from error
    if not isinstance(document, dict):
        raise CheckpointUnreadable(f"{file} does not contain a JSON object.")
    return document


def read_source(folder: Path) -> dict[str, Any]:
    """Read the record of a checkpoint's source; empty if there is none."""
    return read_json(folder / SOURCE_FILE) if (folder / SOURCE_FILE).exists() else {}


def record_source(folder: Path, repo_id: str, revision: str, overrides: Mapping[str, Any] | None = None) -> str:
    """Write the record of a checkpoint's source, and return the revision.

    Parameters
    ----------
    overrides
        The values of `core.checkpoints.architecture.Overrides` that the user chose for this copy of the checkpoint.
    """
    source = {"id": repo_id, "revision": revision, **({"overrides": dict(overrides)} if overrides else {})}
    document = json.dumps(source, indent=2)
    (folder / SOURCE_FILE).write_text(document + "\n", encoding="utf-8")
    return revision
