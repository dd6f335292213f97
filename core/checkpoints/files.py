"""The files of a checkpoint: a folder of Hugging Face or FunASR, and a record of its source. Needs no PyTorch."""

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
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

TOKENS_FILE = "tokens.txt"
"""FunASR's list of labels, in the order of the logits."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names of a checkpoint's files.

    Attributes
    ----------
    config
        The file with the network's sizes.
    required, optional
        Further files with text.
    weights
        The files with weights in order of preference. One is needed.
    """

    config: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    weights: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, config first."""
        return (self.config, *self.required, *self.optional, *self.weights)


HUGGING_FACE = Layout(
    config=CONFIG_FILE,
    optional=(PREPROCESSOR_FILE, PROCESSOR_FILE),
    # safetensors cannot contain code.
    weights=("model.safetensors", SHARD_INDEX_FILE, "pytorch_model.bin"),
)
FUNASR = Layout(config="config.yaml", required=(TOKENS_FILE,), weights=("model.pt",))
"""The layout of emotion2vec+ on the Hugging Face Hub and on ModelScope."""

LAYOUTS = (HUGGING_FACE, FUNASR)


def find_layout(place: Path | str, present: Container[str]) -> Layout:
    """Return the layout of a folder or a repository.

    Parameters
    ----------
    place
        Its name, for the error message.
    present
        The names of its files.

    Raises
    ------
    CheckpointUnreadable
        If it has no config.
    """
    for layout in LAYOUTS:
        if layout.config in present:
            return layout
    raise CheckpointUnreadable(f"{place} has no {' or '.join(layout.config for layout in LAYOUTS)}.")


def file_names(folder: Path) -> frozenset[str]:
    """Return the names of a folder's files; none if there is no folder."""
    return frozenset(file.name for file in folder.iterdir()) if folder.is_dir() else frozenset()


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder has the config of a checkpoint."""
    return any(layout.config in file_names(folder) for layout in LAYOUTS)


def check_folder(folder: Path) -> None:
    """Check that a folder has the files of a checkpoint, before anything that takes long.

    Raises
    ------
    CheckpointUnreadable
        If the folder, its config or its weights are missing.
    """
    if not folder.is_dir():
        raise CheckpointUnreadable(f"{folder} is not a folder. `audio-emotion model pull` downloads a checkpoint.")
    present = file_names(folder)
    find_weights(folder, find_layout(folder, present), present)


def find_weights(place: Path | str, layout: Layout, present: Container[str]) -> str:
    """Return the name of the preferred file of weights in a folder or a repository.

    Raises
    ------
    CheckpointUnreadable
        If there is none.
    """
    for name in layout.weights:
        if name in present:
            return name
    raise CheckpointUnreadable(f"{place} has no weights ({' or '.join(layout.weights)}).")


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
    write_source(folder, source)
    return revision


def write_source(folder: Path, source: Mapping[str, Any]) -> None:
    """Write the record of a checkpoint's source."""
    (folder / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
