"""Several weak models in one mixture, whose weights are learned with the student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.errors import SpecError
from w2s_fast.core.fields import Limits
from w2s_fast.core.specs import parse
from w2s_fast.losses.loss import Loss, Real, per_row
from w2s_fast.losses.supervision import TINY, Batch

LEAST = 1e-6
"""No teacher's weight falls below it, so that any may come back."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Raven(Loss):
    """A loss of one teacher, given the mixture of several, whose weights descend the student's cross-entropy.

    base: any loss of one teacher, which sees the logarithm of the mixture.
    lr_v: step of the weights' plain gradient descent, beside the solver's.
    agree: the first part of training, in which rows on which not all teachers have the same label count nothing, and
    the weights stay uniform.
    tau_w: softens each teacher before they are mixed; a tau_w in `base` softens the mixture.

    One teacher makes it its base. Weights go to whom the student believes, and the student believes the mixture: a
    teacher that is sure and wrong in one way may win unless lr_v is large beside the student's step and `agree` long
    enough. Differs from the published code in that the part is one of steps, not of whole epochs, that one number says
    both how long rows and how long weights wait (there: two), and that the weights follow the plain cross-entropy
    whatever the base.
    """

    base: str = "kd"
    lr_v: Real = 1e-3
    agree: Real = 0.1

    limits: ClassVar[Limits] = {**Loss.limits, "lr_v": "[0, inf)", "agree": "[0, 1]"}
    source: ClassVar[str] = "Jeon et al. 2025, arXiv 2510.21332; github.com/mlbio-epfl/raven, commit not at hand"
    equation: ClassVar[str] = (
        "base(z, w), w = sum_m v_m w_m / sum_m v_m; v <- P(v + lr_v d/dv mean sum_c w_c log p_c), "
        "P(v) = max(v, 1e-6) / sum"
    )
    verified: ClassVar[bool] = True

    def check(self) -> None:
        given = parse(self.base).args
        if "teachers" in _base(self.base).needs:
            raise SpecError(f"loss 'raven': base={self.base!r} takes several teachers itself; give one such as 'kd'")
        if "tau_s" in given:
            raise SpecError(f"loss 'raven': tau_s in base={self.base!r}; give it to raven: raven(tau_s=...)")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return _base(self.base).needs | {"teachers"}

    @property
    def mixes_rows(self) -> bool:
        return _base(self.base).mixes_rows

    def memory(
        self, lead: tuple[int, ...], k: int, m: int, *, dtype: torch.dtype, device: torch.device
    ) -> dict[str, Tensor]:
        own = _base(self.base).memory(lead, k, 1, dtype=dtype, device=device)
        v = torch.full((*lead, m), 1 / m, dtype=dtype, device=device, requires_grad=True)
        return {**own, "v": v}

    def value(self, z: Tensor, batch: Batch) -> Tensor:
        mixed = self._mixed(batch)
        value = self._of_base().value(z, self._seen(batch, mixed))
        if mixed.requires_grad:
            logp = torch.log_softmax(self.scaled(z.detach()), dim=-1)
            cross = -(mixed * logp).sum(dim=-1)
            value = value + (cross - cross.detach())
        counts = self._counts(batch)
        return value if counts is None else value * counts.to(value.dtype)

    def step(self, memory: dict[str, Tensor], grads: Mapping[str, Tensor], z: Tensor, batch: Batch) -> None:
        v, base = memory["v"], self._of_base()
        rest = {name: tensor for name, tensor in memory.items() if name != "v"}
        with torch.no_grad():
            if rest or type(base).step is not Loss.step:
                theirs = {name: g for name, g in grads.items() if name != "v"}
                base.step(rest, theirs, z, self._seen(batch, self._mixed(batch)))
            moved = (v - per_row(self.lr_v) * grads["v"]).clamp_min(LEAST)
            v.copy_(torch.where(batch.t.squeeze(-1) < per_row(self.agree), v, moved / moved.sum(-1, keepdim=True)))

    def _of_base(self) -> Loss:
        return replace(_base(self.base), tau_s=self.tau_s)

    def _mixed(self, batch: Batch) -> Tensor:
        """The mixture f[*r, b, k]: of one teacher, its probabilities."""
        w = batch.probs(self.tau_w)
        if w.ndim == batch.t.ndim:
            return w
        v = batch.memory.get("v")
        if v is None:
            return w.mean(dim=-2)
        share = v / v.sum(dim=-1, keepdim=True)
        return (share.unsqueeze(-2).unsqueeze(-1) * w).sum(dim=-2)

    def _seen(self, batch: Batch, mixed: Tensor) -> Batch:
        """The batch that the base sees: one teacher, and its own memory."""
        return Batch(
            weak=mixed.detach().clamp_min(TINY).log(),
            t=batch.t,
            prior=batch.prior,
            labels=batch.labels,
            weight=batch.weight,
            valid=batch.valid,
            memory={name: tensor for name, tensor in batch.memory.items() if name != "v"},
        )

    def _counts(self, batch: Batch) -> Tensor | None:
        """bool[*r, b]: whether a row counts yet; None where all do."""
        labels = batch.label()
        if labels.ndim < batch.t.ndim:
            return None
        same = (labels == labels[..., :1]).all(dim=-1)
        return same | (batch.t.squeeze(-1) >= per_row(self.agree))


@lru_cache(maxsize=64)
def _base(spec: str) -> Loss:
    from w2s_fast.losses import make

    return make(spec)
