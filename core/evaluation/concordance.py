"""Agreement of values: Lin's concordance correlation coefficient (1989), the field's measure for dimensions."""

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
"""Shape ``(n,)``."""

_MIN_VALUES = 2


def concordance(truth: Values, predicted: Values) -> float | None:
    """Return the concordance correlation coefficient: 1 for equal values, less for each shift, scale or scatter.

    Returns
    -------
    None if it is not defined: for fewer than two values, or if both sides are constant.
    """
    if truth.size < _MIN_VALUES:
        return None
    spread = truth.var() + predicted.var() + (truth.mean() - predicted.mean()) ** 2
    if spread == 0.0:
        return None
    covariance = ((truth - truth.mean()) * (predicted - predicted.mean())).mean()
    return float(2.0 * covariance / spread)


def correlation(truth: Values, predicted: Values) -> float | None:
    """Return Pearson's correlation coefficient, which ignores shift and scale.

    Returns
    -------
    None if it is not defined: for fewer than two values, or if one side is constant.
    """
    if truth.size < _MIN_VALUES or truth.std() == 0.0 or predicted.std() == 0.0:
        return None
    covariance = ((truth - truth.mean()) * (predicted - predicted.mean())).mean()
    return float(covariance / (truth.std() * predicted.std()))
