"""A waveform in, a probability for each emotion out, from a serving package or from a checkpoint.

The serving package is what the function uses: ONNX Runtime, a tenth of a second to import. A checkpoint needs PyTorch
and transformers, four seconds to import, and is the reference; it is loaded from a module of its own, only when asked
for.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from core import settings
from core.audio.waveform import Waveform
from core.errors import PackageRefused
from core.model.inputs import Geometry
from core.model.package import MANIFEST_FILE, Manifest, model_file, read_manifest
from core.onnx_session import onnx_session
from core.results import Model
from core.settings import MEMORY_MB_PER_VCPU, ModelSettings

Scores = Mapping[str, float]
"""Label to probability; they sum to 1."""

Logits = npt.NDArray[np.float32]
"""Shape ``(labels,)``."""


class Network(Protocol):
    """Whatever turns a waveform into logits."""

    def logits(self, waveform: Waveform) -> Logits:
        """Shape ``(n,)`` at 16 kHz in, shape ``(labels,)`` out."""
        ...


class EmotionClassifier:
    """Scores for waveforms, and the identity of what computed them."""

    def __init__(self, network: Network, identity: Model) -> None:
        self._network = network
        self.identity = identity

    @classmethod
    def load(cls, folder: Path, *, threads: int | None = None) -> "EmotionClassifier":
        """Load a serving package or a checkpoint, whichever the folder holds.

        Raises
        ------
        PackageRefused
            If the folder holds neither, or the package does not match its manifest.
        CheckpointUnreadable
            If the checkpoint is incomplete or does not fit the network.
        """
        threads = threads or default_threads(settings.read(ModelSettings))
        if (folder / MANIFEST_FILE).exists():
            manifest = read_manifest(folder)
            return cls(_OnnxNetwork(folder, manifest, threads), manifest.identity)
        if (folder / "config.json").exists():
            # Here, not above: this import costs four seconds and needs packages that the function does not have.
            from core.checkpoints.reference import load_reference

            return cls(*load_reference(folder, threads))
        raise PackageRefused(
            f"{folder} holds neither a serving package ({MANIFEST_FILE}) nor a checkpoint (config.json)."
        )

    def classify(self, waveform: Waveform) -> Scores:
        """Score one utterance.

        Parameters
        ----------
        waveform
            Mono samples at 16 kHz, shape ``(n,)``, float32; only the first six seconds are heard.

        Raises
        ------
        EmptyRecording
            If there are no samples.
        """
        probabilities = softmax(self._network.logits(waveform))
        return dict(zip(self.identity.labels, probabilities.tolist(), strict=True))

    def classify_all(self, waveforms: Iterable[Waveform]) -> list[Scores]:
        """Score several utterances, one after another: padding them to one length would cost what a batch saves."""
        return [self.classify(waveform) for waveform in waveforms]

    def logits(self, waveform: Waveform) -> Logits:
        """The network's raw output for one utterance, shape ``(labels,)``."""
        return self._network.logits(waveform)


class _OnnxNetwork:
    """The serving graph in ONNX Runtime."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        self._geometry: Geometry = manifest.geometry
        self._session = onnx_session(model_file(folder, manifest), threads)

    def logits(self, waveform: Waveform) -> Logits:
        """Shape ``(n,)`` at 16 kHz in, shape ``(labels,)`` out."""
        outputs = self._session.run(["logits"], self._geometry.inputs(waveform))
        logits: Logits = outputs[0][0]
        return logits


def softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Probabilities of shape ``(labels,)``; never NaN for finite logits."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(exponentials / exponentials.sum(), np.float64)


def default_threads(options: ModelSettings) -> int:
    """As many as there are vCPUs.

    Lambda shows more cores than it grants: two at 1,769 MB, where one vCPU's worth of time is all there is. So in
    Lambda the memory size decides, elsewhere what the process may run on.
    """
    if options.inference_threads is not None:
        return options.inference_threads
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if options.aws_lambda_function_memory_size is None:
        return visible
    return max(1, min(visible, round(options.aws_lambda_function_memory_size / MEMORY_MB_PER_VCPU)))
