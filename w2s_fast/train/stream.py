"""Feature tables larger than memory: read in blocks, shuffled in windows, one window ahead of the training."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.errors import UsageError
from w2s_fast.train.order import shuffled_in_windows, window_of_blocks

WINDOW = 1 << 17
"""Rows that are shuffled together; twice as many are in memory at most."""
BLOCK = 32
"""Rows that are read together. Few, as data sets lie class by class: every window should hold blocks of every class."""
CHUNK = 8192
TOGETHER = 64
"""Blocks that the reading thread hands over at a time."""


class Blocks(Protocol):
    """A table of `n` rows by `d` in numbered blocks of `block` rows (the last may be shorter)."""

    @property
    def n(self) -> int: ...
    @property
    def d(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, number: int) -> NDArray[Any]:
        """One block [b, d], verified; called from one thread at a time."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayBlocks:
    """A table in memory, or mapped into it, as blocks."""

    table: NDArray[Any]
    block: int = BLOCK

    @property
    def n(self) -> int:
        return self.table.shape[0]

    @property
    def d(self) -> int:
        return self.table.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.table.dtype

    def read(self, number: int) -> NDArray[Any]:
        return self.table[number * self.block : (number + 1) * self.block]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """A feature table f[n, d] that is read in blocks whenever a pass needs them, in the type in which it is stored.

    rows: which row of `blocks` each row of the table is (ascending), or None where they are the same. window: rows that
    are shuffled together. device: where batches are gathered. No pass holds more than two windows of blocks: one that
    serves batches, one that a thread reads ahead.
    """

    blocks: Blocks
    rows: NDArray[np.int64] | None = None
    window: int = WINDOW
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.window < 1:
            raise UsageError(f"a window of {self.window} rows cannot be streamed; give at least one block")

    @property
    def n(self) -> int:
        return self.blocks.n if self.rows is None else len(self.rows)

    @property
    def d(self) -> int:
        return self.blocks.d

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return -(-self.blocks.n // self.blocks.block)

    @property
    def most(self) -> int:
        """Blocks of a window at most."""
        return self.count if self.window >= self.blocks.n else max(1, self.window // self.blocks.block)

    @property
    def held_bytes(self) -> int:
        """Bytes of the two windows that a pass holds."""
        return min(2 * self.most, self.count) * self.blocks.block * self.d * self.blocks.dtype.itemsize

    @property
    def declared(self) -> str:
        """What rows say of the order of training; with one window it is the resident order."""
        return "resident" if self.count <= self.most else f"stream(block={self.blocks.block}, window={self.window})"

    def order(self, rows: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
        """Train rows i[n] in the order of an epoch: blocks are dealt into windows, and each window is shuffled."""
        window = window_of_blocks(epoch, self.count, self.most)
        return shuffled_in_windows(rows, window[self._stored(rows) // self.blocks.block], seed, epoch)

    def as_stored(self, rows: Tensor) -> Tensor:
        """Row numbers i[n] in an order that one pass can serve: as they are if all blocks fit, else as stored."""
        return rows if self.count <= self.most else rows.sort().values

    @cached_property
    def finite(self) -> NDArray[np.bool_]:
        """b[n]: rows without NaN and infinity; one pass over everything, which verifies everything."""
        fine = [part.isfinite().all(dim=1).cpu() for _, part in self.batches(torch.arange(self.n), CHUNK)]
        return torch.cat(fine).numpy() if fine else np.empty(0, np.bool_)

    def batches(self, rows: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Consecutive parts (i[*r, b], f[*r, b, d]) of the row numbers i[*r, n], in the stored type.

        Rows in the order of `order`, or ascending, are served by one pass, for all runs r at once. In any other order
        blocks are read for every batch that needs them: slowly, and within the same memory.
        """
        stored = self._stored(rows.detach().cpu().numpy())
        number, place = np.divmod(stored, self.blocks.block)
        visit = Visit.of(number, size, self.count)
        steps = range(0, rows.shape[-1], size)
        if visit.live > min(2 * self.most, self.count):
            for start in steps:
                part = slice(start, start + size)
                yield rows[..., part], self._alone(number[..., part], place[..., part])
            return
        for start, (slab, slot) in zip(steps, self._passing(visit, len(steps)), strict=True):
            part = slice(start, start + size)
            at = torch.from_numpy(slot[number[..., part]] * self.blocks.block + place[..., part]).to(slab.device)
            yield rows[..., part], slab.index_select(0, at.reshape(-1)).view(*at.shape, self.d)

    def _passing(self, visit: Visit, steps: int) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        """For every step: the slab of blocks in memory, and where each block of the step begins in it."""
        block = self.blocks.block
        capacity = min(2 * self.most, len(visit.blocks))
        # the caller's inference mode is not the reading thread's, which writes into it
        with torch.inference_mode(False):
            slab = torch.empty(capacity * block, self.d, dtype=_torch(self.blocks.dtype), device=self.device)
        slot = np.full(self.count, -1, np.int64)
        free = deque(range(capacity))
        coming: deque[tuple[int, Future[None]]] = deque()
        asked = left = 0
        reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")

        def load(numbers: NDArray[np.int64], places: list[int]) -> None:
            found = np.zeros((len(numbers), block, self.d), self.blocks.dtype)
            for here, number in zip(found, numbers.tolist(), strict=True):
                rows = self.blocks.read(number)
                here[: len(rows)] = rows
            slab.view(capacity, block, self.d)[places] = torch.from_numpy(found).to(self.device)

        try:
            for step in range(steps):
                while left < len(visit.leaving) and visit.last[visit.leaving[left]] < step:
                    free.append(int(slot[visit.leaving[left]]))
                    left += 1
                while asked < len(visit.blocks) and free:
                    numbers = visit.blocks[asked : asked + min(TOGETHER, len(free))]
                    places = [free.popleft() for _ in numbers]
                    slot[numbers] = places
                    coming.append((int(visit.first[numbers[0]]), reader.submit(load, numbers, places)))
                    asked += len(numbers)
                while coming and coming[0][0] <= step:
                    coming.popleft()[1].result()
                yield slab, slot
        finally:
            reader.shutdown(wait=True, cancel_futures=True)

    def _alone(self, number: NDArray[np.int64], place: NDArray[np.int64]) -> Tensor:
        """Rows at a place of a block each, f[*r, b, d], from blocks that are read for them alone."""
        out = np.empty((number.size, self.d), self.blocks.dtype)
        for one in np.unique(number):
            here = np.flatnonzero(number.reshape(-1) == one)
            out[here] = self.blocks.read(int(one))[place.reshape(-1)[here]]
        return torch.from_numpy(out).to(self.device).view(*number.shape, self.d)

    def _stored(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows if self.rows is None else self.rows[rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class Visit:
    """Which blocks a pass needs, and when.

    first, last: the first and last step that needs a block, i[count] (where it is needed). blocks: those needed, by
    first step. leaving: the same, by last step. live: how many are needed at once, at most.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    blocks: NDArray[np.int64]
    leaving: NDArray[np.int64]
    live: int

    @staticmethod
    def of(number: NDArray[np.int64], size: int, count: int) -> Visit:
        """The visit of block numbers i[*r, n], `size` a step."""
        n = number.shape[-1]
        step = np.arange(n) // size
        first, last = np.full(count, n, np.int64), np.full(count, -1, np.int64)
        for one in number.reshape(-1, n) if n else ():
            own, own_last = np.full(count, n, np.int64), np.full(count, -1, np.int64)
            # of several assignments to one place the last one stays
            own[one[::-1]] = step[::-1]
            own_last[one] = step
            np.minimum(first, own, out=first)
            np.maximum(last, own_last, out=last)
        used = np.flatnonzero(last >= 0)
        blocks = used[np.argsort(first[used], kind="stable")]
        leaving = used[np.argsort(last[used], kind="stable")]
        change = np.zeros(n + 2, np.int64)
        np.add.at(change, first[used], 1)
        np.add.at(change, last[used] + 1, -1)
        return Visit(first=first, last=last, blocks=blocks, leaving=leaving, live=int(change.cumsum().max()))


def _torch(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype.newbyteorder("="))).dtype
