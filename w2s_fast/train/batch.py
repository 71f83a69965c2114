"""What a slice of a stack sees of its supervision in one step, gathered when a loss asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from w2s_fast.losses.supervision import Batch, Supervision

Read = Callable[[Supervision, Tensor], Tensor | None]

MOST_TABLES = 1 << 31
"""Bytes of looked-up tables (probabilities per supervision and temperature) that a call keeps."""


class Tables:
    """Functions of whole weak tables, computed once: each row of a softmax is the same in any batch."""

    def __init__(self) -> None:
        self._known: dict[Any, Tensor | None] = {}
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

    def _table(self, key: Any, s: Supervision, compute: Callable[[Batch], Tensor], size: int) -> Tensor | None:
        if key not in self._known:
            added = size * 4
            fits = s.weak.ndim == 2 and self._bytes + added <= MOST_TABLES
            self._bytes += added if fits else 0
            self._known[key] = _by_chunks(s.weak, compute) if fits else None
        return self._known[key]


def _by_chunks(weak: Tensor, compute: Callable[[Batch], Tensor], rows: int = 8192) -> Tensor:
    t = torch.zeros(1, 1, dtype=weak.dtype, device=weak.device)
    return torch.cat([compute(Batch(weak=part, t=t)) for part in weak.split(rows)])


class Gathered(Batch):
    """The batch of runs `start` to `stop` of a stack, for row numbers i[b] (shared by all runs) or i[r, b]."""

    def __init__(
        self,
        *,
        supervisions: Sequence[Supervision],
        tables: Tables,
        rows: Tensor,
        valid: Tensor | None,
        t: Tensor,
        memory: dict[str, Tensor],
        cache: dict[Any, Tensor],
    ) -> None:
        one = supervisions[0]
        self.__dict__.update(
            _supervisions=supervisions,
            _alike=all(s is one for s in supervisions),
            _tables=tables,
            _rows=rows,
            _cache=cache,
            valid=valid,
            t=t,
            memory=memory,
        )

    @cached_property
    def weak(self) -> Tensor:  # type: ignore[override]
        found = self._of("weak", lambda s, i: s.logits(i))
        assert found is not None
        return found

    @cached_property
    def prior(self) -> Tensor | None:  # type: ignore[override]
        return self._of("prior", lambda s, i: _pick(s.prior, i))

    @cached_property
    def labels(self) -> Tensor | None:  # type: ignore[override]
        return self._of("labels", lambda s, i: _pick(s.labels, i))

    @cached_property
    def weight(self) -> Tensor | None:  # type: ignore[override]
        return self._of("weight", lambda s, i: _pick(s.weight, i))

    def probs(self, tau: float | Tensor) -> Tensor:
        found = None if isinstance(tau, Tensor) else self._looked_up("probs", tau)
        return super().probs(tau) if found is None else found

    def neg_entropy(self, tau: float | Tensor) -> Tensor:
        found = None if isinstance(tau, Tensor) else self._looked_up("neg_entropy", tau)
        return super().neg_entropy(tau) if found is None else found

    def label(self) -> Tensor:
        found = self._looked_up("label")
        return super().label() if found is None else found

    def _looked_up(self, name: str, *arguments: float) -> Tensor | None:
        tables = {id(s): getattr(self._tables, name)(s, *arguments) for s in self._supervisions}
        if any(table is None for table in tables.values()):
            return None
        return self._of((name, *arguments), lambda s, i: tables[id(s)].index_select(0, i))

    def _of(self, key: Any, read: Read) -> Tensor | None:
        rows, supervisions = self._rows, self._supervisions
        one, runs = supervisions[0], len(supervisions)
        if rows.ndim == 1 and self._alike:
            key = (key, id(one))
            if key not in self._cache:
                found = read(one, rows)
                if found is None:
                    return None
                self._cache[key] = found
            return self._cache[key].expand(runs, *self._cache[key].shape)
        part = rows.expand(runs, -1) if rows.ndim == 1 else rows
        if self._alike:
            found = read(one, part.reshape(-1))
            return None if found is None else found.view(*part.shape, *found.shape[1:])
        each = [read(s, part[r]) for r, s in enumerate(supervisions)]
        return None if each[0] is None else torch.stack([e for e in each if e is not None])


def _pick(table: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if table is None else table.index_select(0, rows)
