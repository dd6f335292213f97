"""The architecture of ELF files."""

from pathlib import Path

MACHINES = {"amd64": 62, "arm64": 183}
"""``e_machine`` of each architecture, as Debian and Docker name it. Source: elf.h."""


def machine(file: Path) -> int | None:
    """Return ``e_machine`` of an ELF file, or nothing for another file."""
    with file.open("rb") as content:
        header = content.read(20)
    if len(header) < 20 or not header.startswith(b"\x7fELF"):
        return None
    return int.from_bytes(header[18:20], "little")
