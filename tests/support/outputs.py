"""Packages of small random networks with each kind of output, and results with chosen values."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from core.checkpoints.network import build_network
from core.export.exporter import export
from core.export.graph import Precision
from core.results import (
    Audio,
    Channel,
    EmotionScores,
    MeanScores,
    Model,
    Output,
    Processing,
    Result,
    Source,
    Utterance,
    now,
)
from tests.support.networks import WAV2VEC2_XLSR_EN, randomised, small_wav2vec2_config, write_checkpoint

DIMENSIONS = ("arousal", "dominance", "valence")
MULTI_LABEL = ("sad", "fear", "anger", "happy", "positive", "negative", "other", "unknown")
MADE_UP = re.compile(r"emotion|score|%(?! of the speech|</dd>)|anger|neutral", re.IGNORECASE)
"""Text that a model without emotions must not cause."""


def write_package(output: Output, names: tuple[str, ...], folder: Path) -> Path:
    """Export a checkpoint of a random network with this output, as transformers would save it."""
    problem = {Output.LINEAR: "regression", Output.SIGMOID: "multi_label_classification"}[output]
    labels = dict(enumerate(names))
    config = {**small_wav2vec2_config(), "id2label": labels, "label2id": {}, "problem_type": problem}
    network = randomised(build_network(replace(WAV2VEC2_XLSR_EN, labels=names, output=output), config))
    checkpoint = write_checkpoint(network, config, folder / "checkpoint")
    if output is Output.LINEAR:
        (checkpoint / "source.json").write_text(json.dumps({"overrides": {"dimensions_range": [0, 1]}}))
    clips = [np.random.default_rng(seed).normal(0, 0.1, 20_000).astype(np.float32) for seed in range(4)]
    export(checkpoint, folder / "package", clips, precision=Precision.FP32)
    return folder / "package"


def dimensional_result(
    channels: Sequence[Sequence[tuple[float, float, tuple[float, ...]]]],
    names: tuple[str, ...] = DIMENSIONS,
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> Result:
    """Return the result of a linear model; each utterance has a start, an end and its values."""
    parts = [
        [
            Utterance(
                start_s=start_s,
                end_s=end_s,
                **dict(EmotionScores.of(dict(zip(names, values, strict=True)), Output.LINEAR)),
            )
            for start_s, end_s, values in channel
        ]
        for channel in channels
    ]
    overall = MeanScores.over([part for channel in parts for part in channel])
    identity = {"id": "tests/linear", "revision": "1", "precision": "fp32", "fingerprint": "sha256:0"}
    return Result(
        status="classified",
        source=Source(key="call.wav"),
        audio=Audio(
            container="wav",
            codec="pcm_s16le",
            sample_rate_hz=16_000,
            channels=len(channels),
            duration_s=max(part.end_s for channel in parts for part in channel) + 0.5,
        ),
        model=Model.with_output(Output.LINEAR, names, limits, **identity),
        **dict(overall),
        speech_s=sum(part.duration_s for channel in parts for part in channel),
        channels=tuple(
            Channel(
                **dict(MeanScores.over(channel)),
                channel=number,
                speech_s=sum(part.duration_s for part in channel),
                utterances=tuple(channel),
            )
            for number, channel in enumerate(parts)
        ),
        processing=Processing(finished_at=now(), version="1"),
    )
