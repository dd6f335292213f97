"""The serving graph: a checkpoint's network as matrix products over what a geometry leaves to compute.

`window` and `clip` each write one kind of network, from the `parts` that they share; `writer` knows ONNX alone, and
`precision` what 8 bits do to a product. Needs onnx, which the Lambda function does not have.
"""

import onnx

from core.checkpoints.network import SpeechNetwork
from core.checkpoints.registry import InputMode
from core.export.graph.clip import ClipGraph
from core.export.graph.precision import Precision
from core.export.graph.window import WindowGraph

__all__ = ["Precision", "build_graph"]


def build_graph(network: SpeechNetwork, precision: Precision) -> onnx.ModelProto:
    """Write the network as a serving graph: the inputs that its geometry makes, to ``logits``.

    Parameters
    ----------
    network
        A checkpoint's, read and in evaluation mode.
    precision
        Which products are done in 8-bit integers.
    """
    graph = ClipGraph if network.architecture.input_mode is InputMode.CLIP else WindowGraph
    return graph(network, precision).build()
