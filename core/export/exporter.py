"""Exports a checkpoint as a serving package, which is refused unless its scores match the reference's."""

import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx

from core.audio.waveform import SAMPLE_RATE_HZ, Waveform
from core.checkpoints.checkpoint import Checkpoint, read_checkpoint
from core.checkpoints.geometry import geometry_of
from core.checkpoints.reference import ReferenceNetwork
from core.errors import FolderRefused, ParityMissed
from core.export.graph import Precision, build_graph
from core.export.parity import compare, describe, meets_bound
from core.model.classifier import EmotionClassifier, default_threads
from core.model.labels import LabelChoice, choose_labels
from core.model.output import Logits
from core.model.package import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    MODEL_FILE,
    WEIGHTS_FILE,
    Manifest,
    ParityReport,
    file_sha256,
)
from core.settings import ModelSettings

_TOOLS = ("torch", "transformers", "onnx", "onnxruntime", "numpy")

_MIN_WEIGHT_BYTES = 1024
"""Smaller tensors stay in the graph, where ONNX Runtime's optimisations use their values."""

Reporter = Callable[[Precision, ParityReport, bool], None]
"""A function that receives each tried precision, its report, and whether it meets the bound."""


def export(
    checkpoint_folder: Path,
    package_folder: Path,
    clips: Sequence[Waveform],
    *,
    precision: Precision | None = None,
    renamed: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
    report: Reporter | None = None,
    ignored: Callable[[Mapping[str, str]], None] | None = None,
) -> Manifest:
    """Export a serving package if it meets the parity bound.

    Parameters
    ----------
    checkpoint_folder
        A Hugging Face folder.
    package_folder
        The folder to write to. Its package is replaced only by one that meets the bound.
    clips
        Speech for the comparison, each clip of shape ``(n,)`` at 16 kHz.
    precision
        The precision of the package; None tries all, fastest first, until one meets the bound.
    renamed, only
        The labels under which the package returns its scores: see `core.model.labels.choose_labels`.
    report
        Called after each precision.
    ignored
        Called with the unused tensors of the checkpoint -> the reason why each is safe to ignore.

    Returns
    -------
    The manifest of the package.

    Raises
    ------
    ParityMissed
        If no requested precision meets the bound, or there are no clips. Nothing is written then.
    CheckpointUnreadable
        If the checkpoint is incomplete or does not fit the network.
    LabelsInvalid
        If the checkpoint does not have the labels.
    FolderRefused
        If the folder contains files with a package's names, but no package.
    """
    _check_replaceable(package_folder)
    checkpoint = read_checkpoint(checkpoint_folder, renamed=renamed or {})
    choice = choose_labels(checkpoint.labels, checkpoint.network.architecture.output, renamed or {}, only)
    if ignored and checkpoint.ignored:
        ignored(checkpoint.ignored)
    if not clips:
        raise ParityMissed("Without clips, the package cannot be compared with the reference. Nothing was written.")
    reference = [ReferenceNetwork(checkpoint).logits(clip) for clip in clips]
    tried: list[ParityReport] = []
    for candidate in [precision] if precision else list(Precision):
        with tempfile.TemporaryDirectory() as scratch:
            draft = Path(scratch)
            parity = write_package(checkpoint, draft, candidate, clips, reference, choice)
            is_accepted = meets_bound(parity)
            if report:
                report(candidate, parity, is_accepted)
            if is_accepted:
                return _publish(draft, package_folder)
        tried.append(parity)
    raise ParityMissed(f"{describe(tried[-1])} Nothing was written.")


def write_package(
    checkpoint: Checkpoint,
    draft: Path,
    precision: Precision,
    clips: Sequence[Waveform],
    reference: Sequence[Logits],
    choice: LabelChoice | None = None,
) -> ParityReport:
    """Write a package and measure its parity, without a bound.

    Parameters
    ----------
    draft
        An existing folder.
    clips
        Speech for the comparison, each clip of shape ``(n,)`` at 16 kHz.
    reference
        The checkpoint's logits for each clip, of shape ``(labels,)``.
    choice
        The labels under which the package returns its scores; None for the checkpoint's.

    Returns
    -------
    The report, which the manifest contains too.
    """
    # The graph is not kept, because the files are loaded below and a large network would be in memory twice.
    _write_graph(build_graph(checkpoint.network, precision), draft)
    unmeasured = ParityReport(
        clips=0, agreement=0.0, mean_score_change=0.0, largest_score_change=0.0, largest_logit_change=0.0
    )
    architecture = checkpoint.network.architecture
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        id=checkpoint.model_id,
        revision=checkpoint.revision,
        demo=checkpoint.demo,
        labels=choice.labels if choice else checkpoint.labels,
        precision=precision.value,
        sample_rate_hz=SAMPLE_RATE_HZ,
        geometry=geometry_of(checkpoint.network, exact=not precision.groups_tokens),
        sha256={name: file_sha256(draft / name) for name in (MODEL_FILE, WEIGHTS_FILE)},
        tools={name: importlib.metadata.version(name) for name in _TOOLS},
        parity=unmeasured,
        output=architecture.output,
        dimensions_range=architecture.dimensions_range,
        label_choice=None if choice is None or choice.is_renaming else choice,
    )
    _write_manifest(draft, manifest)
    # Measure the written files rather than the graph in memory.
    package = EmotionClassifier.load(draft, threads=default_threads(ModelSettings()))
    logits = [package.logits(clip) for clip in clips]
    if manifest.label_choice:
        reference = [manifest.label_choice.logits(each, architecture.output) for each in reference]
    parity = compare(reference, logits, architecture.output, architecture.dimensions_range)
    _write_manifest(draft, manifest.model_copy(update={"parity": parity}))
    return parity


def _write_graph(model: onnx.ModelProto, folder: Path) -> None:
    """Write the graph to one file and its weights to another, which ONNX Runtime maps into memory."""
    onnx.save_model(
        model,
        folder / MODEL_FILE,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=WEIGHTS_FILE,
        size_threshold=_MIN_WEIGHT_BYTES,
    )


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _check_replaceable(package_folder: Path) -> None:
    files = [package_folder / name for name in (MANIFEST_FILE, MODEL_FILE, WEIGHTS_FILE)]
    existing = [file for file in files if file.exists()]
    # Read as text, because the package may be of an older format or its replacement may have been interrupted.
    if existing and not (files[0].exists() and b'"format_version"' in files[0].read_bytes()):
        raise FolderRefused(f"{existing[0]} does not belong to a serving package. Choose another folder.")


def _publish(draft: Path, package_folder: Path) -> Manifest:
    package_folder.mkdir(parents=True, exist_ok=True)
    # Copy the manifest last: a partial copy does not match the hashes in the old manifest, so loading refuses it.
    # Rename each file over the old one, so that processes that have mapped the old file keep its content.
    for name in (WEIGHTS_FILE, MODEL_FILE, MANIFEST_FILE):
        part = package_folder / f"{name}.part"
        shutil.copyfile(draft / name, part)
        part.replace(package_folder / name)
    return Manifest.model_validate_json((package_folder / MANIFEST_FILE).read_bytes())
