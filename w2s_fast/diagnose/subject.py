"""What diagnostics look at: tensors over the rows of one data set, and what students said on some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from w2s_fast.core.errors import DataError
from w2s_fast.diagnose.indexes import Found, search
from w2s_fast.diagnose.neighbours import neighbours

Rows = NDArray[np.int64]
MOST = 50
"""Neighbours of a row that are searched once and shared by all diagnostics."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What one system says on rows i[m] of the subject: labels i[m], and probabilities f[m, k] where it gives them."""

    rows: Rows
    labels: Tensor
    probs: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Tensors over N rows. `labels` i[N] is None where ground truth may not be read (-1: a row without a label).

    `features` f[N, d]; `weak` name -> logits f[N, k]; `parts` name -> row numbers (`D_train`, `train`, `val`, `test`);
    `folds` i[N], -1 outside the pool; `text` f[k, d]; `heads` name -> class weights f[k, d], and `fitted` name -> their
    probabilities f[N, k]; `students` name -> what it says on the test rows; `spaces` name -> features f[N, e] of other
    encoders; `logit_scale` multiplies cosines with `text`; `index` and `beside` are how neighbours are searched
    (`indexes.search`). Errors: `DataError` where lengths differ.
    """

    features: Tensor
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    weak: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    labels: Tensor | None = None
    parts: Mapping[str, Rows] = field(default_factory=dict[str, Rows])
    folds: Rows | None = None
    text: Tensor | None = None
    logit_scale: float = 100.0
    heads: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    fitted: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    students: Mapping[str, Said] = field(default_factory=dict[str, Said])
    spaces: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    index: str = "exact"
    beside: Path | None = None

    def __post_init__(self) -> None:
        n = len(self.features)
        tables = {"labels": self.labels, "folds": self.folds, "ids": self.ids}
        for name, one in {**tables, **self.weak, **self.spaces, **self.fitted}.items():
            if one is not None and len(one) != n:
                raise DataError(f"{name} has {len(one)} rows, the features {n}; they must match")

    def __len__(self) -> int:
        return len(self.features)

    def without_truth(self) -> Subject:
        """The same without labels: nothing that is asked of it can have read them."""
        return replace(self, labels=None)

    @cached_property
    def pool(self) -> Rows:
        """The rows outside D_train, on which weak labels are out of sample; all rows without parts."""
        outside = np.ones(len(self), bool)
        outside[self.parts.get("D_train", np.zeros(0, np.int64))] = False
        return np.flatnonzero(outside)

    @cached_property
    def searched(self) -> Found:
        """The nearest neighbours of every row, and how they were found."""
        return search(self.features, k=min(MOST, len(self) - 1), index=self.index, beside=self.beside)

    @cached_property
    def searched_pool(self) -> Found:
        """The nearest neighbours of every row of the pool among the pool; numbers are positions in `pool`."""
        if len(self.pool) == len(self):
            return self.searched
        x = self.features[torch.from_numpy(self.pool)]
        return search(x, k=min(MOST, len(x) - 1), index=self.index, beside=self.beside)

    def near(self, k: int, *, pool: bool = False) -> tuple[Tensor, Tensor]:
        """The k nearest by cosine of every row, or of every row of the pool among the pool: (i[n, k], cosines f[n, k]).

        Numbers count within what was searched: the pool's are positions in `pool`. k is cut to the rows there are.
        """
        found = self.searched_pool if pool else self.searched
        ids, near = found.ids, found.near
        if k <= ids.shape[1]:
            return ids[:, :k], near[:, :k]
        x = self.features[torch.from_numpy(self.pool)] if pool else self.features
        return neighbours(x, k=min(k, len(x) - 1))

    def truth(self, rows: Rows) -> Tensor:
        """Labels i[m] of rows; `DataError` where the subject holds none."""
        if self.labels is None:
            raise DataError("ground truth may not be read here; leave out --no-truth")
        return self.labels[torch.from_numpy(rows)]

    def part_of(self) -> list[str]:
        """The part of each row, `fold 3` within the pool where folds are known; the empty string for none."""
        names = [""] * len(self)
        for part, rows in self.parts.items():
            for row in rows.tolist():
                names[row] = part
        if self.folds is not None:
            names = [f"fold {f}" if f >= 0 else p for p, f in zip(names, self.folds.tolist(), strict=True)]
        return names
