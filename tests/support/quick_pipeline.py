"""A pipeline without inference whose scores depend on every byte, for tests of deliveries.

It is the real pipeline except for decoding and inference. A recording that was truncated, or mixed up with another,
gets different scores, which a classifier would not guarantee.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.audio.probe import AudioTrack, MediaInfo
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.deadline import Deadline
from core.errors import DamagedAudio
from core.model.classifier import EmotionClassifier, Logits
from core.pipeline import Pipeline, _Progress
from core.results import EmotionScores, Model, Utterance
from core.settings import MediaLimits, SegmentationSettings

DAMAGED = b"damaged"
"""The first bytes of a recording that gets a `damaged` result."""

LABELS = ("anger", "fear", "happy", "neutral", "sad", "surprise")


class _NoNetwork:
    def logits(self, waveform: Waveform) -> Logits:
        raise AssertionError("the quick pipeline has no network")


class QuickPipeline(Pipeline):
    """Returns scores that are a hash of the recording's bytes, and calls `on_inference` with those bytes."""

    def __init__(self, on_inference: Callable[[bytes], None]) -> None:
        identity = Model(
            id="tests/quick_pipeline", revision="1", precision="none", fingerprint="sha256:quick", labels=LABELS
        )
        super().__init__(EmotionClassifier(_NoNetwork(), identity), MediaLimits(), SegmentationSettings())
        self._on_inference = on_inference

    def _classify(self, path: Path, progress: _Progress, deadline: Deadline) -> None:
        content = path.read_bytes()
        self._on_inference(content)
        if content.startswith(DAMAGED):
            raise DamagedAudio("The recording begins as a damaged one.")
        scores = EmotionScores.of(scores_for(content))
        progress.info = MediaInfo("wav", 1.0, (AudioTrack("pcm_s16le", SAMPLE_RATE_HZ, 1),))
        progress.decoded_samples = SAMPLE_RATE_HZ
        progress.utterances[(0,)].append(Utterance(**dict(scores), start_s=0.0, end_s=1.0))


def scores_for(content: bytes) -> Mapping[str, float]:
    """Return the scores of a recording."""
    weights = [1 + byte for byte in hashlib.sha256(content).digest()[: len(LABELS)]]
    return {label: weight / sum(weights) for label, weight in zip(LABELS, weights, strict=True)}


def is_right(document: Mapping[str, Any], content: bytes) -> bool:
    """Return whether a result is the one of this recording."""
    if not content or content.startswith(DAMAGED):
        code = "damaged" if content else "empty"
        return bool(document["status"] == "failed" and document["error"]["code"] == code)
    expected = {label: round(score, 6) for label, score in scores_for(content).items()}
    return bool(document["status"] == "classified" and document["scores"] == expected)
