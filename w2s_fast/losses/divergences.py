"""Divergences other than the forward KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.loss import LogProbLoss, Loss, Real
from w2s_fast.losses.supervision import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class ReverseKl(LogProbLoss):
    """KL(p || w'), w' = the weak probabilities floored at `eps` and renormalised; mode seeking, so start from text."""

    eps: Real = 1e-6

    limits: ClassVar[Limits] = {**Loss.limits, "eps": "(0, 1)"}
    source: ClassVar[str] = "Yao et al. 2025, arXiv 2502.11107"
    equation: ClassVar[str] = "sum_c p_c (log p_c - log w'_c)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        w = batch.probs(self.tau_w)
        w = torch.maximum(w, self.eps) if isinstance(self.eps, Tensor) else w.clamp_min(self.eps)
        log_w = (w / w.sum(dim=-1, keepdim=True)).log()
        p = logp.exp()
        ratio = logp - log_w
        return (p * ratio).sum(dim=-1), p * (ratio + 1)
