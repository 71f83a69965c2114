"""Class prototypes under cosine similarity: the head of CPL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Features, Head, Pull, Start, WeakLabels, unit

CHUNK = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class Prototype(Head):
    """W = C / |C| row-wise on unit features, no offsets; the scale lives in tau_s.

    init: `text`, the unit text features; `random`, unit gaussian rows by `torch.randn(k, d)` in single precision with a
    CPU generator of the run seed; `weak_mean`, the direction of the mean of unit train features weighted by the weak
    probability of the class; each times init_norm. Only lr / init_norm matters to the trajectory, not either alone.
    """

    tau_s: float = 0.05
    init_from: str = "text"
    init_norm: float = 10.0

    starting: ClassVar[frozenset[str]] = frozenset({"tau_s", "init_from", "init_norm"})
    unit_rows: ClassVar[bool] = True
    limits: ClassVar[Limits] = {
        **Head.limits,
        "init_from": ("text", "random", "weak_mean"),
        "init_norm": "(0, inf)",
    }
    name: ClassVar[str] = "prototype"
    source: ClassVar[str] = "Li et al. 2025, arXiv 2511.18396, Eq. 3"

    def init(self, start: Start, *, seed: int, x: Features, rows: Tensor, supervision: WeakLabels) -> Theta:
        if self.init_from == "text":
            rows_of_w = start.unit_text(self.name)
        elif self.init_from == "random":
            generator = torch.Generator().manual_seed(seed)
            rows_of_w = unit(torch.randn(start.k, start.d, generator=generator).double())
        else:
            rows_of_w = unit(weak_means(x, rows, supervision, k=start.k))
        return {"prototypes": rows_of_w * self.init_norm}

    def weights(self, theta: Theta) -> tuple[Tensor, Tensor | None]:
        return unit(theta["prototypes"]), None

    def vjp(self, theta: Theta) -> tuple[Tensor, Tensor | None, Pull]:
        c = theta["prototypes"]
        length = torch.linalg.vector_norm(c, dim=-1, keepdim=True).clamp_min(1e-12)
        w = c / length

        def pull(dw: Tensor, db: Tensor | None) -> Theta:
            # the part of dW along the row does not turn the row
            along = (dw * w).sum(dim=-1, keepdim=True)
            return {"prototypes": torch.addcmul(dw, w, along, value=-1).div_(length)}

        return w, None, pull


def weak_means(x: Features, rows: Tensor, supervision: WeakLabels, *, k: int) -> Tensor:
    """Sum over rows i[n] of weak probability times unit feature, f[k, d]; a class without any gets the overall sum."""
    total: Tensor | None = None
    for part, features in x.batches(rows, CHUNK):
        p = supervision.probs(part)
        added = p.to(features.dtype).mT @ unit(features)
        total = added if total is None else total + added
    if total is None:
        raise ValueError("weak_means needs at least one row")
    empty = torch.linalg.vector_norm(total, dim=-1, keepdim=True) == 0
    return torch.where(empty, total.sum(dim=0, keepdim=True), total)
