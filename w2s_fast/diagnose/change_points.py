"""Where a sorted sequence falls in two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from w2s_fast.core.errors import UsageError


def change_point(values: NDArray[np.float64]) -> float:
    """The first value of the upper part when sorted values are cut in two with the least sum of squares within."""
    x = np.sort(values)
    n = len(x)
    if n < 4:
        raise UsageError(f"{n} values have no change point: it takes at least 4; give more rows, or select_knn")
    x = x - x.mean()
    cuts = np.arange(2, n - 1)
    below = np.cumsum(x)[cuts - 1]
    # of a fixed total, the sum of squares within is least where that between is largest
    between = below**2 / cuts + (x.sum() - below) ** 2 / (n - cuts)
    return float(np.sort(values)[cuts[np.argmax(between)]])
