"""The output of a network: logits, and the scores or values that they stand for."""

import numpy as np
import numpy.typing as npt

from core.results import Output

Logits = npt.NDArray[np.float32]
"""Shape ``(labels,)``."""


def output_values(logits: Logits, output: Output) -> npt.NDArray[np.float64]:
    """Return the scores for finite logits, or the values of a linear output; both have the shape ``(labels,)``."""
    if output is Output.LINEAR:
        return logits.astype(np.float64)
    if output is Output.SIGMOID:
        # 1 / (1 + exp(-x)) without overflow for any x.
        return np.asarray((1.0 + np.tanh(logits.astype(np.float64) / 2.0)) / 2.0, np.float64)
    return softmax(logits)


def softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Return the probabilities for finite logits; both have the shape ``(labels,)``."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(exponentials / exponentials.sum(), np.float64)
