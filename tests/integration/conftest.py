"""What the tests of the whole path share."""

import io

import pytest
import soundfile

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def speech() -> bytes:
    """The bytes of a WAV file of two seconds in which somebody speaks."""
    samples, sample_rate_hz = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples[:32_000], sample_rate_hz, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="session")
def other_speech() -> bytes:
    """The bytes of another one."""
    return (ROOT / "samples" / "happy.mp3").read_bytes()
