"""Knowledge review: each level of the student, fused with the deeper ones, against the teacher's level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, mse_loss

from w2s_fast.core.fields import Limits

if TYPE_CHECKING:
    from w2s_fast.backbones.cifar.staged import Stages

POOLS = (4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class ReviewKd:
    """Chen et al. 2021, arXiv 2104.09044, as mdistiller (a08d46f): stages and the pooled vector, the teacher before
    its ReLU. mid: channels of the fusion, at most. stem: with the stem as a level, as ggjy (c020783) has it.

    mdistiller warms the weight up over 20 epochs (`loss_warmup`) and takes another weight for every pair.
    """

    mid: int = 512
    stem: bool = False
    limits: ClassVar[Limits] = {"mid": "[1, inf)"}

    def bind(self, student: Stages, teacher: Stages) -> ReviewKdModule:
        """The fusions from the shapes of both."""
        return ReviewKdModule(self, student, teacher)


class Fusion(nn.Module):
    """Attention-based fusion: a 1x1 convolution, then a weighing against what came from the deeper level."""

    def __init__(self, channels: int, mid: int, out: int, *, fuses: bool) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(channels, mid, 1, bias=False), nn.BatchNorm2d(mid))
        self.conv2 = nn.Sequential(nn.Conv2d(mid, out, 3, padding=1, bias=False), nn.BatchNorm2d(out))
        self.attention = nn.Conv2d(2 * mid, 2, 1) if fuses else None
        for layer in (self.conv1[0], self.conv2[0]):
            nn.init.kaiming_uniform_(layer.weight, a=1)  # type: ignore[arg-type]

    def forward(self, x: Tensor, deeper: Tensor | None, side: int) -> tuple[Tensor, Tensor]:
        """The level's output, and what is passed on, both of the teacher's `side`."""
        x = self.conv1(x)
        if self.attention is not None and deeper is not None:
            deeper = interpolate(deeper, x.shape[-2:], mode="nearest")
            weight = torch.sigmoid(self.attention(torch.cat([x, deeper], 1)))
            x = x * weight[:, :1] + deeper * weight[:, 1:]
        if x.shape[-1] != side:
            x = interpolate(x, (side, side), mode="nearest")
        return self.conv2(x), x


class ReviewKdModule(nn.Module):
    def __init__(self, options: ReviewKd, student: Stages, teacher: Stages) -> None:
        super().__init__()
        self.stem = options.stem
        mine, theirs = self._student(student), self._teacher(teacher)
        self.levels = min(len(mine), len(theirs))
        mine, theirs = mine[: self.levels], theirs[: self.levels]
        mid = min(options.mid, mine[0].shape[1])
        self.fusions = nn.ModuleList(
            Fusion(s.shape[1], mid, t.shape[1], fuses=number > 0)
            for number, (s, t) in enumerate(zip(mine, theirs, strict=True))
        )

    def value(self, student: Stages, teacher: Stages) -> Tensor:
        """The sum over levels of `pyramid`."""
        passed: Tensor | None = None
        total = student.pooled.new_zeros((), dtype=student.pooled.float().dtype)
        pairs = zip(self._student(student), self._teacher(teacher), self.fusions, strict=False)
        for s, t, fusion in pairs:
            out, passed = fusion(s, passed, t.shape[-1])
            total = total + pyramid(out.float(), t.float().detach())
        return total

    def _student(self, seen: Stages) -> list[Tensor]:
        """Maps from the pooled vector down to the first stage."""
        return [seen.pooled[..., None, None], *reversed(seen.post if self.stem else seen.post[1:])]

    def _teacher(self, seen: Stages) -> list[Tensor]:
        return [seen.pooled[..., None, None], *reversed(seen.pre if self.stem else seen.pre[1:])]


def pyramid(s: Tensor, t: Tensor) -> Tensor:
    """The paper's hierarchical context loss: mean squared error of the maps [n, c, h, h] and of pooled ones of 4, 2
    and 1 pixels (those smaller than h), weighted 1, 1/2, 1/4, 1/8 over their sum."""
    side = s.shape[-1]
    total, weights, weight = mse_loss(s, t), 1.0, 1.0
    for size in POOLS:
        if size >= side:
            continue
        weight /= 2
        total = total + weight * mse_loss(adaptive_avg_pool2d(s, size), adaptive_avg_pool2d(t, size))
        weights += weight
    return total / weights
