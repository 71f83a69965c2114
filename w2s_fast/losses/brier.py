"""Squared error of raw logits: the loss that has a closed-form optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.losses.loss import Loss
from w2s_fast.losses.supervision import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Brier(Loss):
    """Half the squared distance of logits and weak probabilities; a linear head has a closed form, solver `ridge`.

    Differs from Brier's score of forecasts in that nothing makes probabilities of the logits: regression, not
    calibration. Differs from Hui and Belkin's in the factor (theirs is a mean over classes) and in soft targets.
    """

    source: ClassVar[str] = "least-squares classification, as Hui and Belkin 2021, arXiv 2006.07322, train networks"
    equation: ClassVar[str] = "1/2 sum_c (z_c / tau_s - w_c)^2"
    verified: ClassVar[bool] = True

    def value(self, z: Tensor, batch: Batch) -> Tensor:
        return self._gap(z, batch).square().sum(dim=-1) / 2

    def value_and_dz(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            gap = self._gap(z, batch)
            value = gap.square().sum(dim=-1) / 2
            return value, gap if self.tau_s is None else gap / self.tau_s

    def target(self, batch: Batch) -> Tensor:
        """The weak probabilities f[*r, b, k] at tau_w."""
        return batch.probs(self.tau_w)

    def _gap(self, z: Tensor, batch: Batch) -> Tensor:
        return self.scaled(z) - self.target(batch)
