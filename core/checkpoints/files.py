"""The files of a checkpoint: a Hugging Face folder, and a note of where it came from.

Needs neither PyTorch nor transformers: fetching a checkpoint does without them.
"""

import json
from pathlib import Path
from typing import Any

from core.errors import CheckpointUnreadable

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
CONFIG_FILES = (CONFIG_FILE, PREPROCESSOR_FILE)

SOURCE_FILE = "source.json"
"""Beside the weights: which model this is, and the commit it was fetched at."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference: safetensors cannot carry code."""


def weights_file(folder: Path) -> Path:
    """The weights to read.

    Raises
    ------
    CheckpointUnreadable
        If there are none.
    """
    for name in WEIGHT_FILES:
        if (folder / name).exists():
            return folder / name
    raise CheckpointUnreadable(f"{folder} has neither {' nor '.join(WEIGHT_FILES)}.")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises
    ------
    CheckpointUnreadable
        If the file is missing or holds anything else.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointUnreadable(f"{file.parent} has no {file.name}.") from error
    except (ValueError, OSError) as error:
        raise CheckpointUnreadable(f"{file} is not readable JSON: {first_line(error)}") from error
    if not isinstance(document, dict):
        raise CheckpointUnreadable(f"{file} holds no JSON object.")
    return document


def read_source(folder: Path) -> dict[str, Any]:
    """Where the checkpoint in a folder came from; empty if nobody knows."""
    return read_json(folder / SOURCE_FILE) if (folder / SOURCE_FILE).exists() else {}


def record_source(folder: Path, repo_id: str, revision: str) -> str:
    """Write down where a checkpoint came from; returns the revision."""
    document = json.dumps({"id": repo_id, "revision": revision}, indent=2)
    (folder / SOURCE_FILE).write_text(document + "\n", encoding="utf-8")
    return revision


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]
