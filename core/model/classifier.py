"""Classifies a waveform: ONNX Runtime computes the scores of the emotions from a serving package."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from core.audio.waveform import Waveform
from core.machine import cores
from core.model.inputs import Geometry
from core.model.labels import LabelChoice, relabelled
from core.model.output import Logits, output_values
from core.model.package import MODEL_FILE, Manifest, check_hashes, read_manifest
from core.onnx_session import onnx_session
from core.results import Model, Output
from core.settings import MEMORY_MB_PER_VCPU, ModelSettings

Scores = Mapping[str, float]
"""Label to probability, or dimension to value."""


class Network(Protocol):
    """A network that turns a waveform into logits."""

    def logits(self, waveform: Waveform) -> Logits:
        """Compute the logits, shape ``(labels,)``, of a waveform at 16 kHz, shape ``(n,)``."""
        ...


class EmotionClassifier:
    """A network and the identity of its model.

    Attributes
    ----------
    identity
        The model's identity, as stored in results.
    """

    def __init__(self, network: Network, identity: Model) -> None:
        self._network = network
        self.identity = identity

    @classmethod
    def load(cls, folder: Path, threads: int = 1, *, verify: bool = True) -> "EmotionClassifier":
        """Load a serving package; `core.checkpoints.loading` loads checkpoints too.

        Parameters
        ----------
        verify
            Whether to compare the files with the hashes in the manifest. For the package in the image, the build has
            already checked the hashes, and reading 123 MB would delay every cold start.

        Raises
        ------
        PackageRefused
            If the folder does not contain a package, or the package does not match its manifest.
        """
        manifest = read_manifest(folder)
        if verify:
            check_hashes(folder, manifest)
        network: Network = _OnnxNetwork(folder, manifest, threads)
        if manifest.label_choice:
            network = _Relabelled(network, manifest.label_choice, manifest.output)
        return cls(network, manifest.identity)

    def returning(self, choice: LabelChoice) -> "EmotionClassifier":
        """Return a classifier with the same network, which returns the scores under chosen labels."""
        output = self.identity.output or Output.SOFTMAX
        return EmotionClassifier(_Relabelled(self._network, choice, output), relabelled(self.identity, choice))

    def classify(self, waveform: Waveform) -> Scores:
        """Return the scores of one utterance, or the values of a linear output.

        Parameters
        ----------
        waveform
            Mono samples at 16 kHz, shape ``(n,)``, float32. Samples after the first six seconds are ignored.

        Raises
        ------
        EmptyRecording
            If there are no samples.
        """
        values = output_values(self._network.logits(waveform), self.identity.output or Output.SOFTMAX)
        return dict(zip(self.identity.names, values.tolist(), strict=True))

    def classify_all(self, waveforms: Iterable[Waveform]) -> list[Scores]:
        """Score several utterances one after another, because padding them to one length costs what a batch saves."""
        return [self.classify(waveform) for waveform in waveforms]

    def logits(self, waveform: Waveform) -> Logits:
        """Return the network's output for one utterance, shape ``(labels,)``."""
        return self._network.logits(waveform)


class _OnnxNetwork:
    """The serving graph in ONNX Runtime."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        self._geometry: Geometry = manifest.geometry
        # Loaded by path, so that ONNX Runtime maps the weights: docs/decisions/0008-onnx-runtime-session.md.
        self._session = onnx_session(folder / MODEL_FILE, threads, has_fixed_shapes=False)

    def logits(self, waveform: Waveform) -> Logits:
        outputs = self._session.run(["logits"], self._geometry.graph_inputs(waveform))
        logits: Logits = outputs[0][0]
        return logits


class _Relabelled:
    """A network with a logit for each chosen label."""

    def __init__(self, network: Network, choice: LabelChoice, output: Output) -> None:
        self._network, self._choice, self._output = network, choice, output

    def logits(self, waveform: Waveform) -> Logits:
        return self._choice.logits(self._network.logits(waveform), self._output)


def default_threads(options: ModelSettings) -> int:
    """Return the number of vCPUs, unless the settings name another number of threads.

    The number of vCPUs follows from the memory size in Lambda, and from the process's CPU affinity elsewhere. Lambda
    shows more cores than it grants: at 1,769 MB, it shows two cores and grants the processor time of one vCPU.
    """
    if options.inference_threads is not None:
        return options.inference_threads
    visible = cores()
    if options.aws_lambda_function_memory_size is None:
        return visible
    return max(1, min(visible, round(options.aws_lambda_function_memory_size / MEMORY_MB_PER_VCPU)))
