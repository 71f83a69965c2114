"""Class prototypes under cosine similarity: the head of CPL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Features, Head, Pull, Start, WeakLabels, unit
from w2s_fast.heads.starts import STARTS, class_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Prototype(Head):
    """W = C / |C| row-wise on unit features, no offsets; the scale lives in tau_s.

    init: class rows from `text`, `random`, `weak_mean`, `zero_shot` (means under zero-shot pseudo-labels) or
    `class_mean` (reads ground truth), as `starts.class_rows` says, with unit rows times init_norm; init_norm = 0 keeps
    each row's own length.
    init_norm: length of the rows at the start; 0 keeps each row's own.

    Only lr / init_norm matters to the trajectory, not either alone.
    """

    tau_s: float = 0.05
    init_from: str = "text"
    init_norm: float = 10.0

    starting: ClassVar[frozenset[str]] = frozenset({"tau_s", "init_from", "init_norm"})
    unit_rows: ClassVar[bool] = True
    limits: ClassVar[Limits] = {
        **Head.limits,
        "init_from": STARTS,
        "init_norm": "[0, inf)",
    }
    name: ClassVar[str] = "prototype"
    equation: ClassVar[str] = "z_i = <x_hat, C_i / |C_i|>"
    source: ClassVar[str] = "Li et al. 2025, arXiv 2511.18396, Eq. 3"

    def init(self, start: Start, *, seed: int, x: Features, rows: Tensor, supervision: WeakLabels) -> Theta:
        found = class_rows(self.init_from, start, head=self.name, seed=seed, x=x, rows=rows, supervision=supervision)
        return {"prototypes": unit(found) * self.init_norm if self.init_norm else found}

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
