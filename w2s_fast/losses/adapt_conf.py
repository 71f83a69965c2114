"""Adaptive confidence loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.loss import LogProbLoss, Loss, Real, per_row
from w2s_fast.losses.loss import ramp as ramped
from w2s_fast.losses.supervision import Batch, lowest_argmax


@dataclass(frozen=True, kw_only=True, eq=False)
class AdaptConf(LogProbLoss):
    """Distillation and self-training mixed per sample by b = sigmoid((z_w - z_s) / T), detached.

    z_w, z_s: the student's logits at the weak and at its own label, so b <= .5, and .5 where they agree.

    T: temperature of the sigmoid of the mixing weight.
    kd_t: temperature of the distillation term alone.
    ramp: b grows linearly over that part of training.
    flip: 1 - b where the labels differ (what the paper's prose says; not its Eq. 2).
    beta: a fixed b instead, the control (T is not read).

    Differs from the published code in having no ground-truth term and in the sigmoid form, which cannot overflow.
    """

    T: Real = 0.5
    kd_t: Real = 1.0
    ramp: Real = 0.0
    flip: bool = False
    beta: Real | None = None

    limits: ClassVar[Limits] = {
        **Loss.limits,
        "T": "(0, inf)",
        "kd_t": "(0, inf)",
        "ramp": "[0, 1]",
        "beta": "[0, 1]",
    }
    source: ClassVar[str] = "Guo et al. 2024, arXiv 2402.03749, Eq. 2; github.com/ggjy/vision_weak_to_strong@c020783"
    equation: ClassVar[str] = "(1 - b) kd_t^2 KL(w^kd_t || p^kd_t) - b log p[argmax p], b = sigmoid((z_w - z_s) / T)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        index = lowest_argmax(logp).unsqueeze(-1)
        own = logp.gather(-1, index)
        weak_label = batch.label().unsqueeze(-1)
        if self.beta is None:
            beta = torch.sigmoid((logp.gather(-1, weak_label) - own).detach() / self.T)
        else:
            beta = torch.ones_like(own).detach() * self.beta
        if self.flip:
            beta = torch.where(index == weak_label, beta, 1 - beta)
        beta = beta * ramped(batch.t, self.ramp)

        unit = not isinstance(self.kd_t, Tensor) and self.kd_t == 1.0
        soft = self.tau_w * self.kd_t
        log_p = logp if unit else torch.log_softmax(logp / self.kd_t, dim=-1)
        q = batch.probs(soft)
        kl = batch.neg_entropy(soft) - (q * log_p).sum(dim=-1)
        if not unit:
            kl = kl * per_row(self.kd_t * self.kd_t)
        mix = beta.squeeze(-1)
        value = (1 - mix) * kl - mix * own.squeeze(-1)

        # at kd_t = 1 the term in p has no part in dz: a softmax does not see what all classes share
        h = q * (beta - 1) if unit else (log_p.detach().exp() - q) * ((1 - beta) * self.kd_t)
        return value, h.scatter_add_(-1, index, -beta)
