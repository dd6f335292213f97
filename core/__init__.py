"""Recognise emotion in recorded speech: everything that does not depend on AWS Lambda's events or on HTTP.

`AudioEmotion` is the library's entry point.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.library.audio_emotion import AudioEmotion

__all__ = ["AudioEmotion", "__version__"]

__version__ = "1.0.0"


def __getattr__(name: str) -> Any:
    """Import the library on first use, because the functions' cold starts import `core` for its modules only."""
    if name == "AudioEmotion":
        return import_module("core.library.audio_emotion").AudioEmotion
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
