"""Builds the serving graph: a checkpoint's network as matrix products over the inputs that its geometry computes.

`network` builds any network from the layers in `layers`; `window` and `clip` add what depends on the input mode, and
`emotion2vec` what that encoder has.
`builder` collects nodes and constants, and `precision` quantises weights.
"""

import onnx

from core.checkpoints.architecture import Encoder, InputMode
from core.checkpoints.network import SpeechNetwork
from core.export.graph.clip import ClipGraph
from core.export.graph.emotion2vec import Emotion2vecGraph
from core.export.graph.precision import Precision
from core.export.graph.window import WindowGraph

__all__ = ["Precision", "build_graph"]


def build_graph(network: SpeechNetwork, precision: Precision) -> onnx.ModelProto:
    """Build the serving graph of a network, from the inputs that its geometry computes to ``logits``.

    Parameters
    ----------
    network
        The network of a checkpoint, in evaluation mode.
    precision
        The products to compute in 8-bit integers.
    """
    if network.architecture.encoder is Encoder.EMOTION2VEC:
        return Emotion2vecGraph(network, precision).build()
    graph = ClipGraph if network.architecture.input_mode is InputMode.CLIP else WindowGraph
    return graph(network, precision).build()
