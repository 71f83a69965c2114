"""Losses against the weak model's probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from w2s_fast.losses.loss import LogProbLoss, TargetLoss, per_row
from w2s_fast.losses.supervision import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class CeSoft(TargetLoss):
    """Cross-entropy to the weak probabilities, -sum w log p: the gradient of `kd`, another value."""

    source: ClassVar[str] = "Burns et al. 2023, arXiv 2312.09390; github.com/openai/weak-to-strong@6b450f2 (xent)"
    equation: ClassVar[str] = "-sum_c w_c log p_c"
    verified: ClassVar[bool] = True

    def target(self, logp: Tensor, batch: Batch) -> Tensor:
        return batch.probs(self.tau_w)


@dataclass(frozen=True, kw_only=True, eq=False)
class Kd(LogProbLoss):
    """Forward KL(w || p); with `tau2` times tau_s^2, as Hinton's recipes for whole networks want it.

    Differs from mdistiller and ggjy in that the factor is off by default: a single term under Adam does not see it.

    tau2: multiply by tau_s^2.
    """

    tau2: bool = False

    source: ClassVar[str] = "Hinton et al. 2015, arXiv 1503.02531"
    equation: ClassVar[str] = "sum_c w_c (log w_c - log p_c)"
    verified: ClassVar[bool] = True

    def at(self, logp: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        w = batch.probs(self.tau_w)
        value = batch.neg_entropy(self.tau_w) - (w * logp).sum(dim=-1)
        if self.tau2 and self.tau_s is not None:
            row = per_row(self.tau_s)
            return value * (row * row), w * (-self.tau_s * self.tau_s)
        return value, -w


@dataclass(frozen=True, kw_only=True, eq=False)
class Cpl(Kd):
    """`kd` whose default head is a prototype head that starts from text: class-prototype learning."""

    source: ClassVar[str] = "Li et al. 2025, arXiv 2511.18396, Eq. 5 (forward KL, as its expansion has it)"
    default_head: ClassVar[str | None] = "prototype(init='text')"
