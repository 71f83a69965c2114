"""Predictions of a stack on val and test rows, and what they score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Features, Head
from w2s_fast.losses.supervision import Supervision, lowest_argmax
from w2s_fast.train.features import Resident
from w2s_fast.train.gemm import logits
from w2s_fast.train.step import is_linear_in_x, logits_of

CURVES = ("agree_val", "acc_val", "agree_test", "acc_test")
MOST_LOGITS = 1 << 25
"""Logits of one evaluation chunk over all runs: 128 MiB in single precision."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows to score for the runs of a stack that share a split: features, truth i[n], weak labels i[n] or i[G, n]."""

    x: Features
    rows: Tensor
    truth: Tensor
    known: int
    weak: Tensor
    size: int

    @cached_property
    def ascending(self) -> tuple[Tensor, Tensor]:
        """The row numbers in ascending order, and the place of each in `rows`."""
        found = self.rows.sort()
        return found.values, found.indices

    def parts(self) -> list[Tensor] | None:
        """The features as chunks, where they are resident."""
        if not isinstance(self.x, Resident):
            return None
        return [part for _, part in self.x.batches(self.rows, self.size)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One split's part of a stack: which runs, and what to score them on."""

    runs: tuple[int, ...]
    val: Rows
    test: Rows
    kept: tuple[list[Tensor] | None, list[Tensor] | None]


def make_rows(
    x: Features,
    rows: Tensor,
    *,
    truth: Tensor,
    supervisions: Sequence[Supervision],
    k: int,
) -> Rows:
    """Rows for the runs of one split, each with its supervision; chunks sized for all of them at once."""
    one = supervisions[0]
    if all(s is one for s in supervisions):
        weak = one.label(rows)
    else:
        labels: dict[int, Tensor] = {}
        for s in supervisions:
            if id(s) not in labels:
                labels[id(s)] = s.label(rows)
        weak = torch.stack([labels[id(s)] for s in supervisions])
    right = truth.index_select(0, rows)
    size = max(256, MOST_LOGITS // (k * len(supervisions)))
    return Rows(x=x, rows=rows, truth=right, known=int((right >= 0).sum()), weak=weak, size=size)


def predict(head: Head, theta: Theta, rows: Rows, kept: list[Tensor] | None, runs: int) -> Tensor:
    """Class numbers i[G, n]."""
    score = scorer(head, theta, runs)
    parts = kept if kept is not None else (part for _, part in rows.x.batches(rows.rows, rows.size))
    found = [lowest_argmax(score(part)) for part in parts]
    if not found:
        return torch.empty(runs, 0, dtype=torch.int64, device=rows.rows.device)
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def scorer(head: Head, theta: Theta, runs: int) -> Callable[[Tensor], Tensor]:
    """Features f[b, d] -> logits f[G, b, k]."""
    if not is_linear_in_x(head):
        return lambda x: logits_of(head, theta, x, runs)
    w, b = head.weights(theta)
    return lambda x: logits(x, w, b, runs)


def score(predicted: Tensor, rows: Rows) -> Tensor:
    """Agreement with the weak label and accuracy f64[G, 2]; NaN where there is nothing to count."""
    n = predicted.shape[1]
    agree = (predicted == rows.weak).sum(dim=1).to(torch.float64) / (n or torch.nan)
    right = (predicted == rows.truth).sum(dim=1).to(torch.float64) / (rows.known or torch.nan)
    return torch.stack([agree, right], dim=1)
