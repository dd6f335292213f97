"""The test corpora: recordings and trained models that the repository does not contain."""

import os
from pathlib import Path

VARIABLE = "AUDIO_EMOTION_CORPORA"
"""Names the folder of the corpora, which has the subfolders `data` and `models`."""

MISSING = f"needs the test corpora: set {VARIABLE} to their folder"


def find_corpora() -> Path | None:
    """Return the folder of the corpora, or None if the variable is unset or empty.

    Raises
    ------
    FileNotFoundError
        If the variable names a folder without corpora.
    """
    if not (named := os.environ.get(VARIABLE)):
        return None
    folder = Path(named).resolve()
    if not (folder / "data").is_dir():
        raise FileNotFoundError(f"{VARIABLE} is {named}, which has no folder `data`.")
    return folder


def corpus_files(pattern: str) -> list[Path]:
    """Return the files of the corpora that match a pattern, in order; none without corpora."""
    corpora = find_corpora()
    return sorted(corpora.glob(pattern)) if corpora else []
