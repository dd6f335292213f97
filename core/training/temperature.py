"""Temperature scaling: one divisor of the logits, after which scores agree with accuracy. No decision changes.

Guo et al., "On Calibration of Modern Neural Networks" (2017), https://arxiv.org/abs/1706.04599, section 4.2.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar

from core.checkpoints.architecture import dense_layers
from core.checkpoints.network import SpeechNetwork
from core.evaluation.figures import Indices
from core.results import Output

_LIMITS = (0.05, 20.0)
"""Limits of the temperature. The loss of perfect predictions would choose zero."""


def fit_temperature(logits: npt.ArrayLike, targets: Indices, output: Output = Output.SOFTMAX) -> float:
    """Return the temperature with the smallest cross-entropy on utterances that the network was not trained on.

    Parameters
    ----------
    logits
        Shape ``(n, labels)``.
    targets
        The index of each utterance's label, shape ``(n,)``.
    output
        Softmax or sigmoid. A sigmoid's cross-entropy is the sum over the labels.

    Raises
    ------
    ValueError
        If the output is linear, because values of dimensions have no calibration.
    """
    if output is Output.LINEAR:
        raise ValueError("values of dimensions have no temperature")
    values = np.asarray(logits, np.float64)
    signs = np.where(np.arange(values.shape[1]) == targets[:, None], -1.0, 1.0)

    def cross_entropy(log_temperature: float) -> float:
        scaled = values / np.exp(log_temperature)
        if output is Output.SIGMOID:
            return float(np.logaddexp(0.0, signs * scaled).sum(axis=1).mean())
        own = np.take_along_axis(scaled, targets[:, None], axis=1)[:, 0]
        return float((np.logaddexp.reduce(scaled, axis=1) - own).mean())

    found = minimize_scalar(cross_entropy, bounds=np.log(_LIMITS), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


@torch.no_grad()
def fold_temperature(network: SpeechNetwork, temperature: float) -> None:
    """Divide the logits of a network by a temperature, in the weight and the bias of its last layer.

    Raises
    ------
    ValueError
        If the output is linear.
    """
    if network.architecture.output is Output.LINEAR:
        raise ValueError("values of dimensions have no temperature")
    for parameter in network.get_submodule(dense_layers(network.architecture.head)[-1].name).parameters():
        parameter.div_(temperature)
