"""Where the class rows of a head start: from text, from class means under some labels, or at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from w2s_fast.core.errors import UsageError
from w2s_fast.heads.head import Features, Start, WeakLabels, unit

STARTS = ("text", "random", "weak_mean", "zero_shot", "class_mean")
CHUNK = 8192

Share = Callable[[Tensor, Tensor], Tensor]
"""(row numbers i[b], their unit features f[b, d]) -> how much each row counts for each class, f[b, k]."""


def class_rows(
    kind: str, start: Start, *, head: str, seed: int, x: Features, rows: Tensor, supervision: WeakLabels
) -> Tensor:
    """One row per class, f[k, d], not normalised; reads no rows of x but `rows` i[n].

    text: the text features. random: gaussian, by `torch.randn(k, d)` in single precision with a CPU generator of the
    seed. The others are means of unit features: weak_mean weights them by the weak probability of the class; zero_shot
    counts those whose nearest text feature is the class's (a class that is nobody's nearest keeps its text feature, at
    length 1); class_mean counts those of that ground-truth label, `UsageError` where there are no labels. In weak_mean
    and class_mean a class without any gets the mean of all.
    """
    if kind == "text":
        start.unit_text(head)
        assert start.text is not None
        return start.text
    if kind == "random":
        return torch.randn(start.k, start.d, generator=torch.Generator().manual_seed(seed)).double()
    if kind == "weak_mean":
        means, mass = _means(x, rows, lambda part, _: supervision.probs(part))
        return torch.where(mass == 0, _overall(means, mass), means)
    if kind == "zero_shot":
        text = start.unit_text(head, init="zero_shot")
        means, mass = _means(x, rows, lambda _, f: one_hot((f @ text.to(f.dtype).mT).argmax(-1), start.k))
        return torch.where(mass == 0, text.to(means.dtype), means)
    labels = supervision.labels
    if labels is None:
        raise UsageError(
            f"head {head!r} with init='class_mean' reads ground-truth labels, and its supervision has none; "
            "give Supervision(labels=...), or start from init='weak_mean'"
        )
    means, mass = _means(x, rows, lambda part, _: one_hot(labels[part] + 1, start.k + 1)[:, 1:])
    return torch.where(mass == 0, _overall(means, mass), means)


def _means(x: Features, rows: Tensor, share: Share) -> tuple[Tensor, Tensor]:
    """Weighted means of unit features f[k, d], zero where a class has no weight, and the weights f[k, 1]."""
    total: Tensor | None = None
    mass: Tensor | None = None
    for part, features in x.batches(rows, CHUNK):
        f = unit(features)
        p = share(part, f).to(f.dtype)
        added, weight = p.mT @ f, p.sum(dim=0).unsqueeze(-1)
        total, mass = (added, weight) if total is None or mass is None else (total + added, mass + weight)
    if total is None or mass is None:
        raise ValueError("class means need at least one row")
    return torch.where(mass == 0, total, total / mass), mass


def _overall(means: Tensor, mass: Tensor) -> Tensor:
    return (means * mass).sum(dim=0, keepdim=True) / mass.sum()
