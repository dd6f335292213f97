"""A training from the manifest to the checkpoint: checks, splits, folds, the network of all clips, and its report."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from core import __version__
from core.checkpoints.checkpoint import Checkpoint, read_checkpoint
from core.checkpoints.network import SpeechNetwork
from core.errors import FolderRefused
from core.evaluation.calibration import Calibration
from core.evaluation.figures import Indices, Values
from core.evaluation.predictions import Figures, Predictions, bootstrap_groups
from core.formatting import counted
from core.model.output import output_values
from core.model.package import MANIFEST_FILE
from core.results import Output
from core.settings import MediaLimits, SegmentationSettings
from core.training.augmentation import CLEAN_NAME, Augmentation, Copy, Noise, RandomCopy, conditions, read_noise
from core.training.cache import Array, ArrayCache
from core.training.card import model_card
from core.training.manifest import check_counts, read_clips
from core.training.memory import keep_freed_memory
from core.training.network import check_start, start_network, write_network
from core.training.page import training_page
from core.training.report import MIN_LABELS, Calibrations, Comparison, Data, TrainingReport, compare
from core.training.speech import LabelledSpeech, SpeechReader, Track, untracked
from core.training.splits import Split, make_splits
from core.training.states import mean_states, start_logits
from core.training.task import Task
from core.training.temperature import fold_temperature
from core.training.tuning import Tuner, choose_tuning

REPORT_FILE = "training.json"
CARD_FILE = "README.md"
PAGE_FILE = "training.html"


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options of a training.

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
    unfreeze, lora_rank, epochs
        As in `core.training.tuning.choose_tuning`.
    augment
        Some of `core.training.augmentation.KINDS`.
    noise
        A folder with recordings of noise; None for generated noise.
    folds
        The number of folds to train and test a network for; None for all, or for one if layers are tuned.
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
    unfreeze: int | None = None
    lora_rank: int = 0
    epochs: int = 9
    augment: tuple[str, ...] = ()
    noise: Path | None = None
    folds: int | None = None
    seed: int = 1
    threads: int = 1


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
    keep_freed_memory()
    start = read_checkpoint(options.start)
    check_start(start)
    clips, left_out = read_clips(options.manifest, options.names)
    cache = ArrayCache(options.cache)
    noise = read_noise(options.noise, limits, note) if options.noise else Noise()
    speech = list(SpeechReader(cache, limits, segmentation).read(options.manifest, clips, track))
    silent = len(clips) - len(speech)
    if silent:
        note(f"Left out {counted(silent, 'clip')} without speech.")
        check_counts(options.manifest, [item.clip for item in speech])
    task = _task(options, start, speech, Augmentation(options.augment, noise), cache, track)
    _note_gaps(task, note)
    folds = task.splits[: options.folds or (1 if task.tuner else None)]
    tested = _test_folds(task, folds, track)
    predictions = {
        condition: _predictions(task, tested.indices, scores.argmax(axis=1))
        for condition, scores in tested.calibrated.items()
    }
    network = task.fit_all(tested.steps, track)
    fold_temperature(network, tested.temperature)
    report = TrainingReport(
        version=__version__,
        start_id=start.model_id,
        start_revision=start.revision,
        labels=task.labels,
        data=_data(options.manifest, speech, left_out, silent),
        method=f"{_trained(task, tested.steps)}, {_augmented(options)}",
        input_mode=network.architecture.input_mode,
        options={
            "seed": options.seed,
            "augment": options.augment,
            **(asdict(task.tuner.tuning) if task.tuner else {}),
        },
        folds=len(task.splits),
        tested_folds=len(folds),
        tested_speakers=len({speech[index].clip.speaker for index in tested.indices}),
        figures={condition: Figures.of(predicted) for condition, predicted in predictions.items()},
        comparison=_compare(task, tested.indices, predictions, cache, track),
        temperature=tested.temperature,
        calibration=_calibrations(task, tested),
    )
    _write(options.out, network, report)
    return report


def _trained(task: Task, steps: int) -> str:
    if task.tuner:
        return f"{task.tuner.tuning}, trained in {counted(task.tuner.tuning.epochs, 'epoch')}"
    return f"the head, trained in {counted(steps, 'step')}"


def _augmented(options: TrainingOptions) -> str:
    return f"with {', '.join(options.augment)}" if options.augment else "without augmentation"


def _check_folder(out: Path) -> None:
    """Check that the folder is new, empty or that of an earlier training."""
    if out.exists() and not out.is_dir():
        raise FolderRefused(f"{out} is not a folder. Choose another one with --out.")
    if (out / MANIFEST_FILE).exists():
        raise FolderRefused(f"{out} has a serving package, which would hide the checkpoint. Choose another folder.")
    if out.exists() and not (out / REPORT_FILE).exists() and any(out.iterdir()):
        raise FolderRefused(f"{out} has files that are not those of a training. Choose another folder with --out.")


def _task(
    options: TrainingOptions,
    start: Checkpoint,
    speech: Sequence[LabelledSpeech],
    augmentation: Augmentation,
    cache: ArrayCache,
    track: Track,
) -> Task:
    labels = tuple(sorted({item.clip.emotion for item in speech}))
    targets = np.array([labels.index(item.clip.emotion) for item in speech], np.int64)
    speakers = [item.clip.speaker for item in speech]
    groups = np.unique(speakers, return_inverse=True)[1] if all(speakers) else np.arange(len(speech))
    splits = make_splits(targets, speakers, options.seed)
    network = start_network(start, labels, options.seed)
    tuning = choose_tuning(network, options.unfreeze, options.lora_rank, options.epochs)
    tested = conditions(augmentation.noise)
    means = {name: mean_states(start, network, speech, cache, track, copy) for name, copy in tested.items()}
    changed: list[Array] = []
    validated: list[Copy] = [tested[CLEAN_NAME]]
    if augmentation.kinds:
        changed = mean_states(start, network, speech, cache, track, RandomCopy(augmentation, options.seed))
        validated = list(tested.values())
    tuner = Tuner(tuning, cache, start.weights_sha256, options.seed, augmentation, validated) if tuning else None
    return Task(
        start=start,
        labels=labels,
        speech=speech,
        targets=targets,
        groups=groups.astype(np.int64),
        splits=splits,
        conditions=tested,
        means=means,
        changed=changed,
        tuner=tuner,
        cache=cache,
        seed=options.seed,
    )


def _note_gaps(task: Task, note: Callable[[str], None]) -> None:
    """Print what makes the figures worse than the clips could give."""
    if not task.speech[0].clip.speaker:
        note("The manifest has no column speaker, so the figures are too good: name the speakers.")
        return
    for label in task.labels:
        speakers = {item.clip.speaker for item in task.speech if item.clip.emotion == label}
        if len(speakers) == 1:
            note(f"Only {speakers.pop()} has clips of {label}, so no network learns and tests it: add other speakers.")


@dataclass(frozen=True)
class _Tested:
    """The scores that the networks of the folds return for the clips that they are tested on.

    Attributes
    ----------
    indices
        The clips.
    raw, calibrated
        The scores without and with the fold's temperature by condition, shape ``(clips, labels)``.
    steps
        The median number of steps of the head.
    temperature
        The median temperature.
    """

    indices: Indices
    raw: Mapping[str, Values]
    calibrated: Mapping[str, Values]
    steps: int
    temperature: float


def _test_folds(task: Task, folds: Sequence[Split], track: Track) -> _Tested:
    """Train a network for each fold; its validation set chooses the temperature, and its test set chooses nothing."""
    raw: dict[str, list[Values]] = {condition: [] for condition in task.conditions}
    calibrated: dict[str, list[Values]] = {condition: [] for condition in task.conditions}
    all_steps, temperatures = [], []
    for split in track(folds, "Training folds", len(folds)):
        network, steps = task.fit(split, track)
        all_steps.append(steps)
        temperatures.append(task.temperature(network, split.validation))
        for condition, index in product(task.conditions, split.testing.tolist()):
            logits = task.logits(network, index, condition)
            raw[condition].append(clip_scores(logits, task.speech[index]))
            calibrated[condition].append(clip_scores(logits / temperatures[-1], task.speech[index]))
    return _Tested(
        np.concatenate([split.testing for split in folds]),
        {condition: np.stack(rows) for condition, rows in raw.items()},
        {condition: np.stack(rows) for condition, rows in calibrated.items()},
        max(1, int(np.median(all_steps))),
        float(np.median(temperatures)),
    )


def _calibrations(task: Task, tested: _Tested) -> dict[str, Calibrations]:
    targets = task.targets[tested.indices]
    return {
        condition: Calibrations(
            *(
                Calibration.of(scores.max(axis=1), scores.argmax(axis=1) == targets)
                for scores in (tested.raw[condition], tested.calibrated[condition])
            )
        )
        for condition in task.conditions
    }


def clip_scores(logits: Array, speech: LabelledSpeech, output: Output = Output.SOFTMAX) -> Values:
    """Return the scores of a clip: the means of its utterances' scores, weighted by duration, as in results."""
    scores: Values = np.average([output_values(row, output) for row in logits], axis=0, weights=speech.durations_s)
    return scores


def _predictions(task: Task, tested: Indices, predicted: Indices) -> Predictions:
    return Predictions(task.labels, task.targets[tested], predicted, bootstrap_groups(task.groups[tested].tolist()))


def _compare(
    task: Task, tested: Indices, trained: Mapping[str, Predictions], cache: ArrayCache, track: Track
) -> dict[str, Comparison]:
    """Compare the network with its start on the tested clips; empty if the start returns dimensions or other labels."""
    architecture = task.start.network.architecture
    if architecture.output is Output.LINEAR or len(set(architecture.labels) & set(task.labels)) < MIN_LABELS:
        return {}
    speech = [task.speech[index] for index in tested]
    compared = {}
    for condition, copy in task.conditions.items():
        logits = start_logits(task.start, speech, cache, track, copy)
        predicted = _start_predictions(task, tested, logits)
        if comparison := compare(predicted, trained[condition], architecture.labels):
            compared[condition] = comparison
    return compared


def _start_predictions(task: Task, tested: Indices, logits: Sequence[Array]) -> Predictions:
    architecture = task.start.network.architecture
    names = {label: number for number, label in enumerate(task.labels)}
    speech = [task.speech[index] for index in tested]
    scores = [clip_scores(rows, item, architecture.output) for rows, item in zip(logits, speech, strict=True)]
    best = [architecture.labels[int(row.argmax())] for row in scores]
    predicted = np.array([names.get(label, len(names)) for label in best], np.int64)
    return _predictions(task, tested, predicted)


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
