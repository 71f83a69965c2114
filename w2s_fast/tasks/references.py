"""The references that every table carries: weak, zero-shot, their fusion; no tuned weight anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2s_fast.core.errors import MissingText
from w2s_fast.tasks.features import parts
from w2s_fast.tasks.task import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class WithText:
    """zero_shot i[N]: argmax of the cosines of image and text features, the very ones that initialise CPL.

    fusion i[N] per weak seed: argmax(log softmax(z_w) + log softmax(logit_scale cos)).
    """

    zero_shot: Tensor
    fusion: Mapping[int, Tensor]


def with_text(task: Task) -> WithText | None:
    """The references that need text, from one pass over the features; None without text."""
    if task.text is None:
        return None
    zero: list[Tensor] = []
    fused: dict[int, list[Tensor]] = {seed: [] for seed in task.weak_logits}
    for rows, scores in _cosines(task, task.text):
        zero.append(scores.argmax(-1))
        prior = (task.logit_scale * scores).log_softmax(-1)
        for seed, weak in task.weak_logits.items():
            fused[seed].append((weak[rows].float().log_softmax(-1) + prior).argmax(-1))
    return WithText(zero_shot=torch.cat(zero), fusion={seed: torch.cat(found) for seed, found in fused.items()})


def zero_shot_prior(task: Task) -> Tensor:
    """log softmax(logit_scale cos) f[N, k] on the CPU, for losses that read a prior; `MissingText` without text."""
    if task.text is None:
        raise MissingText(
            f"the zero-shot prior needs text features, and {task.strong} gives none ({task.text_note}); take a loss or "
            "a supervision that reads none, such as kd and smooth"
        )
    found = [(task.logit_scale * scores).log_softmax(-1).cpu() for _, scores in _cosines(task, task.text)]
    return torch.cat(found)


def _cosines(task: Task, text: Tensor) -> Iterator[tuple[slice | Tensor, Tensor]]:
    """Cosines f[n, k] of images and text, part by part."""
    unit = normalize(text, dim=-1).T
    for rows, x in parts(task.features):
        yield rows, normalize(x, dim=-1) @ unit.to(x.device)


def weak(task: Task, weak_seed: int) -> Tensor:
    """i[N]: argmax of the weak logits, ties to the lowest index."""
    return task.weak_logits[weak_seed].argmax(-1)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of known labels that are met, in float64; NaN when none is known."""
    known = labels >= 0
    return float((predicted[known] == labels[known]).double().mean()) if bool(known.any()) else float("nan")
