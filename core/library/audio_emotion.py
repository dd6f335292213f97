"""Audio Emotion as a Python library: `from core import AudioEmotion`."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.checkpoints.loading import load_classifier
from core.formatting import DEMO_NOTICE
from core.library.recordings import classify_file
from core.model.classifier import default_threads
from core.paths import default_model
from core.pipeline import Pipeline
from core.results import Model, Result
from core.settings import MediaLimits, ModelSettings, ScoreSettings, SegmentationSettings, SpeakerMode, SpeakerSettings
from core.speakers.separation import SpeakerSeparator

_logger = logging.getLogger(__name__)


class AudioEmotion:
    """Classifies the emotion of each utterance in recordings.

    Loading the model takes about a second, so create one object for many recordings. Environment variables change
    nothing: the parameters are all settings.

    Parameters
    ----------
    model
        Folder with a serving package or a checkpoint. By default, `build/model` if it exists, or the demo model.
    labels
        Label -> its new name. Labels with the same new name are merged.
    only
        The labels to decide between; by default, all.
    speakers
        Whether to separate two speakers who share a channel.
    unsure_below
        Scores below this threshold get the flag `unsure`; by default, none do.
    segmentation
        How recordings are cut into utterances.
    limits
        The largest recording to accept, and what a decoder may use.
    threads
        The number of threads to compute with; by default, one for each processor.

    Raises
    ------
    ModelError
        If the model is missing, damaged, or lacks a label.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        only: Sequence[str] = (),
        speakers: SpeakerMode = "off",
        unsure_below: float = 0.0,
        segmentation: SegmentationSettings | None = None,
        limits: MediaLimits | None = None,
        threads: int | None = None,
    ) -> None:
        threads = threads or default_threads(ModelSettings())
        folder = default_model() if model is None else Path(model)
        classifier = load_classifier(folder, threads, renamed=labels, only=only)
        if classifier.identity.demo:
            _logger.warning("%s", DEMO_NOTICE)
        separator = SpeakerSeparator(SpeakerSettings(speakers=speakers), threads)
        scores = ScoreSettings(unsure_below=unsure_below)
        self._pipeline = Pipeline(
            classifier, limits or MediaLimits(), segmentation or SegmentationSettings(), separator, scores
        )

    @property
    def model(self) -> Model:
        """The model's identity, as in results: its name, labels and fingerprint."""
        return self._pipeline.model

    def classify(self, recording: str | os.PathLike[str]) -> Result:
        """Return the result of a recording.

        A file that cannot be read or classified raises no error: its result has the status `failed`, and `error` has
        the reason.

        Raises
        ------
        TransientError
            If the recording did not cause the error: ffmpeg is missing, or the disk is full.
        """
        return classify_file(Path(recording), self._pipeline)
