"""The paths of the demo model and the samples, and the names of files that are no recordings."""

from pathlib import Path

_CORE = Path(__file__).parent
_CHECKOUT = _CORE.parent

_IS_INSTALLED = (_CORE / "demo_model").is_dir()  # setup.py puts it there

DEMO_PACKAGE = _CORE / "demo_model" if _IS_INSTALLED else _CHECKOUT / "models" / "demo" / "package"
SAMPLES = _CORE / "samples" if _IS_INSTALLED else _CHECKOUT / "samples"

_PARTIAL_SUFFIXES = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".opdownload", ".download")
"""Suffixes of files and folders that browsers and file transfer programs rename when the file is complete."""
_SYSTEM_NAMES = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"),
    *("$recycle.bin", "system volume information", "lost+found"),
)
"""Files and folders that operating systems create, in lower case."""


def default_model() -> Path:
    """Return the package that `make model` exported to the working folder, or the demo model without one."""
    exported = Path("build/model")
    return exported if exported.exists() else DEMO_PACKAGE


def is_ignored(name: str) -> bool:
    """Return whether a name is that of a hidden file, an incomplete download or a file of the operating system."""
    lower = name.lower()
    return lower.startswith((".", "~$")) or lower.endswith((*_PARTIAL_SUFFIXES, "~")) or lower in _SYSTEM_NAMES
