"""The voice activity network is made from the published file, and has the same probabilities."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile

from core.audio.voice_activity import FRAME_SAMPLES, NETWORK_FILE, VoiceActivityDetector, read_network
from core.errors import VoiceActivityUnavailable
from tests.conftest import ROOT
from tools.make_silero import LICENCE_FILE, PUBLISHED_FILE, installed_file, rewrite


@pytest.fixture(scope="module")
def published() -> bytes:
    return installed_file(PUBLISHED_FILE)


def test_each_frame_has_the_probability_of_the_published_network(published: bytes) -> None:
    waveform, _ = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    # One block at the peak that needs no gain. The file takes each frame with 64 samples of the previous one.
    block = 0.5 * waveform[: 32 * FRAME_SAMPLES] / np.abs(waveform[: 32 * FRAME_SAMPLES]).max()
    frames = block.reshape(-1, FRAME_SAMPLES)
    contexts = np.vstack([np.zeros((1, 64), np.float32), frames[:-1, -64:]])
    state = np.zeros((1, 1, 128), np.float32)
    session = onnxruntime.InferenceSession(published, providers=["CPUExecutionProvider"])
    (expected,) = session.run(["speech_probs"], {"input": np.hstack([contexts, frames]), "h": state, "c": state})

    probabilities = VoiceActivityDetector.load().probabilities(block)

    assert expected.max() > 0.9
    assert np.allclose(probabilities, expected.reshape(-1), atol=2e-5)


def test_the_script_makes_the_same_file_from_the_published_one(published: bytes) -> None:
    assert rewrite(published) == NETWORK_FILE.read_bytes()
    assert installed_file("LICENSE") == LICENCE_FILE.read_bytes()


def test_the_script_refuses_another_network(published: bytes) -> None:
    with pytest.raises(ValueError, match="not the file that this script was written for"):
        rewrite(published.replace(b"encoder.2.weight", b"encoder.9.weight"))


@pytest.mark.parametrize("content", [b"", NETWORK_FILE.read_bytes()[:-1], b"\xff" * 100])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "silero.onnx").write_bytes(content)
    with pytest.raises(VoiceActivityUnavailable, match="is damaged"):
        read_network(tmp_path / "silero.onnx")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VoiceActivityUnavailable, match="cannot be read"):
        read_network(tmp_path / "silero.onnx")
