"""A checkpoint to a serving package, refused unless it says what the reference says.

Needs PyTorch, transformers and onnx, which the Lambda function does not have.
"""

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
from core.errors import ParityMissed
from core.export.graph import Precision, build_graph
from core.export.parity import MAX_MEAN_SCORE_CHANGE, MIN_AGREEMENT, compare, meets_bound
from core.model.classifier import EmotionClassifier, Logits, default_threads
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
"""Smaller ones stay in the graph, whose optimisation looks at them."""

Reporter = Callable[[Precision, ParityReport, bool], None]
"""Told of each precision that was tried, its report, and whether it meets the bound."""


def export(
    checkpoint_folder: Path,
    package_folder: Path,
    clips: Sequence[Waveform],
    *,
    precision: Precision | None = None,
    report: Reporter | None = None,
    ignored: Callable[[Mapping[str, str]], None] | None = None,
) -> Manifest:
    """Make a serving package, and put it where `package_folder` says only if it meets the parity bound.

    Parameters
    ----------
    checkpoint_folder
        A Hugging Face folder.
    package_folder
        Replaced as a whole, and only by a package that was accepted.
    clips
        Speech to compare on: utterances at 16 kHz.
    precision
        The one to make; None tries from the fastest to the safest, and keeps the first that meets the bound.
    report, ignored
        Told of each precision that was tried, and of tensors in the file that say nothing here, with the reason.

    Raises
    ------
    ParityMissed
        If no precision asked for meets the bound, or there are no clips; nothing is written then.
    CheckpointUnreadable
        If the checkpoint is incomplete or does not fit the network.
    """
    checkpoint = read_checkpoint(checkpoint_folder)
    if ignored and checkpoint.ignored:
        ignored(checkpoint.ignored)
    if not clips:
        raise ParityMissed("There is no speech to compare the package with the reference on. Nothing was written.")
    reference = [ReferenceNetwork(checkpoint).logits(clip) for clip in clips]
    tried: list[ParityReport] = []
    for candidate in [precision] if precision else list(Precision):
        with tempfile.TemporaryDirectory() as scratch:
            draft = Path(scratch)
            parity = write_package(checkpoint, draft, candidate, clips, reference)
            holds = meets_bound(parity)
            if report:
                report(candidate, parity, holds)
            if holds:
                return _publish(draft, package_folder)
        tried.append(parity)
    raise ParityMissed(
        f"The package agrees with the reference on {tried[-1].agreement:.1%} of {tried[-1].clips} clips, with a mean "
        f"change of {tried[-1].mean_score_change:.4f}; at least {MIN_AGREEMENT:.0%} and at most "
        f"{MAX_MEAN_SCORE_CHANGE} are asked for. Nothing was written."
    )


def write_package(
    checkpoint: Checkpoint, draft: Path, precision: Precision, clips: Sequence[Waveform], reference: Sequence[Logits]
) -> ParityReport:
    """Write a package whatever it says, and measure it: what `export` does before it decides.

    Parameters
    ----------
    draft
        A folder that exists.
    clips, reference
        Utterances at 16 kHz, and the reference's logits for each, of shape ``(labels,)``.
    """
    # Not kept: the files are read again below, and a large network would be in memory twice.
    _write_graph(build_graph(checkpoint.network, precision), draft)
    unmeasured = ParityReport(
        clips=0, agreement=0.0, mean_score_change=0.0, largest_score_change=0.0, largest_logit_change=0.0
    )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        id=checkpoint.model_id,
        revision=checkpoint.revision,
        demo=checkpoint.demo,
        labels=checkpoint.labels,
        precision=precision.value,
        sample_rate_hz=SAMPLE_RATE_HZ,
        geometry=geometry_of(checkpoint.network, exact=not precision.groups_tokens),
        sha256={name: file_sha256(draft / name) for name in (MODEL_FILE, WEIGHTS_FILE)},
        tools={name: importlib.metadata.version(name) for name in _TOOLS},
        parity=unmeasured,
    )
    _write_manifest(draft, manifest)
    # Measured through the very files that are shipped, not through the graph in memory.
    package = EmotionClassifier.load(draft, threads=default_threads(ModelSettings()))
    parity = compare(reference, [package.logits(clip) for clip in clips])
    _write_manifest(draft, manifest.model_copy(update={"parity": parity}))
    return parity


def _write_graph(model: onnx.ModelProto, folder: Path) -> None:
    """The graph in one file, its weights in another, which ONNX Runtime maps into memory instead of copying it."""
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


def _publish(draft: Path, package_folder: Path) -> Manifest:
    package_folder.mkdir(parents=True, exist_ok=True)
    # The manifest last: a package that was only half copied is refused for the hash of its old manifest. A file takes
    # the old one's place, and leaves that to whoever has mapped it; written over, it would change under them.
    for name in (WEIGHTS_FILE, MODEL_FILE, MANIFEST_FILE):
        part = package_folder / f"{name}.part"
        shutil.copyfile(draft / name, part)
        part.replace(package_folder / name)
    return Manifest.model_validate_json((package_folder / MANIFEST_FILE).read_bytes())
