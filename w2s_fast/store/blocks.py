"""One array of a bank in blocks of rows that are read on their own, each of them verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from w2s_fast.store import layout
from w2s_fast.store.part import BadFile, chunk_name, crc32c, read_rows
from w2s_fast.store.reader import Bank


@dataclass(kw_only=True, eq=False)
class BankBlocks:
    """Blocks of `block` rows of one array, numbered in storage order; a block never crosses a part.

    The first read of a part takes all of it, as a resident read does: its crc32c must be the committed one. From then
    on the crc32c of each of its blocks is known, and a block is read alone. `Damaged` names file and rows either way.
    At most one part is held. Not for several threads at a time.
    """

    bank: Bank
    name: str = "features"
    block: int = 256
    _sums: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    _part: int = -1
    _held: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.block < 1 or layout.PART_ROWS % self.block:
            self.block = layout.PART_ROWS

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
        if part != self._part:
            # what is held serves one pass in storage order, in which a part is verified and its blocks follow
            self._part, self._held = -1, None
        if part not in self._sums:
            whole = self.bank.part(self.name, part)
            self._sums[part] = [
                crc32c(whole[start : start + self.block].reshape(-1).view(np.uint8))
                for start in range(0, len(whole), self.block)
            ]
            self._part, self._held = part, whole
        if self._held is not None:
            return self._held[place * self.block : (place + 1) * self.block]
        found = self.bank.parts[part]
        meta = found.arrays[self.name]
        start = place * self.block
        out = np.empty((min(self.block, meta.shape[0] - start), *meta.shape[1:]), meta.dtype)
        folder = layout.parts_dir(self.bank.folder) / found.commit.directory
        try:
            read_rows(folder, meta, found.commit.files[chunk_name(self.name)], start, out, self._sums[part][place])
        except BadFile as bad:
            raise self.bank.damaged(found.commit, bad.name, str(bad)) from None
        return out
