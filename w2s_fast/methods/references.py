"""The references that every table carries: weak, zero-shot, their fusion; no tuned weight anywhere."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.methods.task import Task


def cosines(task: Task) -> Tensor | None:
    """f[N, k] cosines of image and text features, or None without text."""
    if task.text is None:
        return None
    return normalize(task.features, dim=-1) @ normalize(task.text, dim=-1).T


def zero_shot(task: Task) -> Tensor | None:
    """i[N]: argmax of the cosines; the very text features that initialise CPL. None without text."""
    scores = cosines(task)
    return None if scores is None else scores.argmax(-1)


def fusion(task: Task, weak_seed: int) -> Tensor | None:
    """i[N]: argmax(log softmax(z_w) + log softmax(logit_scale cos)); None without text."""
    scores = cosines(task)
    if scores is None:
        return None
    weak = task.weak_logits[weak_seed].log_softmax(-1)
    return (weak + (task.logit_scale * scores).log_softmax(-1)).argmax(-1)


def weak(task: Task, weak_seed: int) -> Tensor:
    """i[N]: argmax of the weak logits, ties to the lowest index."""
    return task.weak_logits[weak_seed].argmax(-1)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of known labels that are met, in float64; NaN when none is known."""
    known = labels >= 0
    return float((predicted[known] == labels[known]).double().mean()) if bool(known.any()) else float("nan")
