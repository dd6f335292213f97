"""A training from the manifest to the checkpoint: checks, splits, folds, the network of all clips, and its report."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from core import __version__
from core.checkpoints.checkpoint import Checkpoint, read_checkpoint
from core.checkpoints.network import SpeechNetwork
from core.errors import FolderRefused
from core.evaluation.figures import Indices, Values
from core.formatting import counted
from core.model.classifier import output_values
from core.results import Output
from core.settings import MediaLimits, SegmentationSettings
from core.training.cache import Array, ArrayCache
from core.training.card import model_card
from core.training.head import Examples, fit_head, head_logits
from core.training.manifest import check_counts, read_clips
from core.training.network import check_start, start_network, write_network
from core.training.page import training_page
from core.training.report import MIN_LABELS, Comparison, Data, Figures, Predictions, TrainingReport, compare
from core.training.speech import LabelledSpeech, SpeechReader, Track, untracked
from core.training.splits import Split, make_splits
from core.training.states import mean_states, start_logits

REPORT_FILE = "training.json"
CARD_FILE = "README.md"
PAGE_FILE = "training.html"
CLEAN = "clean"
"""The condition of the recordings as they are."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What a user chooses.

    Attributes
    ----------
    manifest
        The CSV file.
    start
        The folder of the checkpoint to start from.
    out
        The folder for the checkpoint.
    cache
        The folder for what a killed run continues from.
    names
        As in `core.training.manifest.read_clips`.
    seed
        Chooses the split and the random numbers of the training.
    threads
        The number of threads to compute with. Another number rounds sums differently.
    """

    manifest: Path
    start: Path
    out: Path
    cache: Path
    names: Mapping[str, str]
    seed: int = 1
    threads: int = 1


@dataclass(frozen=True)
class _Task:
    """The clips, as every step needs them."""

    start: Checkpoint
    labels: tuple[str, ...]
    speech: Sequence[LabelledSpeech]
    targets: Indices
    groups: Indices
    splits: Sequence[Split]
    means: Sequence[Array]
    seed: int

    def network(self) -> SpeechNetwork:
        return start_network(self.start, self.labels, self.seed)

    def examples(self, indices: Indices) -> Examples:
        return Examples.of(self.means, self.targets, indices)


def train(
    options: TrainingOptions,
    limits: MediaLimits,
    segmentation: SegmentationSettings,
    *,
    track: Track = untracked,
    note: Callable[[str], None] = lambda _: None,
) -> TrainingReport:
    """Train a network on labelled clips, and write it with its report.

    Parameters
    ----------
    limits, segmentation
        How recordings are decoded and cut, as in `classify`.
    track
        Shows the progress.
    note
        Prints a sentence that does not stop the training.

    Raises
    ------
    ManifestUnreadable, TrainingRefused, CheckpointUnreadable, FolderRefused
        Before the long work starts.
    """
    _check_folder(options.out)
    torch.set_num_threads(options.threads)
    start = read_checkpoint(options.start)
    check_start(start)
    clips, left_out = read_clips(options.manifest, options.names)
    cache = ArrayCache(options.cache)
    speech = list(SpeechReader(cache, limits, segmentation).read(options.manifest, clips, track))
    silent = len(clips) - len(speech)
    if silent:
        note(f"Left out {counted(silent, 'clip')} without speech.")
        check_counts(options.manifest, [item.clip for item in speech])
    task = _task(start, speech, cache, options.seed, track)
    _note_gaps(task, note)
    tested, predictions, steps = _test_folds(task, track)
    network, final_steps = task.network(), int(np.median(steps))
    fit_head(network, task.examples(np.arange(task.targets.size)), None, final_steps)
    comparison = _compare(task, tested, predictions, cache, track)
    report = TrainingReport(
        version=__version__,
        start_id=start.model_id,
        start_revision=start.revision,
        labels=task.labels,
        data=_data(options.manifest, speech, left_out, silent),
        method=f"the head was trained in {counted(final_steps, 'step')}, the encoder is that of the start",
        options={"seed": options.seed},
        folds=len(task.splits),
        tested_folds=len(task.splits),
        tested_speakers=len({speech[index].clip.speaker for index in tested}),
        figures={CLEAN: Figures.of(predictions)},
        comparison={CLEAN: comparison} if comparison else {},
    )
    _write(options.out, network, report)
    return report


def _check_folder(out: Path) -> None:
    """Check that the folder is new, empty or that of an earlier training."""
    if out.exists() and not (out / REPORT_FILE).exists() and any(out.iterdir()):
        raise FolderRefused(f"{out} has files that are not those of a training. Choose another folder with --out.")


def _task(start: Checkpoint, speech: Sequence[LabelledSpeech], cache: ArrayCache, seed: int, track: Track) -> _Task:
    labels = tuple(sorted({item.clip.emotion for item in speech}))
    targets = np.array([labels.index(item.clip.emotion) for item in speech], np.int64)
    speakers = [item.clip.speaker for item in speech]
    groups = np.unique(speakers, return_inverse=True)[1] if all(speakers) else np.arange(len(speech))
    splits = make_splits(targets, speakers, seed)
    means = mean_states(start, start_network(start, labels, seed), speech, cache, track)
    return _Task(start, labels, speech, targets, groups.astype(np.int64), splits, means, seed)


def _note_gaps(task: _Task, note: Callable[[str], None]) -> None:
    """Print what makes the figures worse than the clips could give."""
    if not task.speech[0].clip.speaker:
        note("The manifest has no column speaker, so the figures are too good: name the speakers.")
        return
    for label in task.labels:
        speakers = {item.clip.speaker for item in task.speech if item.clip.emotion == label}
        if len(speakers) == 1:
            note(f"Only {speakers.pop()} has clips of {label}, so no network learns and tests it: add other speakers.")


def _test_folds(task: _Task, track: Track) -> tuple[Indices, Predictions, list[int]]:
    """Train a network for each fold; return the tested clips, their predictions, and the numbers of steps."""
    scores, steps = [], []
    for split in track(task.splits, "Training folds", len(task.splits)):
        network = task.network()
        steps.append(fit_head(network, task.examples(split.training), task.examples(split.validation)))
        scores += [clip_scores(rows, task.speech[index]) for index, rows in _logits(network, task, split.testing)]
    tested = np.concatenate([split.testing for split in task.splits])
    return tested, _predictions(task, tested, np.stack(scores).argmax(axis=1)), steps


def _logits(network: SpeechNetwork, task: _Task, indices: Indices) -> Iterator[tuple[int, Array]]:
    for index in map(int, indices):
        yield index, head_logits(network, task.means[index])


def clip_scores(logits: Array, speech: LabelledSpeech, output: Output = Output.SOFTMAX) -> Values:
    """Return the scores of a clip: the means of its utterances' scores, weighted by duration, as in results."""
    scores: Values = np.average([output_values(row, output) for row in logits], axis=0, weights=speech.durations_s)
    return scores


def _predictions(task: _Task, tested: Indices, predicted: Indices) -> Predictions:
    groups = task.groups[tested]
    if np.unique(groups).size == 1:  # one tested speaker: the bootstrap draws clips
        groups = np.arange(tested.size)
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    return Predictions(task.labels, task.targets[tested], predicted, groups)


def _compare(task: _Task, tested: Indices, trained: Predictions, cache: ArrayCache, track: Track) -> Comparison | None:
    """Compare the network with its start on the tested clips; None if the start returns dimensions or other labels."""
    architecture = task.start.network.architecture
    if architecture.output is Output.LINEAR or len(set(architecture.labels) & set(task.labels)) < MIN_LABELS:
        return None
    speech = [task.speech[index] for index in tested]
    logits = start_logits(task.start, speech, cache, track)
    names = {label: number for number, label in enumerate(task.labels)}
    scores = [clip_scores(rows, item, architecture.output) for rows, item in zip(logits, speech, strict=True)]
    best = [architecture.labels[int(row.argmax())] for row in scores]
    predicted = np.array([names.get(label, len(names)) for label in best], np.int64)
    return compare(_predictions(task, tested, predicted), trained, architecture.labels)


def _data(manifest: Path, speech: Sequence[LabelledSpeech], left_out: Counter[str], silent: int) -> Data:
    clips = Counter(item.clip.emotion for item in speech)
    speakers = Counter(item.clip.speaker for item in speech if item.clip.speaker)
    return Data(
        manifest_sha256=hashlib.sha256(manifest.read_bytes()).hexdigest(),
        clips=dict(sorted(clips.items())),
        speakers=dict(sorted(speakers.items())),
        left_out=dict(sorted(left_out.items())),
        without_speech=silent,
        duration_s=round(sum(sum(item.durations_s) for item in speech), 1),
    )


def _write(out: Path, network: SpeechNetwork, report: TrainingReport) -> None:
    """Write the checkpoint, with the report first, by which a later run recognises the folder as its own."""
    out.mkdir(parents=True, exist_ok=True)
    name = out.resolve().name
    (out / REPORT_FILE).write_text(report.to_json(), encoding="utf-8")
    write_network(network, out, name)
    (out / CARD_FILE).write_text(model_card(report, name), encoding="utf-8")
    (out / PAGE_FILE).write_text(training_page(report, name), encoding="utf-8")
