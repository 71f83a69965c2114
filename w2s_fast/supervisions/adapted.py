"""Features adapted to unlabelled images: means removed, whitened, smoothed over neighbours; any head and loss then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from w2s_fast.core.errors import DataError, SpecError
from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.neighbours import neighbours
from w2s_fast.supervisions.context import Context
from w2s_fast.supervisions.fit_request import FitRequest, FitRequests, Rows, Student
from w2s_fast.supervisions.salience import CHUNK, moved
from w2s_fast.supervisions.strategy import Strategy

SMALLEST = 1e-6
"""Eigenvalues below this share of the largest are taken as noise of arithmetic, and raised to it."""


@dataclass(frozen=True, kw_only=True)
class Adapted(Strategy):
    """Weak labels on features that were adapted to the images of hold-train without any labels.

    Rows are of unit length, centred, whitened, of unit length again, and smoothed.

    center: `all`, the mean of all rows is taken away; `domain`, of each row's domain (a domain without rows in
    hold-train: of all); `none`.
    whiten: exponent e of the whitening C^(-e/2) by the covariance C of centred rows, 0 = none, 1 = full.
    shrink: how far eigenvalues are first drawn to their mean.
    smooth: share of the mean of the k nearest hold-train rows (itself not among them) that takes the row's place.
    k: how many rows that mean is of.
    transductive: statistics are of D'_test images too.

    Text features: their own mean is taken away where a mean is, then the same whitening. Statistics are those of
    hold-train and serve every row, so the head can be taken out (but for `domain` means of several domains).
    `zero_shot` and priors stay those of the raw features.
    """

    center: str = "all"
    whiten: float = 1.0
    shrink: float = 0.01
    smooth: float = 0.0
    k: int = 10
    transductive: bool = False

    limits: ClassVar[Limits] = {
        "center": ("all", "domain", "none"),
        "whiten": "[0, 1]",
        "shrink": "[0, 1]",
        "smooth": "[0, 1]",
        "k": "[1, inf)",
    }
    source: ClassVar[str] = (
        "after Burns et al. 2023 (arXiv 2312.09390), generative supervision, as unsupervised adaptation of features"
    )
    equation: ClassVar[str] = "x' = unit(C^(-e/2) (x_hat - m)); x'' = unit((1-s) x' + s mean of k nearest x')"
    verified: ClassVar[bool] = False

    def check(self) -> None:
        if self.center == "none" and not self.whiten and not self.smooth:
            raise SpecError("supervision 'adapted': nothing is adapted; set center, whiten or smooth, or take weak")

    def requests(self, context: Context) -> FitRequests:
        key = (self, context.split.digest)
        features, text, move = context.shared.once(key, lambda: self.adapted(context))
        request = FitRequest(supervision=context.weak, features=features, text=text, move=move)
        (fit,) = yield [request]
        return Student(fit=fit, request=request)

    def adapted(self, context: Context) -> tuple[Tensor, Tensor | None, nn.Module | None]:
        """Features f[N, d], text f[k, d] or None, and the module that adapts other images, where there can be one."""
        rows = context.seen(transductive=self.transductive)
        groups = np.asarray(context.task.manifest.groups)
        several = self.center == "domain" and len(set(groups)) > 1
        x = context.shared.unit_features()
        if several:
            x = without_domain_means(x, groups, rows)
        mean, matrix = self.statistics(x[torch.from_numpy(rows)])
        move = Adapting(mean, matrix)
        adapted = moved(move, x)
        text = context.task.text
        if text is not None:
            unit = normalize(text, dim=-1)
            text = normalize((unit - (0 if self.center == "none" else unit.mean(0))) @ matrix, dim=-1)
        if self.smooth:
            bank = adapted[torch.from_numpy(rows)]
            move = Adapting(mean, matrix, bank=bank, smooth=self.smooth, k=min(self.k, len(rows) - 1))
            adapted = self.smoothed(adapted, rows, move)
        return adapted, text, None if several else move

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(mean f[d], whitening f[d, d]) of unit rows f[n, d]; zeros and the identity for what is not asked for."""
        wide = x.double()
        mean = wide.mean(0) if self.center != "none" else torch.zeros(x.shape[1], dtype=torch.float64)
        matrix = torch.eye(x.shape[1], dtype=torch.float64)
        if self.whiten:
            centred = wide - wide.mean(0)
            values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
            if not values.max() > 0:
                raise DataError("the features of all rows are equal, so they cannot be whitened: adapted(whiten=0.0)")
            values = (1 - self.shrink) * values + self.shrink * values.mean()
            values = values.clamp_min(SMALLEST * float(values.max()))
            matrix = (vectors * values ** (-self.whiten / 2)) @ vectors.T
        return mean.to(x.dtype), matrix.to(x.dtype)

    def smoothed(self, x: Tensor, rows: Rows, move: Adapting) -> Tensor:
        """Rows mixed with their neighbours among `rows`, which are not their own."""
        at = torch.from_numpy(rows)
        found = torch.cat([move.mixed(part) for part in x.split(CHUNK)])
        near, _ = neighbours(x[at], k=move.k)
        found[at] = move.mixed(x[at], near)
        return found


class Adapting(nn.Module):
    """Raw features f[b, d] -> adapted ones f[b, d]."""

    def __init__(
        self, mean: Tensor, matrix: Tensor, *, bank: Tensor | None = None, smooth: float = 0.0, k: int = 1
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)
        self.register_buffer("bank", bank)
        self.smooth, self.k = smooth, k

    def forward(self, x: Tensor) -> Tensor:
        x = normalize((normalize(x, dim=-1) - self.get_buffer("mean")) @ self.get_buffer("matrix"), dim=-1)
        return self.mixed(x) if self.smooth else x

    def mixed(self, x: Tensor, near: Tensor | None = None) -> Tensor:
        """Unit rows with a share of the mean of their nearest in the bank, or of the rows `near` i[b, k]."""
        bank = self.get_buffer("bank")
        near = (x @ bank.T).topk(self.k, dim=-1).indices if near is None else near
        total = torch.zeros_like(x)
        for place in range(self.k):
            total += bank[near[:, place]]
        return normalize((1 - self.smooth) * x + self.smooth * total / self.k, dim=-1)


def without_domain_means(x: Tensor, groups: np.ndarray, rows: Rows) -> Tensor:
    """Rows f[N, d] minus the mean of those of `rows` that are of the same domain."""
    found, seen = x.clone(), np.zeros(len(x), np.bool_)
    seen[rows] = True
    overall = x[torch.from_numpy(rows)].mean(0)
    for domain in sorted(set(groups)):
        mine = torch.from_numpy(groups == domain)
        counted = torch.from_numpy((groups == domain) & seen)
        found[mine] -= x[counted].mean(0) if bool(counted.any()) else overall
    return found
