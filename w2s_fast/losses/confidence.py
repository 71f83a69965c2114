"""Confidence of the student's own: a price on its entropy, and a window outside which nothing is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.balance import quantile
from w2s_fast.losses.loss import LogProbLoss, Loss, Real, TargetLoss, per_row
from w2s_fast.losses.supervision import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class EntropyReg(LogProbLoss):
    """Cross-entropy to w plus lam times the entropy of p, differentiated truly; a negative lam rewards doubt.

    Differs from EleutherAI's option `entropy`, whose target p is detached: there the gradient is exactly (1 - lam) (p -
    w), and entropy has no effect at all.

    lam: weight of the entropy; negative rewards doubt.
    """

    lam: Real = 0.1

    limits: ClassVar[Limits] = {**Loss.limits, "lam": "(-inf, inf)"}
    source: ClassVar[str] = (
        "Grandvalet and Bengio 2004; what github.com/EleutherAI/w2s, commit not at hand, means by entropy"
    )
    equation: ClassVar[str] = "-sum_c w_c log p_c - lam sum_c p_c log p_c"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        w, p = batch.probs(self.tau_w), logp.exp()
        entropy = -(p * logp).sum(dim=-1)
        value = entropy * per_row(self.lam) - (w * logp).sum(dim=-1)
        return value, -w - p * (logp + 1) * self.lam


@dataclass(frozen=True, kw_only=True, eq=False)
class Window(TargetLoss):
    """Cross-entropy to w on the rows where the student is unsure, max p < c; on the others 0. The mask is detached.

    Two classes: c = .5 + r, as published. More: c is the median of max w over the valid rows of the batch, interpolated
    (this project's rule; r is not read). The mean runs over all rows, as in the published code.

    r: half-width of the window above .5, for two classes.
    """

    r: Real = 0.15

    limits: ClassVar[Limits] = {**Loss.limits, "r": "[0, 0.5]"}
    source: ClassVar[str] = "github.com/EleutherAI/w2s, 2024, commit not at hand (window)"
    equation: ClassVar[str] = "-1[max p < c] sum_c w_c log p_c, c = .5 + r or the median of max w"
    verified: ClassVar[bool] = True

    @property
    def mixes_rows(self) -> bool:
        return True

    def target(self, logp: Tensor, batch: Batch) -> Tensor:
        w = batch.probs(self.tau_w)
        if logp.shape[-1] == 2:
            most: Real = 0.5 + self.r
        else:
            sure = w.amax(dim=-1)
            most = quantile(sure, batch.valid, torch.full_like(sure[..., 0], 0.5))[..., None, None]
        return w * (logp.amax(dim=-1, keepdim=True).exp() < most)
