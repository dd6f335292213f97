"""Fixtures for several tests: the test corpora, recordings that ffmpeg makes, and models."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from tests.support.corpora import MISSING, find_corpora

if TYPE_CHECKING:
    from core.model.classifier import EmotionClassifier

# huggingface_hub reads these when it is imported. Tests use no token, no telemetry and no cache of the user's.
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / "audio-emotion-tests-no-hub")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.pop("HF_ENDPOINT", None)
os.environ.pop("HF_TOKEN", None)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores SIGINT for programs in the background, and children would inherit this.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]

MakeMedia = Callable[..., Path]
"""``make_media("tone.mp3", "-c:a", "mp3", source="sine=440:duration=2")`` writes a file with ffmpeg, and returns it."""


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary folder of each worker process.

    An invocation deletes what an interrupted one left in the temporary folder, so two workers must not share one.
    """
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("tmp")
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield folder


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of the test corpora; skips the test if there is none."""
    folder = find_corpora()
    if folder is None:
        pytest.skip(MISSING)
    return folder


@pytest.fixture
def make_media(tmp_path: Path) -> MakeMedia:
    """A function that makes a media file with ffmpeg in the test's folder."""

    def make(name: str, *options: str, source: str = "sine=440:duration=2", sample_rate_hz: int = 16_000) -> Path:
        path = tmp_path / name
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-ar", str(sample_rate_hz)]
        subprocess.run([*command, *options, str(path)], check=True, timeout=60)
        return path

    return make


@pytest.fixture(scope="session")
def speech_like() -> Callable[[int, int], "np.ndarray[tuple[int], np.dtype[np.float32]]"]:
    """A function from a number of samples and a seed to a waveform with the level and envelope of speech."""

    def make(samples: int, seed: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
        random = np.random.default_rng(seed)
        envelope = 0.02 + 0.1 * np.abs(np.sin(np.arange(samples) / 3000.0))
        return (envelope * random.standard_normal(samples) + 0.003).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a tiny random network with the published architecture."""
    from tests.support.networks import random_network, small_config, write_checkpoint

    config = small_config()
    return write_checkpoint(random_network(config), config, tmp_path_factory.mktemp("small") / "checkpoint")


@pytest.fixture(scope="session")
def small_package(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The serving package of `small_checkpoint`, in float32."""
    from core.export.exporter import export
    from core.export.graph import Precision

    folder = tmp_path_factory.mktemp("small") / "package"
    clips = [np.random.default_rng(seed).normal(0, 0.1, 20_000).astype(np.float32) for seed in range(4)]
    export(small_checkpoint, folder, clips, precision=Precision.FP32)
    return folder


@pytest.fixture(scope="session")
def small_wav2vec2_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a tiny random network with the second published architecture."""
    from tests.support.networks import random_network, small_wav2vec2_config, write_checkpoint

    config = small_wav2vec2_config()
    return write_checkpoint(random_network(config), config, tmp_path_factory.mktemp("wav2vec2") / "checkpoint")


@pytest.fixture(scope="session")
def small_wav2vec2_package(small_wav2vec2_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The serving package of `small_wav2vec2_checkpoint`, in float32."""
    from core.export.exporter import export
    from core.export.graph import Precision

    folder = tmp_path_factory.mktemp("wav2vec2") / "package"
    clips = [np.random.default_rng(seed).normal(0, 0.1, 20_000).astype(np.float32) for seed in range(4)]
    export(small_wav2vec2_checkpoint, folder, clips, precision=Precision.FP32)
    return folder


@pytest.fixture(scope="session")
def package(request: pytest.FixtureRequest) -> Path:
    """The serving package of the demo model, or of `small_checkpoint` in a checkout without it."""
    demo = ROOT / "models" / "demo" / "package"
    if (demo / "manifest.json").exists():
        return demo
    folder: Path = request.getfixturevalue("small_package")
    return folder


@pytest.fixture(scope="session")
def classifier(package: Path) -> "EmotionClassifier":
    """The classifier of `package`."""
    from core.model.classifier import EmotionClassifier

    return EmotionClassifier.load(package)


@pytest.fixture
def copied_package(package: Path, tmp_path: Path) -> Path:
    """A copy of the package that a test may damage."""
    return Path(shutil.copytree(package, tmp_path / "package"))


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """Two seconds of speech: a mono WAV file at 16 kHz."""
    path = tmp_path / "tone.wav"
    samples, sample_rate_hz = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    soundfile.write(path, samples[:32_000], sample_rate_hz)
    return path


def read_json(file: Path) -> dict[str, object]:
    """Return the JSON object in a file."""
    document: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return document
