"""The S3 keys of results, and what an upload's key and sequencer say."""

import hashlib

_MAX_KEY_BYTES = 1024

_MAX_PLAIN_KEY_BYTES = _MAX_KEY_BYTES - 4
"""A key is cut between two characters, of up to four bytes: what was cut is longer than this, and the rest is not. So
nobody can name an upload after the result of another."""

_SUFFIX = ".json"


def is_folder_marker(key: str, size_bytes: int | None) -> bool:
    """Whether an upload is what consoles make for an empty folder; what has bytes is a recording under an odd key."""
    return key.endswith("/") and size_bytes == 0


def result_key_for(key: str, prefix: str) -> str:
    """Where the result of an upload lies: the prefix, the key, and `.json`.

    A key that would reach S3's 1,024 bytes is cut and ends in a hash of the whole key.
    """
    plain = f"{prefix}{key}{_SUFFIX}"
    if len(plain.encode()) <= _MAX_PLAIN_KEY_BYTES:
        return plain
    ending = "-" + hashlib.sha256(key.encode()).hexdigest() + _SUFFIX
    kept = f"{prefix}{key}".encode()[: _MAX_KEY_BYTES - len(ending)]
    return kept.decode("utf-8", "ignore") + ending


def is_earlier(sequencer: str, other: str) -> bool:
    """Whether an event of a key came before another of the same key.

    Sequencers are hexadecimal numbers of differing lengths: S3's user guide has the shorter padded with zeros on the
    right, then compared as text.
    """
    width = max(len(sequencer), len(other))
    return sequencer.ljust(width, "0") < other.ljust(width, "0")
