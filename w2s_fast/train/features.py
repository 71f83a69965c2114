"""Feature tables that the engine reads: resident, or any object that streams batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from w2s_fast.heads.head import Features, unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Resident:
    """A feature table f[n, d] held whole on one device."""

    table: Tensor

    @property
    def n(self) -> int:
        return self.table.shape[0]

    @property
    def d(self) -> int:
        return self.table.shape[1]

    def batches(self, rows: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Consecutive parts (i[*r, b], f[*r, b, d]) of the row numbers i[*r, n]."""
        for start in range(0, rows.shape[-1], size):
            part = rows[..., start : start + size]
            if part.ndim == 1:
                yield part, self.table.index_select(0, part)
            else:
                yield part, self.table.index_select(0, part.reshape(-1)).view(*part.shape, -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Streamed:
    """Another feature source, cast and normalised batch by batch."""

    source: Features
    dtype: torch.dtype
    device: torch.device
    unit_rows: bool

    @property
    def n(self) -> int:
        return self.source.n

    @property
    def d(self) -> int:
        return self.source.d

    def batches(self, rows: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for part, raw in self.source.batches(rows, size):
            x = raw.to(device=self.device, dtype=self.dtype)
            yield part.to(self.device), unit(x) if self.unit_rows else x


def prepared(x: Tensor | Features, *, unit_rows: bool, dtype: torch.dtype, device: torch.device) -> Features:
    """`x` on a device in one precision, with unit rows if asked; a tensor or `Resident` becomes `Resident`."""
    if isinstance(x, Resident):
        x = x.table
    if isinstance(x, Tensor):
        table = x.to(device=device, dtype=dtype)
        return Resident(table=unit(table) if unit_rows else table.contiguous())
    return Streamed(source=x, dtype=dtype, device=device, unit_rows=unit_rows)
