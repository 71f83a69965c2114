"""Products of distributions as targets, and the anchor to a prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError
from w2s_fast.core.fields import Limits
from w2s_fast.losses.loss import LogProbLoss, Loss, Real, TargetLoss, per_row, ramp
from w2s_fast.losses.supervision import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Product(TargetLoss):
    """Cross-entropy to the product of weak and own probabilities, detached: agreement sharpens, doubt stays.

    a: exponent of the weak probabilities.
    b: exponent of the own probabilities.
    warmup: b grows linearly over that part of training; OpenAI's code takes such an argument and never reads it.

    Differs from it only in that, and in products of logarithms, which cannot underflow.
    """

    a: Real = 1.0
    b: Real = 1.0
    warmup: Real = 0.0

    limits: ClassVar[Limits] = {**Loss.limits, "a": "[0, inf)", "b": "[0, inf)", "warmup": "[0, 1]"}
    source: ClassVar[str] = "Burns et al. 2023, arXiv 2312.09390; github.com/openai/weak-to-strong@6b450f2 (product)"
    equation: ClassVar[str] = "-sum_c q_c log p_c, q ~ w^a p^(b min(1, t / warmup))"
    verified: ClassVar[bool] = True

    def target(self, logp: Tensor, batch: Batch) -> Tensor:
        own = logp * (ramp(batch.t, self.warmup) * self.b)
        return torch.softmax(self.weak_scaled(batch) * self.a + own, dim=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorProduct(TargetLoss):
    """Cross-entropy to the product of weak and zero-shot probabilities: distillation of their training-free fusion.

    p_0 = the prior, softmax(exp(logit_scale) cos) of image and text. No published code; the product of experts that
    `fusion` takes the argmax of at a = b = 1.

    a: exponent of the weak probabilities.
    b: exponent of the zero-shot probabilities.
    """

    a: Real = 1.0
    b: Real = 0.5

    needs: ClassVar[frozenset[str]] = frozenset({"prior"})
    limits: ClassVar[Limits] = {**Loss.limits, "a": "[0, inf)", "b": "[0, inf)"}
    source: ClassVar[str] = "this project, from Hinton 2002's product of experts"
    equation: ClassVar[str] = "-sum_c q_c log p_c, q ~ w^a p_0^b"
    verified: ClassVar[bool] = True

    def target(self, logp: Tensor, batch: Batch) -> Tensor:
        return torch.softmax(self.weak_scaled(batch) * self.a + _log_prior(batch, "prior_product") * self.b, dim=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorAnchor(LogProbLoss):
    """Distillation with a pull of strength `lam` towards the zero-shot probabilities p_0.

    EVE anchors to the student's reference model in a like way; its code was not read, so the equation here is the
    definition.

    lam: strength of the pull.
    """

    lam: Real = 0.1

    needs: ClassVar[frozenset[str]] = frozenset({"prior"})
    limits: ClassVar[Limits] = {**Loss.limits, "lam": "[0, inf)"}
    source: ClassVar[str] = "this project, after EVE 2025 (OpenReview hUFHbpfrQN)"
    equation: ClassVar[str] = "KL(w || p) + lam KL(p_0 || p)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        w, prior = batch.probs(self.tau_w), _log_prior(batch, "prior_anchor")
        p_0 = prior.exp()
        kl = batch.neg_entropy(self.tau_w) - (w * logp).sum(dim=-1)
        anchor = (p_0 * (prior - logp)).sum(dim=-1)
        return kl + anchor * per_row(self.lam), -(w + p_0 * self.lam)


def _log_prior(batch: Batch, name: str) -> Tensor:
    if batch.prior is None:
        raise TrainError(f"{name} needs a prior, and the batch has none; give Supervision(prior=log-probabilities)")
    return batch.prior
