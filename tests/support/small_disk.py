"""Commands that run with a small file system on a folder, so that the disk is really full."""

import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path


def on_small_disk(folder: Path, command: Sequence[str], *, kilobytes: int) -> list[str]:
    """Return a command that mounts a tmpfs on a folder, for itself only, and then runs the given one.

    Where the system allows no mounts, such as in a container, no file of the command can exceed half of this size
    instead.
    """
    if not _can_mount():
        # The unit is 512 bytes.
        return ["sh", "-c", f'ulimit -f {kilobytes}; exec "$@"', "sh", *command]
    mount = f'mount -t tmpfs -o size={kilobytes}k tmpfs "$0" && exec "$@"'
    return [*_UNSHARE, "sh", "-c", mount, str(folder), *command]


_UNSHARE = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--map-root-user")


@cache
def _can_mount() -> bool:
    mounted = [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(mounted, check=False, capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        return False
