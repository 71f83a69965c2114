"""Symmetric cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.loss import LogProbLoss, Loss, Real, at_least, per_row
from w2s_fast.losses.supervision import Batch

MANY = 100
"""Classes from which the published weights are those of CIFAR-100."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sce(LogProbLoss):
    """a times cross-entropy plus b times reverse cross-entropy with log 0 read as log eps; fit and robustness.

    a and b None take the published weights: 6 and .1 from 100 classes on, else .1 and 1. Differs from the published
    code in soft weak probabilities for labels, and in leaving p unclipped.

    a: weight of the cross-entropy; None is the published one.
    b: weight of the reverse cross-entropy; None is the published one.
    eps: what log 0 is read as, log eps.
    """

    a: Real | None = None
    b: Real | None = None
    eps: Real = 1e-4

    limits: ClassVar[Limits] = {**Loss.limits, "a": "[0, inf)", "b": "[0, inf)", "eps": "(0, 1)"}
    source: ClassVar[str] = (
        "Wang et al. 2019, arXiv 1908.06112; github.com/YisenWang/symmetric_cross_entropy_for_noisy_labels, "
        "commit not at hand"
    )
    equation: ClassVar[str] = "-a sum_c w_c log p_c - b sum_c p_c log max(w_c, eps)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        a, b = self.weights(logp.shape[-1])
        w = batch.probs(self.tau_w)
        reverse = logp.exp() * -at_least(w, self.eps).log()
        value = reverse.sum(dim=-1) * per_row(b) - (w * logp).sum(dim=-1) * per_row(a)
        return value, reverse * b - w * a

    def weights(self, k: int) -> tuple[Real, Real]:
        """a and b for k classes."""
        usual = (6.0, 0.1) if k >= MANY else (0.1, 1.0)
        return usual[0] if self.a is None else self.a, usual[1] if self.b is None else self.b
