"""Spectra of features: effective rank, intrinsic dimension, and the alignment of encoders (CKA)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.diagnose.diagnosis import Diagnosis, Diagnostic, Value
from w2s_fast.diagnose.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Spectrum(Diagnostic):
    """How many directions do features fill: of the strong encoder, of the weak models' logits, of other encoders?

    tail: the share of the variance that the intrinsic dimension leaves out. `effective rank` is exp of the entropy of
    the covariance's eigenvalues as shares, `first` the share of the first.
    """

    tail: float = 0.01

    limits: ClassVar[Limits] = {"tail": "(0, 1)"}
    source: ClassVar[str] = (
        "effective rank: Roy and Vetterli 2007, of covariances; intrinsic dimension: Dong et al. 2025 (2502.05075)"
    )

    def of(self, subject: Subject) -> Diagnosis:
        pool = torch.from_numpy(subject.pool)
        rows: list[tuple[Value, ...]] = []
        for name, x in views(subject).items():
            values = eigenvalues(x[pool])
            share = values / values.sum() if values.sum() > 0 else values
            rows.append(
                (name, x.shape[1], effective_rank(values), intrinsic_dimension(values, self.tail), float(share[0]))
            )
        return Diagnosis(
            name="spectrum",
            title="Spectra of features (pool, centred)",
            columns=("features", "width", "effective rank", "intrinsic dimension", "first"),
            rows=tuple(rows),
            source=self.source,
        )


@dataclass(frozen=True, kw_only=True)
class Cka(Diagnostic):
    """How alike are the geometries of two banks: linear centred kernel alignment, 0 to 1."""

    source: ClassVar[str] = "Kornblith et al. 2019 (arXiv 1905.00414), linear CKA"

    def of(self, subject: Subject) -> Diagnosis:
        pool = torch.from_numpy(subject.pool)
        of = views(subject)
        rows: list[tuple[Value, ...]] = [(a, b, cka(of[a][pool], of[b][pool])) for a, b in combinations(of, 2)]
        return Diagnosis(
            name="cka",
            title="Linear CKA between banks (pool)",
            columns=("a", "b", "cka"),
            rows=tuple(rows),
            source=self.source,
        )


def views(subject: Subject) -> dict[str, Tensor]:
    """Name -> rows f[N, e]: the strong features, the weak models' logits, and other encoders' features."""
    return {"strong": subject.features, **{f"{n} logits": z for n, z in subject.weak.items()}, **subject.spaces}


def eigenvalues(x: Tensor) -> Tensor:
    """f64[e], falling: eigenvalues of the covariance of rows f[n, e]."""
    centred = x.double() - x.double().mean(0)
    return torch.linalg.eigvalsh(centred.T @ centred / len(x)).clamp_min(0).flip(0)


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of eigenvalues f[e] as shares; 0 where all are 0."""
    if not values.sum() > 0:
        return 0.0
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def intrinsic_dimension(values: Tensor, tail: float) -> int:
    """The least number of falling eigenvalues whose rest is at most `tail` of their sum."""
    total = float(values.sum())
    if not total > 0:
        return 0
    rest = total - values.cumsum(0)
    return int((rest > tail * total).sum()) + 1


def cka(x: Tensor, y: Tensor) -> float | None:
    """||Y'X||^2 / (||X'X|| ||Y'Y||) of centred rows f[n, d] and f[n, e] in Frobenius norms; None for constant rows."""
    a, b = (m.double() - m.double().mean(0) for m in (x, y))
    own = torch.linalg.matrix_norm(a.T @ a) * torch.linalg.matrix_norm(b.T @ b)
    return float(torch.linalg.matrix_norm(b.T @ a) ** 2 / own) if own > 0 else None
