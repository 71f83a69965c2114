"""One array of a bank in blocks of rows that are read on their own, each of them verified."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.store import layout
from w2s_fast.store.part import BadFile, chunk_name, crc32c, open_chunk, read_rows
from w2s_fast.store.reader import Bank

MOST_FILES = 256
"""Files that are held open: of a million rows, all."""


@dataclass(kw_only=True, eq=False)
class BankBlocks:
    """Blocks of `block` rows of one array, numbered in storage order; a block never crosses a part.

    The first read of a part takes all of it, as a resident read does: its crc32c must be the committed one. From then
    on the crc32c of each of its blocks is known, and a block is read alone, unless it follows the one before: then all
    of the part is read again, for the blocks to come. `Damaged` names file and rows either way. At most one part is
    held. Not for several threads at a time.
    """

    bank: Bank
    name: str = "features"
    block: int = 32
    _sums: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    _files: dict[int, int] = field(default_factory=dict[int, int])
    _before: int = -1
    _part: int = -1
    _held: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.block < 1 or layout.PART_ROWS % self.block:
            self.block = layout.PART_ROWS
        weakref.finalize(self, _close, self._files)

    @property
    def n(self) -> int:
        """Rows of the bank."""
        return self.bank.rows

    @property
    def d(self) -> int:
        """Columns of the array."""
        return self.bank.parts[0].arrays[self.name].shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The widest stored type among the parts."""
        return self.bank.dtype(self.name)

    def read(self, number: int) -> NDArray[Any]:
        """Rows [number * block, (number + 1) * block) of the bank, in the type in which their part is stored."""
        each = layout.PART_ROWS // self.block
        part, place = divmod(number, each)
        follows, self._before = number == self._before + 1, number
        if part != self._part or not follows:
            self._part, self._held = -1, None
            if follows or part not in self._sums:
                self._part, self._held = part, self._whole(part)
        if self._held is not None:
            return self._held[place * self.block : (place + 1) * self.block]
        meta = self.bank.parts[part].arrays[self.name]
        start = place * self.block
        out = np.empty((min(self.block, meta.shape[0] - start), *meta.shape[1:]), meta.dtype)
        try:
            read_rows(self._file(part), meta, start, out, self._sums[part][place])
        except BadFile as bad:
            raise self.bank.damaged(self.bank.parts[part].commit, bad.name, str(bad)) from None
        return out

    def _file(self, part: int) -> int:
        """An open file of a part's chunk; the one opened first makes room when there are many."""
        if part not in self._files:
            if len(self._files) >= MOST_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            commit = self.bank.parts[part].commit
            folder = layout.parts_dir(self.bank.folder) / commit.directory
            self._files[part] = open_chunk(folder, self.name, commit.files[chunk_name(self.name)])
        return self._files[part]

    def _whole(self, part: int) -> NDArray[Any]:
        whole = self.bank.part(self.name, part)
        if part not in self._sums:
            self._sums[part] = [
                crc32c(whole[start : start + self.block].reshape(-1).view(np.uint8))
                for start in range(0, len(whole), self.block)
            ]
        return whole


def _close(files: dict[int, int]) -> None:
    while files:
        os.close(files.popitem()[1])
