"""What a slice of a stack sees of its supervision in one step, gathered when a loss asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from w2s_fast.losses.supervision import Batch, Supervision

Whole = Callable[[Supervision], Tensor | None]


class Tables:
    """Functions of whole weak tables, computed once: each row of a softmax is the same in any batch.

    most: bytes of them that a call keeps; what goes beyond is computed batch by batch.
    """

    def __init__(self, *, most: int) -> None:
        self.most = most
        self._known: dict[Any, Tensor | None] = {}
        self._joined: dict[Any, Tensor] = {}
        self._bytes = 0

    def probs(self, s: Supervision, tau: float) -> Tensor | None:
        """softmax(weak / tau) f[N, k]; None where it would not fit."""
        return self._table(("probs", id(s), tau), s, lambda b: b.probs(tau), s.weak.numel())

    def neg_entropy(self, s: Supervision, tau: float) -> Tensor | None:
        """sum_c w_c log w_c f[N]."""
        return self._table(("neg_entropy", id(s), tau), s, lambda b: b.neg_entropy(tau), s.n)

    def label(self, s: Supervision) -> Tensor | None:
        """The weak label i[N]."""
        return self._table(("label", id(s)), s, lambda b: b.label(), 2 * s.n)

    def joined(self, name: Any, supervisions: Sequence[Supervision], whole: Whole) -> tuple[Tensor, Tensor] | None:
        """The tables of unlike supervisions in one, and where each run's begins i[R, 1]; None if too large."""
        distinct = {id(s): s for s in sorted(supervisions, key=id)}
        key = (name, *distinct)
        if key not in self._joined:
            tables = [whole(s) for s in distinct.values()]
            there = [t for t in tables if t is not None]
            size = sum(t.nbytes for t in there)
            if len(there) < len(tables) or self._bytes + size > self.most:
                return None
            if self._bytes + size + sum(t.nbytes for t in self._joined.values()) > self.most:
                # those of other stacks; a slice that still needs one holds it
                self._joined.clear()
            self._joined[key] = torch.cat(there)
        table = self._joined[key]
        n = table.shape[0] // len(distinct)
        place = {number: at * n for at, number in enumerate(distinct)}
        return table, torch.tensor([[place[id(s)]] for s in supervisions], device=table.device)

    def _table(self, key: Any, s: Supervision, compute: Callable[[Batch], Tensor], size: int) -> Tensor | None:
        if key not in self._known:
            fits = s.weak.ndim == 2 and self._take(size * s.weak.itemsize)
            self._known[key] = _by_chunks(s.weak, compute) if fits else None
        return self._known[key]

    def _take(self, size: int) -> bool:
        fits = self._bytes + size <= self.most
        self._bytes += size if fits else 0
        return fits


def _by_chunks(weak: Tensor, compute: Callable[[Batch], Tensor], rows: int = 8192) -> Tensor:
    t = torch.zeros(1, 1, dtype=weak.dtype, device=weak.device)
    return torch.cat([compute(Batch(weak=part, t=t)) for part in weak.split(rows)])


class Gathered(Batch):
    """The batch of a slice's runs, for row numbers i[b] (shared by all runs) or i[r, b].

    columns is kept from step to step, cache lasts one step and is shared by all slices of a stack. labelled: whether
    ground truth may be read.
    """

    _supervisions: tuple[Supervision, ...]
    _alike: bool
    _tables: Tables
    _rows: Tensor
    _columns: dict[Any, Any]
    _cache: dict[Any, Tensor]
    _labelled: bool

    def __init__(
        self,
        *,
        supervisions: tuple[Supervision, ...],
        tables: Tables,
        columns: dict[Any, Any],
        rows: Tensor,
        valid: Tensor | None,
        t: Tensor,
        memory: dict[str, Tensor],
        cache: dict[Any, Tensor],
        labelled: bool,
    ) -> None:
        one = supervisions[0]
        self.__dict__.update(
            _supervisions=supervisions,
            _alike=all(s is one for s in supervisions),
            _tables=tables,
            _rows=rows,
            _columns=columns,
            _cache=cache,
            _labelled=labelled,
            valid=valid,
            t=t,
            memory=memory,
        )

    @cached_property
    def weak(self) -> Tensor:  # type: ignore[override]
        picked = any(s.pick is not None for s in self._supervisions)
        found = self._column("weak", _weak) if not picked else self._each(lambda s, i: s.logits(i))
        assert found is not None
        return found

    @cached_property
    def prior(self) -> Tensor | None:  # type: ignore[override]
        return self._column("prior", lambda s: s.prior)

    @cached_property
    def labels(self) -> Tensor | None:  # type: ignore[override]
        return self._column("labels", _labels) if self._labelled else None

    @cached_property
    def weight(self) -> Tensor | None:  # type: ignore[override]
        return self._column("weight", lambda s: s.weight)

    def probs(self, tau: float | Tensor) -> Tensor:
        found = None if isinstance(tau, Tensor) else self._column(("probs", tau), lambda s: self._tables.probs(s, tau))
        return super().probs(tau) if found is None else found

    def neg_entropy(self, tau: float | Tensor) -> Tensor:
        if isinstance(tau, Tensor):
            return super().neg_entropy(tau)
        found = self._column(("neg_entropy", tau), lambda s: self._tables.neg_entropy(s, tau))
        return super().neg_entropy(tau) if found is None else found

    def label(self) -> Tensor:
        found = self._column("label", self._tables.label)
        return super().label() if found is None else found

    def table(self, name: str) -> tuple[Tensor, Tensor]:
        """The whole `weak` or `labels` table, and the row numbers i[b] or i[r, b] in it of this batch."""
        whole: Whole = _weak if name == "weak" else _labels
        if self._alike:
            table = whole(self._supervisions[0])
            assert table is not None
            return table, self._rows
        joined = self._joined(name, whole)
        assert joined is not None
        return joined[0], self._rows + joined[1]

    def _joined(self, name: Any, whole: Whole) -> tuple[Tensor, Tensor] | None:
        if name not in self._columns:
            self._columns[name] = self._tables.joined(name, self._supervisions, whole)
        return self._columns[name]

    def _column(self, name: Any, whole: Whole) -> Tensor | None:
        """This batch's part of a table over all rows, which each supervision has or has not."""
        rows, supervisions = self._rows, self._supervisions
        one = supervisions[0]
        if self._alike:
            key = (name, id(one))
            if rows.ndim == 1 and key in self._cache:
                found = self._cache[key]
            else:
                table = whole(one)
                if table is None:
                    return None
                found = table.index_select(0, rows.reshape(-1)).view(*rows.shape, *table.shape[1:])
            if rows.ndim == 1:
                self._cache[key] = found
                found = found.expand(len(supervisions), *found.shape)
            return found
        joined = self._joined(name, whole)
        if joined is None:
            tables = {id(s): whole(s) for s in supervisions}
            if any(table is None for table in tables.values()):
                return None
            return self._each(lambda s, i: _rows(tables[id(s)], i))
        table, first = joined
        return table.index_select(0, (rows + first).reshape(-1)).view(len(first), -1, *table.shape[1:])

    def _each(self, read: Callable[[Supervision, Tensor], Tensor]) -> Tensor:
        """Run by run."""
        rows = self._rows.expand(len(self._supervisions), -1)
        return torch.stack([read(s, rows[r]) for r, s in enumerate(self._supervisions)])


def _weak(s: Supervision) -> Tensor:
    return s.weak


def _labels(s: Supervision) -> Tensor | None:
    return s.labels


def _rows(table: Tensor | None, rows: Tensor) -> Tensor:
    assert table is not None
    return table.index_select(0, rows)
