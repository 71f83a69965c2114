"""Feature adapters: the classes stay, a small bottleneck moves the image features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.errors import UsageError
from w2s_fast.core.fields import Limits
from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Features, Head, Start, WeakLabels, unit
from w2s_fast.heads.starts import STARTS, class_rows

REDUCTION = 4
"""d / rank where rank is left at 0, as CLIP-Adapter has it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter(Head):
    """Cosines of frozen class rows and features that a bottleneck of `rank` has moved, V f[rank, d], U f[d, rank].

    init: class rows as `starts.class_rows` has them (but for `random`), of unit length.
    form: `residual`, phi = unit(x + scale U V x) with U = 0 at the start, so that the first logits are those of the
    class rows; `clip_adapter`, phi = unit((1 - scale) x + scale relu(U relu(V x))), both from U(-1/sqrt n, 1/sqrt n)
    over n inputs, as published.
    rank: width of the bottleneck; 0 is a quarter of d.
    scale: share of what the bottleneck adds.
    tune_classes: class rows learn too; weight decay leaves them alone.

    Neither has offsets, so that unit rows and raw ones give the same cosines. Draws are by `torch.rand` in single
    precision with a CPU generator of the run seed. Class rows move only with `tune_classes`.
    """

    tau_s: float = 0.05
    init_from: str = "text"
    form: str = "residual"
    rank: int = 0
    scale: float = 0.2
    tune_classes: bool = False

    default_lr: ClassVar[float] = 1e-3
    starting: ClassVar[frozenset[str]] = frozenset({"tau_s", "init_from"})
    undecayed: ClassVar[frozenset[str]] = frozenset({"classes"})
    unit_rows: ClassVar[bool] = True
    limits: ClassVar[Limits] = {
        **Head.limits,
        "init_from": tuple(start for start in STARTS if start != "random"),
        "form": ("residual", "clip_adapter"),
        "rank": "[0, inf)",
        "scale": "(0, 1]",
    }
    name: ClassVar[str] = "adapter"
    equation: ClassVar[str] = "z_i = <unit(x_hat + s U V x_hat), t_i>, or CLIP-Adapter's two ReLUs"
    source: ClassVar[str] = "Gao et al. 2021, CLIP-Adapter (arXiv 2110.04544); the residual form is a low-rank one"

    def fixed(self) -> frozenset[str]:
        return frozenset(() if self.tune_classes else ("classes",))

    def init(self, start: Start, *, seed: int, x: Features, rows: Tensor, supervision: WeakLabels) -> Theta:
        rank = self.rank or max(1, start.d // REDUCTION)
        if rank > start.d:
            raise UsageError(
                f"head {self.name!r}: rank={rank} is more than the {start.d} dimensions of the features, so it is no "
                "bottleneck; take a smaller one (0 is a quarter of them)"
            )
        generator = torch.Generator().manual_seed(seed)
        down = _uniform(rank, start.d, generator)
        up = _uniform(start.d, rank, generator)
        found = class_rows(self.init_from, start, head=self.name, seed=seed, x=x, rows=rows, supervision=supervision)
        return {
            "down": down,
            "up": torch.zeros_like(up) if self.form == "residual" else up,
            "classes": unit(found),
        }

    def weights(self, theta: Theta) -> tuple[Tensor, Tensor | None]:
        return unit(theta["classes"]), None

    def features(self, theta: Theta, x: Tensor) -> Tensor:
        inner = x @ theta["down"].mT
        if self.form == "residual":
            return unit(x + self.scale * (inner @ theta["up"].mT))
        moved = (inner.relu() @ theta["up"].mT).relu()
        return unit((1 - self.scale) * x + self.scale * moved)


def _uniform(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return (torch.rand(rows, columns, generator=generator).double() * 2 - 1) / columns**0.5
