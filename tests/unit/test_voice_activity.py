"""The voice activity network, laid out anew, says what the published file says."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile

from core.audio.silero import rearranged
from core.audio.voice_activity import FRAME_SAMPLES, VoiceActivityDetector
from core.errors import VoiceActivityUnavailable
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def published() -> bytes:
    files = importlib.metadata.files("silero-vad") or []
    (file,) = (file for file in files if file.name == "silero_vad_16k_sequence.onnx")
    return Path(str(file.locate())).read_bytes()


def test_it_says_what_the_published_file_says_frame_by_frame(published: bytes) -> None:
    waveform, _ = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    # One block, loud enough to be heard as it is. The file takes each frame with 64 samples of the one before.
    block = 0.5 * waveform[: 32 * FRAME_SAMPLES] / np.abs(waveform[: 32 * FRAME_SAMPLES]).max()
    frames = block.reshape(-1, FRAME_SAMPLES)
    contexts = np.vstack([np.zeros((1, 64), np.float32), frames[:-1, -64:]])
    state = np.zeros((1, 1, 128), np.float32)
    session = onnxruntime.InferenceSession(published, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["speech_probs"], {"input": np.hstack([contexts, frames]), "h": state, "c": state})

    said = VoiceActivityDetector(published).probabilities(block)

    assert expected.max() > 0.9
    assert np.allclose(said, expected.reshape(-1), atol=2e-5)


@pytest.mark.parametrize("spoil", [lambda file: b"", lambda file: file[:500_000], lambda file: b"\xff" * 100])
def test_a_file_with_something_else_in_it_is_refused(published: bytes, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(VoiceActivityUnavailable, match="not the network"):
        VoiceActivityDetector(spoil(published))


def test_a_network_of_another_shape_is_refused(published: bytes) -> None:
    renamed = published.replace(b"encoder.2.weight", b"encoder.9.weight")

    with pytest.raises(ValueError, match=r"no encoder\.2\.weight of the shape \(64, 64, 3\)"):
        rearranged(renamed)
