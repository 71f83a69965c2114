"""EleutherAI's variant of the auxiliary confidence loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.aux_conf import AuxConf
from w2s_fast.losses.balance import harden_balanced, weak_mean
from w2s_fast.losses.supervision import Batch

FLOOR = 1e-7
"""Weak probabilities below it count as it, so that one sure row does not decide the mean of the logarithms."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LogconfEleuther(AuxConf):
    """`aux_conf` with balanced weak labels: the mean of log w over batch and buffer is taken from log w.

    Two classes: hardening at the median of the student, as published with balance_batch. More (this project's rule):
    `balanced` towards the mean of the new weak labels. Differs from the published code in a floor where it adds 1e-7,
    in a warm-up that is a part of training (theirs: 200 steps), and in the buffer's rows being in the mean.
    """

    buffer: int = 32

    limits: ClassVar[Limits] = {**AuxConf.limits, "harden": ("balanced",), "balance_to": ("weak_mean",)}
    source: ClassVar[str] = (
        "github.com/EleutherAI/w2s, 2024, commit not at hand (log_confidence_loss with balance_batch)"
    )
    equation: ClassVar[str] = (
        "-sum_c ((1 - a) w'_c + a onehot(harden(p))_c) log p_c, w' ~ w / exp(mean log w), a = alpha min(1, t / warmup)"
    )

    def target(self, logp: Tensor, batch: Batch) -> Tensor:
        log_w = batch.probs(self.tau_w).clamp_min(FLOOR).log()
        held, all_log_w, all_valid = dict(batch.memory), log_w, batch.valid
        if held:
            held["weak"] = held["weak"].clamp_min(FLOOR).log()
            here = torch.ones_like(log_w[..., 0], dtype=torch.bool) if batch.valid is None else batch.valid
            all_log_w = torch.cat([held["weak"], log_w], dim=-2)
            all_valid = torch.cat([held["held"], here], dim=-1)
        mean = weak_mean(all_log_w, all_valid)[0].unsqueeze(-2)
        w = torch.softmax(log_w - mean, dim=-1)
        if held:
            held["weak"] = torch.softmax(held["weak"] - mean, dim=-1)
        index = harden_balanced(logp, w, batch.valid, held, uniform=False, level=0.5)
        return self.mixture(w, index, batch.t)
