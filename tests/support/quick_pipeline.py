"""A pipeline without inference whose scores depend on every byte, for tests of deliveries.

It is the real pipeline except for decoding and inference. A recording that was truncated, or mixed up with another,
gets different scores, which a classifier would not guarantee.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.audio.probe import AudioTrack, MediaInfo
from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.deadline import Deadline
from core.errors import DamagedAudio, RecordingUnfinished, StorageRefused, StorageUnavailable
from core.model.classifier import EmotionClassifier
from core.model.output import Logits
from core.pipeline import Pipeline, _Progress
from core.results import EmotionScores, Model, Utterance
from core.resumption import ProgressStore
from core.settings import MediaLimits, SegmentationSettings

DAMAGED = b"damaged"
"""The first bytes of a recording that gets a `damaged` result."""

LONG = b"long"
"""The first bytes of a recording that takes several invocations, if progress can be stored."""

LONG_PARTS = 5
PART = b"#part %d"
"""Follows the bytes of a long recording in the calls of `on_inference`."""

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

    def _classify(
        self, path: Path, progress: _Progress, deadline: Deadline, store: ProgressStore | None = None
    ) -> None:
        content = path.read_bytes()
        progress.info = MediaInfo("wav", 1.0, (AudioTrack("pcm_s16le", SAMPLE_RATE_HZ, 1),))
        is_long = content.startswith(LONG)
        if is_long and store and (stored := store.load(is_short=False)):
            progress.restore(json.loads(stored))
        first = len(progress.utterances[(0,)])
        for part in range(first, LONG_PARTS if is_long else 1):
            self._on_inference(content + PART % part if is_long else content)
            if content.startswith(DAMAGED):
                raise DamagedAudio("The recording begins as a damaged one.")
            scores = EmotionScores.of(scores_for(content))
            progress.utterances[(0,)].append(Utterance(**dict(scores), start_s=part, end_s=part + 1))
            if store and is_long and part + 1 < LONG_PARTS:
                self._save(store, progress, is_last=part == first + 1)
        progress.decoded_samples = SAMPLE_RATE_HZ * len(progress.utterances[(0,)])

    def _save(self, store: ProgressStore, progress: _Progress, *, is_last: bool) -> None:
        """Store the progress as the real pipeline does: in between, and at the end of an invocation."""
        try:
            store.save(json.dumps(progress.state()).encode())
        except (StorageUnavailable, StorageRefused):
            if is_last:
                raise
        if is_last:
            raise RecordingUnfinished("The quick pipeline classifies two parts in an invocation.")


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
    if document["status"] != "classified" or document["scores"] != expected:
        return False
    starts = [part["start_s"] for channel in document["channels"] for part in channel["utterances"]]
    return starts == list(range(LONG_PARTS if content.startswith(LONG) else 1))
