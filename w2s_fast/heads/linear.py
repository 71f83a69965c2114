"""The linear probe."""

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
class Linear(Head):
    """W and b are free; x is unit features times 10.

    init: `random`, W from U(-1/sqrt d, 1/sqrt d) by `torch.rand(k, d)` in single precision with a CPU generator of the
    run seed, b = 0; or one of the class rows of `starts.class_rows` (`text`, `weak_mean`, `zero_shot`, `class_mean`), W
    = unit row / (tau0 x_scale), b = 0, so that the first logits are cosines / tau0.
    tau0: temperature of the first cosines where it starts from class rows.

    Weight decay leaves b alone.
    """

    x_scale: float = 10.0
    init_from: str = "random"
    tau0: float = 0.05

    starting: ClassVar[frozenset[str]] = frozenset({"tau_s", "init_from", "tau0"})
    undecayed: ClassVar[frozenset[str]] = frozenset({"bias"})
    limits: ClassVar[Limits] = {
        **Head.limits,
        "init_from": ("random", *(start for start in STARTS if start != "random")),
        "tau0": "(0, inf)",
    }
    name: ClassVar[str] = "linear"
    equation: ClassVar[str] = "z = x_scale x_hat W^T + b"
    source: ClassVar[str] = "Li et al. 2025, arXiv 2511.18396, Eq. 1"

    def init(self, start: Start, *, seed: int, x: Features, rows: Tensor, supervision: WeakLabels) -> Theta:
        if self.init_from == "random":
            generator = torch.Generator().manual_seed(seed)
            weight = torch.rand(start.k, start.d, generator=generator).double()
            weight.mul_(2).sub_(1).div_(start.d**0.5)
        else:
            rows_of_w = class_rows(
                self.init_from, start, head=self.name, seed=seed, x=x, rows=rows, supervision=supervision
            )
            weight = unit(rows_of_w) / (self.tau0 * self.x_scale)
        return {"weight": weight, "bias": torch.zeros(start.k, dtype=weight.dtype, device=weight.device)}

    def weights(self, theta: Theta) -> tuple[Tensor, Tensor | None]:
        return theta["weight"], theta["bias"]

    def vjp(self, theta: Theta) -> tuple[Tensor, Tensor | None, Pull]:
        return theta["weight"], theta["bias"], _pull


def _pull(dw: Tensor, db: Tensor | None) -> Theta:
    return {"weight": dw, "bias": torch.zeros_like(dw[..., 0]) if db is None else db}
