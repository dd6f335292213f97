"""Standard output and error that escape what their encoding lacks, and that may be closed."""

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

_ESCAPE = "audio-emotion.escape"


def prepare_streams() -> None:
    """Escape characters that a stream's encoding lacks, and open the streams that the parent process has closed.

    Opening them also keeps a file of this program from getting the number of a standard stream.
    """
    codecs.register_error(_ESCAPE, _escape)
    # Each fails when it is used, as the closed one would, except that messages on standard error are discarded.
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_WRONLY), closefd=False, encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", closefd=False, encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", closefd=False, encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ESCAPE)


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""Replace characters with the escapes of JSON, such as ``\u00e9``, with which a JSON document stays valid."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4)), error.end


def complain(message: str) -> None:
    """Print one line on standard error, if it can be written."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"audio-emotion: {message}\n")
        sys.stderr.flush()


def reason_of(error: OSError) -> str:
    """Return the sentence for an error of the operating system."""
    if error.errno == errno.EBADF and not error.filename:
        return "Standard output is closed."
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return f"{where}{error.strerror or error}."


def discard_unwritten(streams: Iterable[TextIO]) -> None:
    """Discard buffered output that cannot be written, because Python would print a traceback for it at its exit."""
    for stream in streams:
        try:
            stream.flush()
        except (OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            with suppress(OSError, ValueError):
                os.dup2(null, stream.fileno())
            os.close(null)
