"""S3 keys of results and leases, folder markers, and the order of sequencers."""

import hashlib

_MAX_KEY_BYTES = 1024

_MAX_PLAIN_KEY_BYTES = _MAX_KEY_BYTES - 4
"""Longest key that is not shortened. A shortened key is longer, because the cut between characters drops at most three
bytes. Therefore it never equals the plain key of another upload."""

_SUFFIX = ".json"


def is_folder_marker(key: str, size_bytes: int | None) -> bool:
    """Return whether an upload is the empty object that consoles create for a folder.

    An object with content is a recording, even if its key ends with a slash.
    """
    return key.endswith("/") and size_bytes == 0


def result_key_for(key: str, prefix: str) -> str:
    """Return the key of an upload's result: the prefix, the upload's key, and `.json`.

    A key that would exceed S3's 1,024 bytes is shortened and ends with a hash of the upload's key.
    """
    plain = f"{prefix}{key}{_SUFFIX}"
    if len(plain.encode()) <= _MAX_PLAIN_KEY_BYTES:
        return plain
    ending = "-" + hashlib.sha256(key.encode()).hexdigest() + _SUFFIX
    kept = f"{prefix}{key}".encode()[: _MAX_KEY_BYTES - len(ending)]
    return kept.decode("utf-8", "ignore") + ending


def leases_prefix_for(result_key: str, prefix: str) -> str:
    """Return the prefix of a recording's leases, from which `forget` finds those of all its versions."""
    return f"{prefix}{hashlib.sha256(result_key.encode()).hexdigest()}/"


def is_earlier(sequencer: str, other: str) -> bool:
    """Return whether an event preceded another event of the same key.

    S3's user guide says to pad the shorter hexadecimal sequencer with zeros on the right, then to compare them as text.
    """
    width = max(len(sequencer), len(other))
    return sequencer.ljust(width, "0") < other.ljust(width, "0")
