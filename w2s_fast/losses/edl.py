"""Evidential learning from weak labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.loss import Loss, Real, per_row
from w2s_fast.losses.supervision import Batch, lowest_argmax


@dataclass(frozen=True, kw_only=True, eq=False)
class Edl(Loss):
    """Logits as evidence, e = relu(z / tau_s), of a Dirichlet distribution with parameters e + 1; by autograd.

    (1 - gamma) lam sum_m l(argmax w_m) + gamma l(argmax z), where l(y) is the expected code length of y's share plus t
    times the KL of the evidence for all other classes from none. Teachers are added, not averaged. RAVEN's port also
    multiplies by the teacher's probabilities and sums over classes: a factor of one, left out. Cosines are too small to
    be evidence: give such heads a small tau_s, as theirs is by default.

    gamma: share of the student's own label.
    lam: weight of each teacher.
    """

    gamma: Real = 0.5
    lam: Real = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"teachers"})
    limits: ClassVar[Limits] = {**Loss.limits, "gamma": "[0, 1]", "lam": "[0, inf)"}
    source: ClassVar[str] = (
        "Cui et al. 2025, arXiv 2406.03199, Eq. 4-5, as ported in github.com/mlbio-epfl/raven, commit not at hand"
    )
    equation: ClassVar[str] = (
        "(1 - gamma) lam sum_m l(argmax w_m) + gamma l(argmax z), "
        "l(y) = log S - log alpha_y + t KL(Dir(alpha with alpha_y = 1) || Dir(1)), alpha = relu(z) + 1, S = sum alpha"
    )
    verified: ClassVar[bool] = True

    def value(self, z: Tensor, batch: Batch) -> Tensor:
        z = self.scaled(z)
        weak = batch.label()
        weak = weak if weak.ndim == z.ndim else weak.unsqueeze(-1)
        labels = torch.cat([weak, lowest_argmax(z).unsqueeze(-1)], dim=-1)
        alpha = torch.relu(z) + 1
        cost = code_length(alpha, labels) + batch.t * others(alpha, labels)
        theirs, own = cost[..., :-1].sum(dim=-1), cost[..., -1]
        return theirs * per_row((1 - self.gamma) * self.lam) + own * per_row(self.gamma)


def code_length(alpha: Tensor, labels: Tensor) -> Tensor:
    """log S - log alpha_y f[*r, b, m] of Dirichlet parameters f[*r, b, k] and labels i[*r, b, m]."""
    return alpha.sum(dim=-1, keepdim=True).log() - alpha.gather(-1, labels).log()


def others(alpha: Tensor, labels: Tensor) -> Tensor:
    """KL(Dir(alpha with alpha_y = 1) || Dir(1)) f[*r, b, m]."""
    k = alpha.shape[-1]
    one = (alpha - 1) * torch.digamma(alpha) - torch.lgamma(alpha)
    evidence = (alpha - 1).sum(dim=-1, keepdim=True) - (alpha.gather(-1, labels) - 1)
    total = evidence.clamp_min(0) + k
    # a class of parameter 1 adds nothing, so that the label's own term only has to be taken away again
    terms = one.sum(dim=-1, keepdim=True) - one.gather(-1, labels)
    constant = torch.lgamma(torch.full_like(total, k))
    return torch.lgamma(total) - constant + terms - evidence * torch.digamma(total)
