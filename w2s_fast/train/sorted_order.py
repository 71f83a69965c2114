"""The orders of many runs at once, sorted on a device: the host draws the words, which is a tenth of the work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.train.order import words

SIGN = np.uint64(1 << 63)
"""Flipping it maps the order of uint64 to that of int64, which is what devices sort."""


def shuffled_on(
    device: torch.device, train_rows: Sequence[NDArray[np.int64]], seeds: Sequence[int], epoch: int
) -> Tensor:
    """`order.shuffled` of every run's train rows as i[R, n], padded with the last row of each run's order.

    train_rows: per run; runs of one split hold the same array. The same permutations as on the host, word for word:
    both sorts are stable.
    """
    n = np.array([len(rows) for rows in train_rows])
    width = int(n.max())
    drawn: dict[tuple[int, int], int] = {}
    places = [drawn.setdefault((seed, int(count)), len(drawn)) for seed, count in zip(seeds, n, strict=True)]
    keys = np.full((len(drawn), width), np.iinfo(np.int64).max)
    for (seed, count), at in drawn.items():
        keys[at, :count] = (words(seed, epoch, count) ^ SIGN).view(np.int64)
    order = torch.sort(torch.from_numpy(keys).to(device), dim=1, stable=True).indices
    splits: dict[int, int] = {}
    numbers = [splits.setdefault(id(rows), len(splits)) for rows in train_rows]
    table = np.zeros((len(splits), width), np.int64)
    for number, rows in zip(numbers, train_rows, strict=True):
        table[number, : len(rows)] = rows
    last = torch.from_numpy(np.minimum(np.arange(width), n[:, None] - 1)).to(device)
    mixed = order[torch.tensor(places, device=device)].gather(1, last)
    return torch.from_numpy(table).to(device)[torch.tensor(numbers, device=device)].gather(1, mixed)
