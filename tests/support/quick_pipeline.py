"""A pipeline that takes no time and whose answer depends on every byte, for tests of what goes on around it.

All but the listening is the real one's. A recording that was cut short, mixed up with another or read twice gives other
scores, which is more than a classifier would notice.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.audio.decode import MediaInfo
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.deadline import Deadline
from core.errors import DamagedAudio
from core.model.classifier import EmotionClassifier, Logits
from core.pipeline import Pipeline, _Progress
from core.results import EmotionScores, Model, Utterance
from core.settings import MediaLimits, SegmentationSettings

DAMAGED = b"damaged"
"""How a recording begins that is at fault itself."""

LABELS = ("anger", "fear", "happy", "neutral", "sad", "surprise")

Listener = Callable[[bytes], None]
"""Told of each recording that is classified."""


class _NoNetwork:
    def logits(self, waveform: Waveform) -> Logits:
        raise AssertionError("nothing is classified here")


class QuickPipeline(Pipeline):
    """Answers with scores that are drawn from the recording's bytes."""

    def __init__(self, heard: Listener) -> None:
        identity = Model(
            id="tests/quick_pipeline", revision="1", precision="none", fingerprint="sha256:quick", labels=LABELS
        )
        super().__init__(EmotionClassifier(_NoNetwork(), identity), MediaLimits(), SegmentationSettings())
        self._heard = heard

    def _classify(self, path: Path, progress: _Progress, deadline: Deadline) -> None:
        content = path.read_bytes()
        self._heard(content)
        if content.startswith(DAMAGED):
            raise DamagedAudio("The recording says so itself.")
        judgement = EmotionScores.of(scores_for(content))
        progress.info = MediaInfo("wav", "pcm_s16le", SAMPLE_RATE_HZ, 1, 1.0)
        progress.decoded_samples = SAMPLE_RATE_HZ
        progress.utterances[(0,)].append(Utterance(**dict(judgement), start_s=0.0, end_s=1.0))


def scores_for(content: bytes) -> Mapping[str, float]:
    """What the pipeline answers to a recording."""
    weights = [1 + byte for byte in hashlib.sha256(content).digest()[: len(LABELS)]]
    return {label: weight / sum(weights) for label, weight in zip(LABELS, weights, strict=True)}


def is_right(document: Mapping[str, Any], content: bytes) -> bool:
    """Whether a result is the one for this recording."""
    if not content or content.startswith(DAMAGED):
        code = "damaged" if content else "empty"
        return bool(document["status"] == "failed" and document["error"]["code"] == code)
    expected = {label: round(score, 6) for label, score in scores_for(content).items()}
    return bool(document["status"] == "classified" and document["scores"] == expected)
