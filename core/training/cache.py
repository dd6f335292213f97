"""A folder of arrays that a training has computed, so that a run that was killed continues.

A file's name is a hash of everything that its content depends on, so a file is never outdated.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def hash_of(*parts: object) -> str:
    """Return a hash of values that JSON can express, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class ArrayCache:
    """Lists of float32 arrays by key, one file each.

    Parameters
    ----------
    folder
        Created when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, key: str) -> bool:
        return self._file(key).exists()

    def read(self, key: str) -> list[Array]:
        """Read the arrays of a key that is in the cache."""
        with np.load(self._file(key)) as stored:
            return [stored[f"arr_{number}"] for number in range(len(stored.files))]

    def write(self, key: str, arrays: list[Array]) -> None:
        """Write arrays. Another process sees the whole file or none."""
        file = self._file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        with unfinished.open("wb") as opened:
            np.savez(opened, *arrays)
        unfinished.replace(file)

    def folder(self, key: str) -> Path:
        """Return the path of a folder for other files."""
        return self._folder / key

    def _file(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.npz"
