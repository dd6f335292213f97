"""The figures of a training: those of the network and of its start on the same clips, as in training.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from core.checkpoints.architecture import InputMode
from core.evaluation.calibration import Calibration
from core.evaluation.figures import Estimate, estimate_difference, unweighted_accuracy
from core.evaluation.predictions import Figures, Predictions, is_more_than_chance, outside_in_words, rough_in_words
from core.formatting import counted

MIN_LABELS = 2
"""A choice needs two labels."""


@dataclass(frozen=True)
class Comparison:
    """The start checkpoint and the trained network on the clips whose label both have.

    Attributes
    ----------
    difference
        The paired difference of the unweighted accuracy, trained less start.
    is_more_than_chance
        Whether its interval excludes zero and has enough speakers.
    """

    clips: int
    start: Figures
    trained: Figures
    difference: Estimate
    is_more_than_chance: bool


def compare(start: Predictions, trained: Predictions, start_labels: Sequence[str]) -> Comparison | None:
    """Compare two models on the same clips; None if they have fewer than two labels in common."""
    common = [label for label in trained.labels if label in start_labels]
    start, trained = start.only(common), trained.only(common)
    if np.unique(trained.targets).size < MIN_LABELS:
        return None
    difference = estimate_difference(trained.counts(), start.counts(), unweighted_accuracy)[0]
    return Comparison(
        trained.targets.size,
        Figures.of(start),
        Figures.of(trained),
        difference,
        is_more_than_chance=is_more_than_chance(difference, trained),
    )


@dataclass(frozen=True)
class Calibrations:
    """The calibration on the tested clips without and with the temperature."""

    before: Calibration
    after: Calibration


@dataclass(frozen=True, kw_only=True)
class Data:
    """The clips of a training.

    Attributes
    ----------
    clips
        Label -> number of clips.
    speakers
        Speaker -> number of clips; empty if they are not known.
    left_out
        Name -> number of clips that `--map` left out.
    without_speech
        The number of clips without speech, which are left out too.
    """

    manifest_sha256: str
    clips: Mapping[str, int]
    speakers: Mapping[str, int]
    left_out: Mapping[str, int]
    without_speech: int
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """The content of training.json.

    Attributes
    ----------
    method
        What was trained, in words.
    input_mode
        The samples that the network classifies.
    folds, tested_folds
        The number of folds, and of those that a network was trained for and tested on.
    figures, comparison, calibration
        By condition of the recordings, such as ``clean``.
    temperature
        The divisor of the logits, which the last layer of the saved network contains.
    """

    version: str
    start_id: str
    start_revision: str
    labels: tuple[str, ...]
    data: Data
    method: str
    input_mode: InputMode
    options: Mapping[str, object]
    folds: int
    tested_folds: int
    tested_speakers: int
    figures: Mapping[str, Figures]
    comparison: Mapping[str, Comparison]
    temperature: float
    calibration: Mapping[str, Calibrations]

    def to_json(self) -> str:
        """Format the report as a JSON object."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @property
    def split(self) -> str:
        """How the clips were split, as a sentence."""
        tested = counted(self.tested_speakers, "speaker")
        if not self.data.speakers:
            return "The manifest names no speakers, so the sets share speakers and the figures are too good."
        if self.tested_folds == self.folds:
            return f"Each of the {tested} was tested by a network that was trained without that speaker."
        return (
            f"{tested} of {len(self.data.speakers)} were tested, by a network that was trained without "
            f"{'that speaker' if self.tested_speakers == 1 else 'them'}."
        )

    @property
    def calibration_in_words(self) -> str:
        """How the temperature changes the scores, as sentences."""
        changes = [
            f"{condition} from {found.before.expected_error:.3f} to {found.after.expected_error:.3f}"
            for condition, found in self.calibration.items()
        ]
        chance = next(iter(self.calibration.values())).after.chance_in_words
        return (
            f"The temperature {self.temperature:.2f} changes the expected calibration error: "
            f"{'; '.join(changes)}. {chance}"
        )

    @property
    def known_clips(self) -> str:
        """What it means if the start has learned from the clips, as a sentence."""
        return (
            f"If {self.start_id} has learned from these clips or speakers, all figures are too good, its own above all."
        )

    @property
    def limits(self) -> list[str]:
        """The limits of the figures, as sentences."""
        sentences = ["The saved network was trained on all clips. Its own figures are not known.", self.known_clips]
        sentences += outside_in_words(self.start_id, [each.start for each in self.comparison.values()])
        sentences += outside_in_words("the trained network", [each.trained for each in self.comparison.values()])
        sentences += rough_in_words(self.tested_speakers)
        if self.data.speakers and self.tested_speakers == 1:
            sentences.append("With one tested speaker, the intervals are over clips and do not show other speakers.")
        return sentences
