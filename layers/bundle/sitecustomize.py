"""Takes modules out of one file, in place of eight hundred.

A fresh Lambda container gets its image over the network, block by block, as files are touched; and an import touches
several: the listing of a folder, the compiled module, and the folders that come before it on the path. So the code of
the modules that the function is known to import lies in one file, which is read once, from start to end. What is not in
there is imported as ever. A module from there has its own name, file and source; a traceback looks no different.

Python imports this module by itself when it starts.
"""

import marshal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER, spec_from_file_location
from pathlib import PurePosixPath
from types import CodeType, ModuleType

BUNDLE = "/opt/bundle/modules"
"""Python's magic number, the size of the index in four bytes, the index, and the code of all modules; see `make.py`."""

API_BUNDLE = "/opt/bundle/api"
"""The same, of what the HTTP API needs beside that. Uploads do not pay for reading it."""

OPENS_API_BUNDLE = "mangum"
"""The module that only the API imports, and before the others."""

Index = dict[str, tuple[str, int, int]]
"""A module's name to its source file, and where its code starts and ends."""


class _BundledLoader(SourceFileLoader):
    """As for a module in a file of its own, but for where its code comes from."""

    code: memoryview

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 (a loader loads one module)
        code: CodeType = marshal.loads(self.code)  # noqa: S302 (made together with the image)
        return code


class _BundleFinder:
    def __init__(self, index: Index, codes: memoryview) -> None:
        self._index = index
        self._codes = codes

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        entry = self._index.get(fullname)
        if entry is None:
            return None
        file, start, end = entry
        loader = _BundledLoader(fullname, file)
        loader.code = self._codes[start:end]
        # A package's folder stays on its path: extension modules, and what is not in the bundle, are found there.
        folder = [str(PurePosixPath(file).parent)] if file.endswith("/__init__.py") else None
        return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=folder)


class _WhenAskedFor:
    """Opens the API's bundle when its first module is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != OPENS_API_BUNDLE:
            return None
        sys.meta_path.remove(self)
        finder = _open(API_BUNDLE)
        return finder.find_spec(fullname, path, target) if finder else None


def _open(bundle: str) -> _BundleFinder | None:
    """Have modules be found in a bundle, before anywhere else."""
    try:
        with open(bundle, "rb") as file:
            content = memoryview(file.read())
    except OSError:
        return None
    # Code of another version of Python is of no use.
    if content[:4] != MAGIC_NUMBER:
        return None
    start = 8 + int.from_bytes(content[4:8], "little")
    index: Index = marshal.loads(content[8:start])  # noqa: S302 (made together with the image)
    finder = _BundleFinder(index, content[start:])
    sys.meta_path.insert(0, finder)
    return finder


if _open(BUNDLE):
    sys.meta_path.insert(1, _WhenAskedFor())
