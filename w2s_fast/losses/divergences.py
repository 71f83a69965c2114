"""Divergences other than the forward KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.loss import LogProbLoss, Loss, Real, at_least, per_row
from w2s_fast.losses.supervision import Batch

_F_DIVERGENCES = "Yao et al. 2025, arXiv 2506.03109"


@dataclass(frozen=True, kw_only=True, eq=False)
class ReverseKl(LogProbLoss):
    """KL(p || w'), w' = the weak probabilities floored at `eps` and renormalised; mode seeking, so start from text.

    eps: floor of the weak probabilities.
    """

    eps: Real = 1e-6

    limits: ClassVar[Limits] = {**Loss.limits, "eps": "(0, 1)"}
    source: ClassVar[str] = "Yao et al. 2025, arXiv 2502.11107"
    equation: ClassVar[str] = "sum_c p_c (log p_c - log w'_c)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        w = at_least(batch.probs(self.tau_w), self.eps)
        log_w = (w / w.sum(dim=-1, keepdim=True)).log()
        p = logp.exp()
        ratio = logp - log_w
        return (p * ratio).sum(dim=-1), p * (ratio + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReverseCe(LogProbLoss):
    """Cross-entropy with the roles exchanged, -sum p log max(w, eps): the floored w is not renormalised.

    Lies between 0 and -log eps. Differs from `reverse_kl` in the entropy of p, which that one rewards.

    eps: floor of the weak probabilities.
    """

    eps: Real = 1e-4

    limits: ClassVar[Limits] = {**Loss.limits, "eps": "(0, 1)"}
    source: ClassVar[str] = "Yao et al. 2025, arXiv 2502.11107; Xu et al. 2025, arXiv 2505.24313"
    equation: ClassVar[str] = "-sum_c p_c log max(w_c, eps)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        terms = logp.exp() * -at_least(batch.probs(self.tau_w), self.eps).log()
        return terms.sum(dim=-1), terms


@dataclass(frozen=True, kw_only=True, eq=False)
class Js(LogProbLoss):
    """Jensen-Shannon divergence pi KL(w || m) + (1 - pi) KL(p || m), m = pi w + (1 - pi) p; symmetric at pi = .5 only.

    Between 0 and the entropy of (pi, 1 - pi), which is log 2 at .5. Differs from Yao et al. in the free pi, as in the
    generalised form of Englesson and Azizpour 2021, arXiv 2105.04522.

    pi: weight of w in the mixture m.
    """

    pi: Real = 0.5

    limits: ClassVar[Limits] = {**Loss.limits, "pi": "(0, 1)"}
    source: ClassVar[str] = f"{_F_DIVERGENCES} (pi = .5)"
    equation: ClassVar[str] = "pi KL(w || m) + (1 - pi) KL(p || m), m = pi w + (1 - pi) p"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        w, p = batch.probs(self.tau_w), logp.exp()
        tiny = torch.finfo(logp.dtype).tiny
        log_m = (w * self.pi + p * (1 - self.pi)).clamp_min(tiny).log()
        of_w = (w * (w.clamp_min(tiny).log() - log_m)).sum(dim=-1)
        of_p = p * (logp - log_m)
        value = of_w * per_row(self.pi) + of_p.sum(dim=-1) * per_row(1 - self.pi)
        return value, of_p * (1 - self.pi)


@dataclass(frozen=True, kw_only=True, eq=False)
class Jeffreys(LogProbLoss):
    """KL(w || p) + KL(p || w), without a half and without a floor: unbounded where w is sure and p is not."""

    source: ClassVar[str] = _F_DIVERGENCES
    equation: ClassVar[str] = "sum_c (p_c - w_c) (log p_c - log w_c)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        # a probability that underflows still has a logarithm
        log_w = torch.log_softmax(self.weak_scaled(batch), dim=-1)
        p = logp.exp()
        ratio, gap = logp - log_w, p - log_w.exp()
        return (gap * ratio).sum(dim=-1), p * ratio + gap


@dataclass(frozen=True, kw_only=True, eq=False)
class Hellinger(LogProbLoss):
    """Squared Hellinger distance, between 0 and 1."""

    source: ClassVar[str] = _F_DIVERGENCES
    equation: ClassVar[str] = "1 - sum_c sqrt(p_c w_c)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        root = (logp / 2).exp() * batch.probs(self.tau_w).sqrt()
        return 1 - root.sum(dim=-1), root / -2


@dataclass(frozen=True, kw_only=True, eq=False)
class Tv(LogProbLoss):
    """Total variation distance, between 0 and 1; where p = w its gradient is taken as 0."""

    source: ClassVar[str] = _F_DIVERGENCES
    equation: ClassVar[str] = "1/2 sum_c |p_c - w_c|"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        p = logp.exp()
        gap = p - batch.probs(self.tau_w)
        return gap.abs().sum(dim=-1) / 2, p * gap.sign() / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Chi2(LogProbLoss):
    """Pearson's chi-squared divergence of p from w, whose denominator is floored at `eps`; at most about 1 / eps.

    eps: floor of the denominator.
    """

    eps: Real = 1e-4

    limits: ClassVar[Limits] = {**Loss.limits, "eps": "(0, 1)"}
    source: ClassVar[str] = f"{_F_DIVERGENCES}; the floor is this project's"
    equation: ClassVar[str] = "sum_c (p_c - w_c)^2 / max(w_c, eps)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        w, p = batch.probs(self.tau_w), logp.exp()
        gap = p - w
        share = gap / at_least(w, self.eps)
        return (gap * share).sum(dim=-1), 2 * p * share
