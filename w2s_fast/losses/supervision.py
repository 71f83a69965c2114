"""What supervises: tables over all rows, and the part of them that one batch sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from w2s_fast.core.errors import TrainError

if TYPE_CHECKING:
    from torch._prims_common import DeviceLikeType

TINY = 1e-30
"""Probabilities enter as log(max(p, TINY)), so that a zero stays a finite logit."""
LOW = (torch.float16, torch.bfloat16)
CHUNK = 1 << 14
"""Rows whose logits are gathered at a time where only their labels are wanted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Supervision:
    """Weak supervision for all N rows of a feature table; runs share one by identity.

    weak: raw logits f[N, k], or f[N, m, k] of m teachers. pick: i[N], the teacher of each row. weight: f[N].
    prior: log-probabilities f[N, k]. labels: i[N], -1 = unknown; read only
    by losses that need `labels` and by `w_gt`. cast: what logits become when rows are read; None = as they are.
    """

    weak: Tensor
    pick: Tensor | None = None
    weight: Tensor | None = None
    prior: Tensor | None = None
    labels: Tensor | None = None
    cast: torch.dtype | None = None

    @classmethod
    def from_probabilities(
        cls,
        p: Tensor,
        *,
        pick: Tensor | None = None,
        weight: Tensor | None = None,
        prior: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Supervision:
        """Supervision whose weak logits are log(max(p, 1e-30)), for probabilities f[N, k] or f[N, m, k]."""
        return cls(weak=p.clamp_min(TINY).log(), pick=pick, weight=weight, prior=prior, labels=labels)

    @property
    def n(self) -> int:
        return self.weak.shape[0]

    @property
    def k(self) -> int:
        return self.weak.shape[-1]

    @property
    def teachers(self) -> int:
        """How many teachers a loss would see: 1 for a plain table or with `pick`."""
        return self.weak.shape[1] if self.weak.ndim == 3 and self.pick is None else 1

    def logits(self, rows: Tensor) -> Tensor:
        """Raw logits of the given rows i[n]: f[n, k] (with `pick`, the picked teacher's), or f[n, m, k]."""
        if self.pick is not None and self.weak.ndim == 3:
            found = self.weak[rows, self.pick.index_select(0, rows)]
        else:
            found = self.weak.index_select(0, rows)
        return found if self.cast is None else found.to(self.cast)

    def probs(self, rows: Tensor) -> Tensor:
        """Probabilities f[n, k] of the given rows, averaged over teachers where there are several."""
        p = torch.softmax(self.logits(rows), dim=-1)
        return p.mean(dim=1) if p.ndim == 3 else p

    def label(self, rows: Tensor) -> Tensor:
        """The weak label i[n]: argmax of `probs`; ties go to the lowest class."""
        if len(rows) > CHUNK:
            return torch.cat([self.label(part) for part in rows.split(CHUNK)])
        if self.teachers == 1:
            logits = self.logits(rows)
            return lowest_argmax(logits[:, 0] if logits.ndim == 3 else logits)
        return lowest_argmax(self.probs(rows))

    def to(self, *, dtype: torch.dtype, device: DeviceLikeType, keep: bool = False) -> Supervision:
        """A copy on a device, real tables in `dtype`; with `keep` weak logits of half precision row by row."""
        keep = keep and self.weak.dtype in LOW and dtype == torch.float32

        def real(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device=device, dtype=dtype)

        def whole(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device=device, dtype=torch.int64)

        return Supervision(
            weak=self.weak.to(device=device, dtype=self.weak.dtype if keep else dtype),
            pick=whole(self.pick),
            weight=real(self.weight),
            prior=real(self.prior),
            labels=whole(self.labels),
            cast=dtype if keep else None,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One batch's supervision, with the lead `*r` of its logits (`()` outside the engine, `(R,)` in a stack).

    weak: raw logits f[*r, b, k] or f[*r, b, m, k]. prior f[*r, b, k], labels i[*r, b], weight f[*r, b], or None.
    valid: bool[*r, b], False = padding, None = all valid; batch statistics skip padding.
    t: f[*r, 1, 1], the part of the run's steps already done, 0 <= t < 1. memory: what the loss's `memory` returned.
    """

    weak: Tensor
    t: Tensor
    prior: Tensor | None = None
    labels: Tensor | None = None
    weight: Tensor | None = None
    valid: Tensor | None = None
    memory: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def softened(self, tau: float | Tensor) -> Tensor:
        """The weak logits / tau in the shape of `weak`, at least in single precision; tau may be [R, 1, 1]."""
        weak = self.weak.float() if self.weak.dtype in LOW else self.weak
        if not isinstance(tau, Tensor):
            return weak if tau == 1.0 else weak / tau
        several = weak.ndim == self.t.ndim + 1
        return weak / (tau.unsqueeze(-1) if several else tau)

    def probs(self, tau: float | Tensor) -> Tensor:
        """Weak probabilities softmax(weak / tau) in the shape of `weak`; the engine looks them up."""
        return torch.softmax(self.softened(tau), dim=-1)

    def neg_entropy(self, tau: float | Tensor) -> Tensor:
        """sum_c w_c log w_c f[*r, b] of the weak probabilities w."""
        log_w = torch.log_softmax(self.softened(tau), dim=-1)
        return (log_w.exp() * log_w).sum(dim=-1)

    def label(self) -> Tensor:
        """The weak label i[*r, b], the argmax of one teacher's logits; ties go to the lowest class."""
        return lowest_argmax(self.weak)

    def run(self, r: int) -> Batch:
        """The batch of run `r` of a stack, without lead."""

        def one(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[r]

        return Batch(
            weak=self.weak[r],
            t=self.t[r],
            prior=one(self.prior),
            labels=one(self.labels),
            weight=one(self.weight),
            valid=one(self.valid),
            memory={name: x[r] for name, x in self.memory.items()},
        )


def lowest_argmax(x: Tensor) -> Tensor:
    """Class numbers i[*r, b] of the largest entries of x f[*r, b, k], detached; ties go to the lowest class."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling():
        # torch's own takes about five times as long on a CPU
        return torch.from_numpy(x.detach().numpy().argmax(axis=-1))
    return x.argmax(dim=-1)


def ground_truth(labels: Tensor, k: int, dtype: torch.dtype = torch.float32) -> Supervision:
    """Ground truth as supervision (for ceilings): weak = log one-hot in `dtype`; rows labelled -1 get weight 0.

    labels: i[N] in -1..k-1; raises `TrainError` naming the first row outside.
    """
    labels = torch.as_tensor(labels).to(torch.int64)
    outside = ((labels < -1) | (labels >= k)).nonzero()
    if len(outside):
        row = int(outside[0])
        raise TrainError(
            f"label {int(labels[row])} of row {row} is outside 0..{k - 1} (-1 = unknown); correct the labels"
        )
    known = labels >= 0
    weak = torch.full((len(labels), k), float(torch.tensor(TINY).log()), dtype=dtype, device=labels.device)
    weak.scatter_(1, labels.clamp_min(0).unsqueeze(1), 0.0)
    weight = None if bool(known.all()) else known.to(torch.float32)
    return Supervision(weak=weak, weight=weight, labels=labels)
