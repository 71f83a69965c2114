"""Weighted moments of features and targets, in float64 and by chunks, and their spectrum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from w2s_fast.heads.head import Features

ROWS = 8192
"""Rows that are held in float64 at a time."""

Target = Callable[[Tensor], Tensor]
"""Row numbers i[b] -> targets f64[b, k]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """Covariance of n weighted rows of features as V diag(values) V^T, f64; `mean` is the weighted mean f64[d].

    Sums are divided by n, the number of rows, whatever their weights s add up to: covariance =
    1/n sum_i s_i (x_i - mean)(x_i - mean)^T. `share` = 1/n sum_i s_i.
    """

    n: int
    mean: Tensor
    share: float
    values: Tensor
    vectors: Tensor

    def inverse(self, decay: float) -> Tensor:
        """1 / (values + decay) f64[d]; 0 where that is no more than rounding: the solution of least norm."""
        shifted = self.values + decay
        rounding = self.values.max() * len(self.values) * torch.finfo(torch.float64).eps
        return torch.where(shifted > rounding, 1 / shifted, torch.zeros_like(shifted))


@dataclass(frozen=True, kw_only=True, eq=False)
class Cross:
    """Targets against features: covariance with them in their eigenbasis f64[k, d], mean f64[k], spread about it."""

    rotated: Tensor
    mean: Tensor
    spread: float


def spectrum(x: Features, rows: Tensor, weight: Tensor | None) -> Spectrum:
    """One pass over the rows i[n] with weights f64[n] (None: ones), and one eigendecomposition.

    Features that are not finite, or too large for float64, give values that are not finite.
    """
    total, mean, scatter = 0.0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    done = 0
    for part, found in x.batches(rows, ROWS):
        own = found.double()
        s = own.new_ones(len(part)) if weight is None else weight[done : done + len(part)]
        done += len(part)
        added = float(s.sum())
        if added == 0:
            continue
        centre = (s @ own) / added
        shifted = (own - centre) * s.sqrt().unsqueeze(1)
        if total == 0:
            total, mean, scatter = added, centre, shifted.T @ shifted
            continue
        # two groups' scatter about their common mean, without the cancellation of sum x x^T - n mean mean^T
        gap, both = centre - mean, total + added
        scatter += shifted.T @ shifted + torch.outer(gap, gap) * (total * added / both)
        mean = mean + gap * (added / both)
        total = both
    n, d = len(rows), x.d
    if total == 0:
        mean, scatter = (torch.zeros(shape, dtype=torch.float64, device=rows.device) for shape in ((d,), (d, d)))
    covariance = scatter / n
    if not bool(covariance.isfinite().all()):
        values, vectors = covariance.new_full((d,), torch.nan), covariance
    else:
        values, vectors = torch.linalg.eigh(covariance)
    return Spectrum(n=n, mean=mean, share=total / n, values=values.clamp_min(0), vectors=vectors)


def cross(
    x: Features, rows: Tensor, weight: Tensor | None, of: Spectrum, targets: Sequence[Target], *, k: int
) -> list[Cross]:
    """One more pass, for all targets at once."""
    made = dict[str, list[Tensor]]()
    for name, shape in (("with_x", (k, x.d)), ("sums", (k,)), ("squares", ())):
        made[name] = [torch.zeros(shape, dtype=torch.float64, device=rows.device) for _ in targets]
    done = 0
    for part, found in x.batches(rows, ROWS):
        s = None if weight is None else weight[done : done + len(part)].unsqueeze(1)
        done += len(part)
        centred = found.double() - of.mean
        for i, target in enumerate(targets):
            q = target(part)
            weighted = q if s is None else q * s
            made["with_x"][i] += weighted.T @ centred
            made["sums"][i] += weighted.sum(dim=0)
            made["squares"][i] += (weighted * q).sum()
    out: list[Cross] = []
    for with_x, sums, squares in zip(made["with_x"], made["sums"], made["squares"], strict=True):
        mean = sums / (of.n * of.share) if of.share > 0 else sums
        spread = float(squares) / of.n - of.share * float(mean.square().sum())
        out.append(Cross(rotated=(with_x / of.n) @ of.vectors, mean=mean, spread=spread))
    return out
