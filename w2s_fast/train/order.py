"""The only source of batch order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Order = Callable[[NDArray[np.int64], int, int], NDArray[np.int64]]
"""(train rows i[n], run seed, epoch) -> the rows in the order of that epoch."""


def order(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The permutation of n train rows in a training epoch (counted from 0) of a run seed; int64[n].

    Depends on the three numbers alone, on every platform and version: a stable sort of raw PCG64 words, whose stream
    numpy keeps, unlike that of `Generator.permutation`.
    """
    return np.argsort(words(seed, epoch, n), kind="stable").astype(np.int64, copy=False)


def words(seed: int, epoch: int, n: int) -> NDArray[np.uint64]:
    """What is sorted: n raw words of the stream of (seed, epoch, n)."""
    return np.random.PCG64(np.random.SeedSequence((seed, epoch, n))).random_raw(n)


def shuffled(rows: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Train rows i[n] as a resident table takes them in an epoch."""
    return rows[order(seed, epoch, len(rows))]


def window_of_blocks(epoch: int, blocks: int, most: int) -> NDArray[np.int64]:
    """Which window each block of a streamed table falls into in an epoch, i[blocks]: windows of at most `most` blocks.

    Of as many consecutive blocks as there are windows, each window gets one, at random: data that lie class by class
    give every window its share of every class. The same for every run, whatever its seed and split, so that one pass
    feeds them all.
    """
    windows = -(-blocks // most)
    groups = -(-blocks // windows)
    words = np.random.PCG64(np.random.SeedSequence((0, epoch, blocks))).random_raw(groups * windows)
    mixed = np.argsort(words.reshape(groups, windows), axis=1, kind="stable")
    return mixed.reshape(-1)[:blocks].astype(np.int64, copy=False)


def shuffled_in_windows(rows: NDArray[np.int64], window: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """The resident order with the rows of each window brought together; `window` i[n] is that of each of `rows`.

    With one window it is the resident order itself.
    """
    mixed = order(seed, epoch, len(rows))
    # 16 bits sort in linear time
    key = window[mixed].astype(np.uint16 if int(window.max(initial=0)) < 1 << 16 else np.int64)
    return rows[mixed[np.argsort(key, kind="stable")]]
