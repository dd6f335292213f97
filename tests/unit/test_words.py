"""The repository contains no banned words, which hide the actor or the event."""

import re
import subprocess

import pytest

from tests.conftest import ROOT

# The brackets keep each pattern from matching itself.
BANNED = [
    r"(?i:\b[w]hoever\b)",
    r"(?i:\b[w]hom\b)",
    r"\b[W]ho\s+[a-z]",
    r"(?i:\b[s]urroundings\b)",
    r"(?i:\b[a]new\b)",
    r"(?i:\b[m]end(s|ed|ing)?\b)",
    r"(?i:\b[o]f\s+ours\b)",
    r"(?i:\b[ia][nt]\s+hand\b)",
    r"_(MOST|LONGEST|LEAST|WIDEST|SLOWEST|FASTEST)_[A-Z]",
]
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".mk", ".js", ".css", ".html"}
NAMES = {"Makefile", "Dockerfile", "run"}


def text_files() -> list[str]:
    """Return the names of the tracked files that people read as prose or code."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a Git checkout, which lists the files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return sorted(
        str(path.relative_to(ROOT))
        for path in paths
        if path.is_file() and (path.suffix in SUFFIXES or path.name in NAMES)
    )


@pytest.mark.parametrize("pattern", BANNED)
def test_no_file_has_a_banned_word(pattern: str) -> None:
    found = []
    for name in text_files():
        text = (ROOT / name).read_text(encoding="utf-8")
        found += [
            f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}" for match in re.finditer(pattern, text)
        ]

    assert found == []


def test_the_patterns_find_what_they_ban() -> None:
    sentence = "W" + "hoever is late"

    assert re.search(BANNED[0], sentence)
    assert len(text_files()) > 200
