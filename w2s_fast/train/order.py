"""The only source of batch order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The permutation of n train rows in a training epoch (counted from 0) of a run seed; int64[n].

    Depends on the three numbers alone, on every platform and version: a stable sort of raw PCG64 words, whose stream
    numpy keeps, unlike that of `Generator.permutation`.
    """
    words = np.random.PCG64(np.random.SeedSequence((seed, epoch, n))).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)
