"""Feature tables that the engine reads: resident, or any object that streams batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from w2s_fast.heads.head import Features, unit
from w2s_fast.train.order import Order, shuffled
from w2s_fast.train.stream import Stream


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

    @property
    def order(self) -> Order:
        """Train rows i[n] in the order of an epoch of a run seed."""
        return shuffled

    def as_stored(self, rows: Tensor) -> Tensor:
        """Row numbers i[n] in an order that one pass can serve: any."""
        return rows

    @property
    def window(self) -> None:
        """Rows that are shuffled together: all of them."""

    @property
    def declared(self) -> str:
        """What rows of results say of the order of training."""
        return "resident"


@dataclass(frozen=True, kw_only=True, eq=False)
class Streamed:
    """Another feature source, cast, normalised and scaled batch by batch."""

    source: Features
    master: torch.dtype
    operand: torch.dtype
    device: torch.device
    unit_rows: bool
    scale: float

    @property
    def n(self) -> int:
        return self.source.n

    @property
    def d(self) -> int:
        return self.source.d

    def batches(self, rows: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for part, raw in self.source.batches(rows, size):
            x = _shaped(raw.to(device=self.device, dtype=self.master), self.unit_rows, self.scale)
            yield part.to(self.device), x.to(self.operand)

    @property
    def order(self) -> Order:
        """Train rows i[n] in the order of an epoch of a run seed; that of a resident table but for a `Stream`."""
        return self.source.order if isinstance(self.source, Stream) else shuffled

    def as_stored(self, rows: Tensor) -> Tensor:
        """Row numbers i[n] in an order that one pass can serve."""
        return self.source.as_stored(rows) if isinstance(self.source, Stream) else rows

    @property
    def window(self) -> int | None:
        """Rows that are shuffled together; None where it is all of them."""
        source = self.source
        return source.window if isinstance(source, Stream) and source.count > source.most else None

    @property
    def declared(self) -> str:
        """What rows of results say of the order of training."""
        return self.source.declared if isinstance(self.source, Stream) else "resident"


def prepared(
    x: Tensor | Features,
    *,
    unit_rows: bool,
    scale: float,
    master: torch.dtype,
    operand: torch.dtype,
    device: torch.device,
) -> Resident | Streamed:
    """`x` on a device, with unit rows if asked, times `scale`; a tensor or `Resident` becomes `Resident`.

    Computed in `master`, kept in `operand`.
    """
    if isinstance(x, Resident):
        x = x.table
    if isinstance(x, Tensor):
        table = _shaped(x.to(device=device, dtype=master), unit_rows, scale)
        return Resident(table=table.to(operand).contiguous())
    if isinstance(x, Stream):
        x = replace(x, device=device)
    return Streamed(source=x, master=master, operand=operand, device=device, unit_rows=unit_rows, scale=scale)


def _shaped(x: Tensor, unit_rows: bool, scale: float) -> Tensor:
    x = unit(x) if unit_rows else x
    return x if scale == 1.0 else x * scale
