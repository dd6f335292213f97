"""Classification by a checkpoint's PyTorch network, as in the published programs."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from core.audio.waveform import Waveform
from core.checkpoints.checkpoint import Checkpoint, read_checkpoint
from core.checkpoints.geometry import geometry_of
from core.model.output import Logits
from core.results import Model


class ReferenceNetwork:
    """A checkpoint's PyTorch network with the interface of `core.model.classifier.Network`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._network = checkpoint.network
        self._geometry = geometry_of(checkpoint.network)

    def logits(self, waveform: Waveform) -> Logits:
        """Compute the logits, shape ``(labels,)``, of a waveform at 16 kHz, shape ``(n,)``."""
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(self._geometry.network_input(waveform))[None])
        return np.asarray(logits[0].numpy(), np.float32)


def load_reference(folder: Path, threads: int, *, renamed: Collection[str] = ()) -> tuple[ReferenceNetwork, Model]:
    """Read a checkpoint, and return its network and its identity.

    Parameters
    ----------
    renamed
        Labels that the caller renames, as in `read_checkpoint`.

    Raises
    ------
    CheckpointUnreadable
        If the checkpoint is incomplete or does not fit the network.
    """
    torch.set_num_threads(threads)
    checkpoint = read_checkpoint(folder, renamed=renamed)
    architecture = checkpoint.network.architecture
    identity = Model.with_output(
        architecture.output,
        checkpoint.labels,
        architecture.dimensions_range,
        id=checkpoint.model_id,
        revision=checkpoint.revision,
        precision="pytorch-fp32",
        fingerprint=f"sha256:{checkpoint.weights_sha256}",
        demo=checkpoint.demo or None,
    )
    return ReferenceNetwork(checkpoint), identity
