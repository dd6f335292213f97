"""A random network as reference and as serving graph."""

from functools import cached_property

import numpy as np
import onnxruntime
import torch

from core.audio.waveform import Waveform
from core.checkpoints.geometry import geometry_of
from core.checkpoints.network import SpeechNetwork
from core.export.graph import Precision, build_graph
from core.model.output import Logits
from core.onnx_session import onnx_session


class GraphPair:
    """A network in PyTorch and its serving graph in float32."""

    def __init__(self, network: SpeechNetwork) -> None:
        self.network = network
        self.geometry = geometry_of(network)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"  # hypothesis prints its examples, and a network takes 30 kB

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        return onnx_session(build_graph(self.network, Precision.FP32).SerializeToString(), threads=1)

    def reference(self, waveform: Waveform) -> Logits:
        """Compute the logits in PyTorch, shape ``(labels,)``."""
        with torch.inference_mode():
            logits = self.network(torch.from_numpy(self.geometry.network_input(waveform))[None])
        return np.asarray(logits[0].numpy())

    def served(self, waveform: Waveform) -> Logits:
        """Compute the logits with the serving graph, shape ``(labels,)``."""
        return np.asarray(self.session.run(["logits"], self.geometry.graph_inputs(waveform))[0][0], np.float32)

    def difference(self, waveform: Waveform) -> float:
        """Return the largest difference of a logit."""
        return float(np.abs(self.reference(waveform) - self.served(waveform)).max())
