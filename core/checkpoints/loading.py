"""Loads a classifier from a folder with a serving package or a checkpoint.

A serving package needs only ONNX Runtime. A checkpoint needs PyTorch and transformers, which take four seconds to
import and are not in the Lambda image, so they are imported only for a checkpoint.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from core.checkpoints.files import LAYOUTS, is_checkpoint
from core.errors import PackageRefused
from core.model.classifier import EmotionClassifier
from core.model.labels import choose_labels
from core.model.package import MANIFEST_FILE
from core.results import Output


def load_classifier(
    folder: Path,
    threads: int,
    *,
    verify: bool = True,
    renamed: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
) -> EmotionClassifier:
    """Load the serving package or the checkpoint in a folder.

    Parameters
    ----------
    threads
        The number of threads to compute with.
    verify
        Whether to check the hashes of a serving package.
    renamed, only
        The labels under which the scores are returned: see `core.model.labels.choose_labels`.

    Raises
    ------
    PackageRefused
        If the folder contains neither or both, or the package does not match its manifest.
    CheckpointUnreadable
        If the checkpoint is incomplete or does not fit the network.
    LabelsInvalid
        If the model does not have the labels.
    """
    classifier = _load(folder, threads, verify=verify, renamed=renamed or {})
    if not renamed and not only:
        return classifier
    identity = classifier.identity
    return classifier.returning(choose_labels(identity.names, identity.output or Output.SOFTMAX, renamed or {}, only))


def _load(folder: Path, threads: int, *, verify: bool, renamed: Collection[str]) -> EmotionClassifier:
    if (folder / MANIFEST_FILE).exists():
        if is_checkpoint(folder):
            raise PackageRefused(f"{folder} has both a serving package and a checkpoint. Move one to another folder.")
        return EmotionClassifier.load(folder, threads, verify=verify)
    if is_checkpoint(folder):
        from core.checkpoints.reference import load_reference

        return EmotionClassifier(*load_reference(folder, threads, renamed=renamed))
    raise PackageRefused(
        f"{folder} contains neither a serving package ({MANIFEST_FILE}) nor a checkpoint "
        f"({' or '.join(layout.config for layout in LAYOUTS)})."
    )
