"""Loads the classifier of a command, with the number of threads from the command line's settings."""

from pathlib import Path

from core import settings
from core.checkpoints import loading
from core.cli.tables import show_demo_notice
from core.model.classifier import EmotionClassifier, default_threads
from core.settings import CLI_PREFIX, ModelSettings, ScoreSettings, SpeakerMode, SpeakerSettings
from core.speakers.separation import SpeakerSeparator


def load_classifier(model_dir: Path) -> EmotionClassifier:
    """Load a serving package or a checkpoint, and warn on stderr if it is the demo model."""
    threads = default_threads(settings.read(ModelSettings, prefix=CLI_PREFIX))
    classifier = loading.load_classifier(model_dir, threads)
    if classifier.identity.demo:
        show_demo_notice()
    return classifier


def speaker_settings(mode: SpeakerMode | None) -> SpeakerSettings:
    """Return the command's settings; the option `--speakers` wins over the environment."""
    options = settings.read(SpeakerSettings, prefix=CLI_PREFIX)
    return options if mode is None else options.model_copy(update={"speakers": mode})


def score_settings(unsure_below: float | None) -> ScoreSettings:
    """Return the command's settings; the option `--unsure-below` wins over the environment."""
    options = settings.read(ScoreSettings, prefix=CLI_PREFIX)
    return options if unsure_below is None else ScoreSettings(unsure_below=unsure_below)


def load_separator(mode: SpeakerMode | None) -> SpeakerSeparator:
    """Load the speaker network if the option `--speakers` or the environment needs it.

    Raises
    ------
    SpeakersUnavailable
        If it is missing or damaged.
    """
    threads = default_threads(settings.read(ModelSettings, prefix=CLI_PREFIX))
    return SpeakerSeparator(speaker_settings(mode), threads)
