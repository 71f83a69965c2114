"""A cache of train features and their weak labels beside the text classifier: Tip-Adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from w2s_fast.core.fields import Limits
from w2s_fast.core.protocols import Theta
from w2s_fast.heads.head import Features, Head, Start, WeakLabels, unit
from w2s_fast.heads.starts import CHUNK, STARTS, class_rows

CLIP_SCALE = 100.0
"""What Tip-Adapter multiplies cosines by before it adds the cache's logits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tip(Head):
    """Cosines with frozen class rows plus alpha / 100 times the cached labels of near train images.

    Keys f[n, d] are unit features of `shots` train rows per weak label (0: of all rows), values f[n, k] their weak
    labels: `hard`, one-hot of the argmax as published (there they are ground truth), or `soft`, the weak probabilities.

    init: class rows as `starts.class_rows` has them, but for `random`.
    alpha: weight of the cached labels, over 100.
    beta: sharpness of nearness to a key.
    shots: cached train rows per weak label; 0 is all.
    values: labels of the keys: `hard`, one-hot of the weak argmax (there ground truth), or `soft`, the weak
    probabilities.
    choose: `random` rows of a label, by `torch.randperm` with a CPU generator of the run seed, or the most `confident`.
    tune: keys learn and are not normalised again (Tip-Adapter-F); without it nothing moves, and one epoch is enough.

    Values and class rows (init as in `starts.class_rows`, but for `random`) never move. At tau_s = .01 the logits are
    Tip-Adapter's; alpha is not searched on ground truth, as the published code does.
    """

    tau_s: float = 0.01
    init_from: str = "text"
    alpha: float = 1.0
    beta: float = 5.5
    shots: int = 16
    values: str = "hard"
    choose: str = "random"
    tune: bool = True

    # keys of two runs differ in number
    max_stack: ClassVar[int | None] = 1
    default_lr: ClassVar[float] = 1e-3
    starting: ClassVar[frozenset[str]] = frozenset({"tau_s", "init_from", "shots", "values", "choose"})
    limits: ClassVar[Limits] = {
        **Head.limits,
        "init_from": tuple(start for start in STARTS if start != "random"),
        "alpha": "[0, inf)",
        "beta": "[0, inf)",
        "shots": "[0, inf)",
        "values": ("hard", "soft"),
        "choose": ("random", "confident"),
    }
    name: ClassVar[str] = "tip"
    equation: ClassVar[str] = "z = <x_hat, t> + alpha / 100 exp(-beta (1 - <x_hat, keys>)) values"
    source: ClassVar[str] = "Zhang et al. 2022, Tip-Adapter and Tip-Adapter-F (arXiv 2111.03930)"

    def fixed(self) -> frozenset[str]:
        return frozenset({"values", "classes"} if self.tune else {"keys", "values", "classes"})

    def init(self, start: Start, *, seed: int, x: Features, rows: Tensor, supervision: WeakLabels) -> Theta:
        classes = class_rows(self.init_from, start, head=self.name, seed=seed, x=x, rows=rows, supervision=supervision)
        chosen = self._chosen(rows, supervision, seed)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for part, features in x.batches(chosen, CHUNK):
            keys.append(unit(features))
            p = supervision.probs(part)
            if self.values == "hard":
                p = torch.nn.functional.one_hot(p.argmax(dim=-1), start.k).to(p.dtype)
            values.append(p)
        return {"keys": torch.cat(keys), "values": torch.cat(values), "classes": unit(classes)}

    def _chosen(self, rows: Tensor, supervision: WeakLabels, seed: int) -> Tensor:
        """The cached ones of `rows`, in their order."""
        if self.shots == 0:
            return rows
        told = [supervision.probs(part).max(dim=-1) for part in rows.split(CHUNK)]
        label = torch.cat([most.indices for most in told]).cpu()
        if self.choose == "random":
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        else:
            order = torch.cat([most.values for most in told]).cpu().argsort(descending=True, stable=True)
        by_class = order[label[order].argsort(stable=True)]
        counts = label.bincount()
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(rows)) - first[label[by_class]]
        return rows[by_class[rank < self.shots].sort().values.to(rows.device)]

    def weights(self, theta: Theta) -> tuple[Tensor, Tensor | None]:
        return torch.cat([unit(theta["classes"]), theta["values"].mT * (self.alpha / CLIP_SCALE)], dim=-1), None

    def features(self, theta: Theta, x: Tensor) -> Tensor:
        return torch.cat([x, torch.exp(self.beta * (x @ theta["keys"].mT - 1))], dim=-1)
