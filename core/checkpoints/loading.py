"""Loads a classifier from a folder with a serving package or a checkpoint.

A serving package needs only ONNX Runtime. A checkpoint needs PyTorch and transformers, which take four seconds to
import and are not in the Lambda image, so they are imported only for a checkpoint.
"""

from pathlib import Path

from core.checkpoints.files import CONFIG_FILE
from core.errors import PackageRefused
from core.model.classifier import EmotionClassifier
from core.model.package import MANIFEST_FILE


def load_classifier(folder: Path, threads: int, *, verify: bool = True) -> EmotionClassifier:
    """Load the serving package or the checkpoint in a folder.

    Parameters
    ----------
    threads
        The number of threads to compute with.
    verify
        Whether to check the hashes of a serving package.

    Raises
    ------
    PackageRefused
        If the folder contains neither, or the package does not match its manifest.
    CheckpointUnreadable
        If the checkpoint is incomplete or does not fit the network.
    """
    if (folder / MANIFEST_FILE).exists():
        return EmotionClassifier.load(folder, threads, verify=verify)
    if (folder / CONFIG_FILE).exists():
        from core.checkpoints.reference import load_reference

        return EmotionClassifier(*load_reference(folder, threads))
    raise PackageRefused(
        f"{folder} contains neither a serving package ({MANIFEST_FILE}) nor a checkpoint ({CONFIG_FILE})."
    )
