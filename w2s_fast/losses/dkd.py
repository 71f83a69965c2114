"""Decoupled knowledge distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError
from w2s_fast.core.fields import Limits
from w2s_fast.losses.loss import LogProbLoss, Loss, Real, per_row
from w2s_fast.losses.supervision import Batch

ABSENT = -1e30
"""The log-probability of the target among the others: a finite number, since differences of infinities are not."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dkd(LogProbLoss):
    """KL of target versus rest, and KL among the rest, with weights of their own, times T^2; at temperature T.

    alpha: weight of target versus rest.
    beta: weight of the KL among the rest.
    T: temperature of both sides.
    target: `labels`, the ground truth, as published (rows of unknown label cost nothing); or `weak`, the weak argmax,
    which has to be asked for.

    Differs from the published code in logarithms of sums, finite where it gives infinity, and in having no warm-up and
    no cross-entropy (w_gt = 1 adds it). kd = the first KL + (1 - w_y) times the second.
    """

    alpha: Real = 1.0
    beta: Real = 2.0
    T: Real = 1.0
    target: str = "labels"

    limits: ClassVar[Limits] = {
        **Loss.limits,
        "alpha": "[0, inf)",
        "beta": "[0, inf)",
        "T": "(0, inf)",
        "target": ("labels", "weak"),
    }
    source: ClassVar[str] = (
        "Zhao et al. 2022, arXiv 2203.08679; github.com/megvii-research/mdistiller@a08d46f; "
        "defaults of github.com/ggjy/vision_weak_to_strong@c020783"
    )
    equation: ClassVar[str] = (
        "T^2 (alpha KL((w_y, 1 - w_y) || (p_y, 1 - p_y)) + beta KL(w without y || p without y)), "
        "w and p at temperature T"
    )
    verified: ClassVar[bool] = True

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"labels"} if self.target == "labels" else ())

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        known, index = self._targets(batch)
        u = torch.log_softmax(logp / self.T, dim=-1)
        v = torch.log_softmax(batch.softened(self.tau_w * self.T), dim=-1)
        u_y, u_rest, u_among = _decoupled(u, index)
        v_y, v_rest, v_among = _decoupled(v, index)
        binary = (v_y.exp() * (v_y - u_y) + v_rest.exp() * (v_rest - u_rest)).squeeze(-1)
        q, q_y = v_among.exp(), v_y.exp()
        among = (q * (v_among - u_among)).sum(dim=-1)
        value = (binary * per_row(self.alpha) + among * per_row(self.beta)) * per_row(self.T * self.T)

        p = u_among.exp().detach()
        excess = (u_y.exp().detach() - q_y) * self.alpha
        h = ((p - q) * self.beta - p * excess).scatter_(-1, index, excess) * self.T
        return (value, h) if known is None else (value * known.squeeze(-1), h * known)

    def _targets(self, batch: Batch) -> tuple[Tensor | None, Tensor]:
        """1 where the target is known f[*r, b, 1] (None: everywhere), and the target i[*r, b, 1]."""
        if self.target == "weak":
            return None, batch.label().unsqueeze(-1)
        if batch.labels is None:
            raise TrainError(
                "dkd needs labels, and the batch has none; dkd(target='weak') takes the weak label instead"
            )
        labels = batch.labels.unsqueeze(-1)
        return (labels >= 0).to(batch.t.dtype), labels.clamp_min(0)


def _decoupled(log_probs: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p_y and log(1 - p_y) f[*r, b, 1], and the log-probabilities among the classes but y f[*r, b, k]."""
    rest = log_probs.scatter(-1, index, ABSENT)
    total = rest.logsumexp(dim=-1, keepdim=True)
    return log_probs.gather(-1, index), total, rest - total
