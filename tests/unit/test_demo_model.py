"""The demo checkpoint and the samples."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.demo.degrade import degrade
from models.demo.sentences import HELD_OUT_ENGLISH, HELD_OUT_MANDARIN, TRAINED_ENGLISH, TRAINED_MANDARIN
from models.demo.synthesise import HELD_OUT, LABELS, TRAINED

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "models" / "demo" / "checkpoint"
SAMPLES = ROOT / "samples"


def test_the_checkpoint_is_readable_and_marked_as_a_demo() -> None:
    pytest.importorskip("torch")
    from core.checkpoints.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(CHECKPOINT)
    assert checkpoint.demo
    assert checkpoint.labels == LABELS
    assert checkpoint.model_id == "audio-emotion-demo"


def test_the_checkpoint_is_small_enough_for_the_repository() -> None:
    assert (CHECKPOINT / "model.safetensors").stat().st_size < 8_000_000


def test_held_out_voices_and_sentences_are_not_trained_on() -> None:
    assert not set(HELD_OUT_ENGLISH) & set(TRAINED_ENGLISH)
    assert not set(HELD_OUT_MANDARIN) & set(TRAINED_MANDARIN)
    assert not set(HELD_OUT.variants) & set(TRAINED.variants)


def test_lines_are_drawn_reproducibly_and_evenly() -> None:
    lines = TRAINED.lines(5, seed=1)
    assert lines == TRAINED.lines(5, seed=1)
    assert [sum(line.emotion == label for line in lines) for label in LABELS] == [5] * 6


def test_degradation_stays_within_full_scale_and_is_reproducible() -> None:
    tone = np.sin(np.arange(16_000) * 0.1).astype(np.float32)
    degraded = [degrade(tone, np.random.default_rng(seed)) for seed in range(20)]
    assert all(np.abs(waveform).max() <= 1 for waveform in degraded)
    assert np.array_equal(degraded[3], degrade(tone, np.random.default_rng(3)))


def test_all_samples_exist_and_are_small_and_cover_every_emotion() -> None:
    expected = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))
    assert {file["emotion"] for file in expected.values()} == set(LABELS)
    assert all(0 < (SAMPLES / name).stat().st_size < 200_000 for name in expected)
    assert {file.name for file in SAMPLES.iterdir()} == {*expected, "expected.json", "README.md"}
