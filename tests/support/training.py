"""Trainings on the samples."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from core.settings import MediaLimits, SegmentationSettings
from core.training.training import TrainingOptions, train
from tests.conftest import ROOT

SAMPLES = ROOT / "samples"
FILES = (
    *("anger.wav", "anger loud+clear.mp3", "happy.mp3", "neutral.flac", "fear.webm", "surprise.ogg"),
    *("sad.m4a", "sad 8kHz mu-law.wav"),
)
LABELS = ("calm", "excited")


def options(manifest: Path, start: Path, out: Path, **changes: Any) -> TrainingOptions:
    cache = manifest.parents[1] / "training-cache"  # of all tests of this session, which decode the same samples
    given = TrainingOptions(manifest=manifest, start=start, out=out, cache=cache, names={}, unfreeze=0)
    return replace(given, **changes)


def train_with(given: TrainingOptions, notes: list[str] | None = None) -> Any:
    return train(given, MediaLimits(), SegmentationSettings(), note=(notes if notes is not None else []).append)
