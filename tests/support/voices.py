"""A mono call of two voices that are easy to tell apart, and a tiny network in place of the speaker network."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import soundfile
from onnx import TensorProto, helper

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from tests.conftest import ROOT

_BANKS = 80
_SPLIT_HZ = 1500.0


def write_speaker_network(file: Path) -> Path:
    """Write a network whose embedding has the direction in which loudness moves: in low or in high filter banks."""
    banks = helper.make_tensor_value_info("filter_banks", TensorProto.FLOAT, [1, None, _BANKS])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 2])
    # Speech that lacks a band has its noise floor there, which moves less than speech.
    weights = np.zeros((_BANKS, 2), np.float32)
    weights[:30, 0] = 1.0
    weights[45:, 1] = 1.0
    low_and_high = helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())
    turn = np.array([[2.0, -1.0], [-1.0, 2.0]], np.float32)  # away from each other
    turned = helper.make_tensor("turn", TensorProto.FLOAT, turn.shape, turn.ravel())
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Mul", ["filter_banks", "filter_banks"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "axes"], ["variances"], keepdims=0),
        helper.make_node("MatMul", ["variances", "weights"], ["bands"]),
        helper.make_node("MatMul", ["bands", "turn"], ["embedding"]),
    ]
    graph = helper.make_graph(nodes, "voices", [banks], [embedding], [low_and_high, turned, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, file)
    return file


def two_voices(turns: int, *, pause_s: float = 0.8, seed: int = 0) -> tuple[Waveform, list[int]]:
    """Return a mono call, and the voice of each of its turns, each of which is one or more utterances."""
    random = np.random.default_rng(seed)
    voices = [int(number) for number in random.permutation([0, 1] * ((turns + 1) // 2))[:turns]]
    clips = [_clip(name) for name in ("anger.wav", "neutral.flac")]
    silence = np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32)
    parts = [silence]
    for turn, voice in enumerate(voices):
        parts += [_filtered(clips[turn % len(clips)], is_low=voice == 0), silence]
    noise = random.standard_normal(sum(part.size for part in parts)).astype(np.float32)
    return np.concatenate(parts) + np.float32(3e-4) * noise, voices


def _clip(name: str) -> Waveform:
    samples, rate_hz = soundfile.read(ROOT / "samples" / name, dtype="float32")
    assert rate_hz == SAMPLE_RATE_HZ
    return np.asarray(samples, np.float32)


def _filtered(samples: Waveform, *, is_low: bool) -> Waveform:
    spectrum: npt.NDArray[np.complex128] = np.fft.rfft(samples)
    is_below = np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE_HZ) < _SPLIT_HZ
    filtered = np.fft.irfft(np.where(is_below == is_low, spectrum, 0.02 * spectrum), samples.size)
    return np.asarray(0.2 * filtered / np.abs(filtered).max(), np.float32)
