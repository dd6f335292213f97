"""What the tests of the whole path share."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile


def _wav(samples: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="session")
def speech(speech_like: Callable[[int, int], "np.ndarray[tuple[int], np.dtype[np.float32]]"]) -> bytes:
    """The bytes of a WAV file of two seconds."""
    return _wav(speech_like(32_000, 1))


@pytest.fixture(scope="session")
def other_speech(speech_like: Callable[[int, int], "np.ndarray[tuple[int], np.dtype[np.float32]]"]) -> bytes:
    """The bytes of another one."""
    return _wav(speech_like(24_000, 2))
