"""Auxiliary confidence loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.losses.balance import harden_balanced, last_valid
from w2s_fast.losses.loss import Loss, Real, TargetLoss
from w2s_fast.losses.loss import ramp as ramped
from w2s_fast.losses.supervision import Batch, lowest_argmax


@dataclass(frozen=True, kw_only=True, eq=False)
class AuxConf(TargetLoss):
    """Cross-entropy to (1 - a) w + a onehot(harden(p)), a = alpha min(1, t / warmup).

    alpha: the share a of the own label once training is warm.
    warmup: the part of training over which a grows from 0.
    harden: `argmax`, or `balanced`, where each class gets its share of the batch (balance_to: weak mean or uniform):
    for k = 2 the weak quantile (as published), for k > 2 ten Sinkhorn iterations and an argmax (this project's rule).
    balance_to: what the batch's shares of the classes are under `balanced`: `weak_mean`, or `uniform`.
    buffer: the last rows that also enter the statistics of `balanced`.
    legacy_warmup: OpenAI's, a = alpha t up to t = warmup and then, at once, alpha (their warm-up lasts .1).

    Differs from OpenAI's code in a smooth warm-up.
    """

    alpha: Real = 0.5
    warmup: Real = 0.2
    harden: str = "balanced"
    balance_to: str = "weak_mean"
    buffer: int = 0
    legacy_warmup: bool = False

    limits: ClassVar[Limits] = {
        **Loss.limits,
        "alpha": "[0, 1]",
        "warmup": "[0, 1]",
        "harden": ("balanced", "argmax"),
        "balance_to": ("weak_mean", "uniform"),
        "buffer": "[0, inf)",
    }
    source: ClassVar[str] = "Burns et al. 2023, arXiv 2312.09390; github.com/openai/weak-to-strong@6b450f2 (logconf)"
    equation: ClassVar[str] = "-sum_c ((1 - a) w_c + a onehot(harden(p))_c) log p_c, a = alpha min(1, t / warmup)"
    verified: ClassVar[bool] = True

    @property
    def mixes_rows(self) -> bool:
        return self.harden == "balanced"

    def memory(
        self, lead: tuple[int, ...], k: int, m: int, *, dtype: torch.dtype, device: torch.device
    ) -> dict[str, Tensor]:
        if self.buffer == 0 or self.harden != "balanced":
            return {}
        return {
            "logp": torch.zeros(*lead, self.buffer, k, dtype=dtype, device=device),
            "weak": torch.zeros(*lead, self.buffer, k, dtype=dtype, device=device),
            "held": torch.zeros(*lead, self.buffer, dtype=torch.bool, device=device),
        }

    def target(self, logp: Tensor, batch: Batch) -> Tensor:
        w = batch.probs(self.tau_w)
        if self.harden == "argmax":
            index = lowest_argmax(logp)
        else:
            index = harden_balanced(logp, w, batch.valid, batch.memory, uniform=self.balance_to == "uniform")
        return self.mixture(w, index, batch.t)

    def mixture(self, w: Tensor, index: Tensor, t: Tensor) -> Tensor:
        """(1 - a) w + a onehot(index) of probabilities f[*r, b, k] and classes i[*r, b], at the part t of training."""
        if self.legacy_warmup:
            a: Real = torch.where(t > self.warmup, torch.ones_like(t), t) * self.alpha
        else:
            a = ramped(t, self.warmup) * self.alpha
        share = a.expand(*index.shape, 1) if isinstance(a, Tensor) else torch.full_like(w[..., :1], a)
        return (w * (1 - a)).scatter_add_(-1, index.unsqueeze(-1), share)

    def step(self, memory: dict[str, Tensor], grads: Mapping[str, Tensor], z: Tensor, batch: Batch) -> None:
        if not memory:
            return
        logp = torch.log_softmax(self.scaled(z), dim=-1)
        w = batch.probs(self.tau_w)
        last_valid(memory, logp, w, batch.valid)


@dataclass(frozen=True, kw_only=True, eq=False)
class AuxConfArgmax(AuxConf):
    """`aux_conf` that hardens by plain argmax, as the CPL and AdaptConf papers do."""

    harden: str = "argmax"

    limits: ClassVar[Limits] = {**AuxConf.limits, "harden": ("argmax",)}
    source: ClassVar[str] = "Guo et al. 2024, arXiv 2402.03749, Eq. 1"
