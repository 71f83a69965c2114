"""Losses against the weak model's hard label; ties go to the lowest class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.loss import LogProbLoss, Loss, Real, TargetLoss, hot, per_row
from w2s_fast.losses.supervision import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Ce(TargetLoss):
    """Cross-entropy to the weak argmax; with smoothing e the target is (1 - e) onehot + e / k.

    label_smoothing: e, the share of the target that goes to all classes alike.
    """

    label_smoothing: Real = 0.0

    limits: ClassVar[Limits] = {**Loss.limits, "label_smoothing": "[0, 1]"}
    source: ClassVar[str] = "the naive baseline of Burns et al. 2023, arXiv 2312.09390, with hard labels"
    equation: ClassVar[str] = "-log p[argmax w]"
    verified: ClassVar[bool] = True

    def target(self, logp: Tensor, batch: Batch) -> Tensor:
        one_hot = hot(logp, batch.label())
        if not isinstance(self.label_smoothing, Tensor) and self.label_smoothing == 0.0:
            return one_hot
        return one_hot * (1 - self.label_smoothing) + self.label_smoothing / logp.shape[-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gce(LogProbLoss):
    """Generalised cross-entropy of the weak label, (1 - p^q) / q; q -> 0 is `ce`.

    q: between `ce` (towards 0) and the mean absolute error (1).
    """

    q: Real = 0.7

    limits: ClassVar[Limits] = {**Loss.limits, "q": "(0, 1]"}
    source: ClassVar[str] = "Zhang and Sabuncu 2018, arXiv 1805.07836"
    equation: ClassVar[str] = "(1 - p[argmax w]^q) / q"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        index = batch.label().unsqueeze(-1)
        scaled = logp.gather(-1, index) * self.q
        # expm1 keeps the value exact as q -> 0, where 1 - p^q cancels
        value = -torch.expm1(scaled).squeeze(-1) / per_row(self.q)
        return value, torch.zeros_like(logp).scatter_(-1, index, -scaled.exp())
