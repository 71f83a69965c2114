"""Relational distillation of pooled features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, smooth_l1_loss

from w2s_fast.core.fields import Limits

if TYPE_CHECKING:
    from w2s_fast.backbones.cifar.staged import Stages

EPS = 1e-12


@dataclass(frozen=True, kw_only=True)
class Rkd:
    """Weights of the distance and the angle term. Park et al. 2019, arXiv 1904.05068, as mdistiller (a08d46f) has it.

    The angle term needs memory for N^3 numbers, and the value depends on the batch size.
    """

    distance: float = 25.0
    angle: float = 50.0
    limits: ClassVar[Limits] = {"distance": "[0, inf)", "angle": "[0, inf)"}

    def bind(self, student: Stages, teacher: Stages) -> RkdModule:
        """A module without parameters."""
        return RkdModule(self)


class RkdModule(nn.Module):
    def __init__(self, options: Rkd) -> None:
        super().__init__()
        self.options = options

    def value(self, student: Stages, teacher: Stages) -> Tensor:
        """A scalar of the batch's pooled features [n, d]."""
        s, t = student.pooled.float(), teacher.pooled.float().detach()
        return self.options.distance * distance_term(s, t) + self.options.angle * angle_term(s, t)


def distance_term(s: Tensor, t: Tensor) -> Tensor:
    """The Huber distance of pairwise distances [n, n], each divided by its mean over pairs apart; diagonal included."""
    with torch.no_grad():
        theirs = _relative(_distances(t))
    return smooth_l1_loss(_relative(_distances(s)), theirs)


def angle_term(s: Tensor, t: Tensor) -> Tensor:
    """The Huber distance of the cosines of all angles [n, n, n], those without an angle (0) included."""
    with torch.no_grad():
        theirs = _cosines(t)
    return smooth_l1_loss(_cosines(s), theirs)


def _distances(x: Tensor) -> Tensor:
    squares = x.square().sum(1)
    square = (squares[:, None] + squares[None] - 2 * x @ x.T).clamp_min(EPS)
    apart = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    return square.sqrt() * apart


def _relative(distances: Tensor) -> Tensor:
    apart = distances[distances > 0]
    return distances / apart.mean() if len(apart) else distances


def _cosines(x: Tensor) -> Tensor:
    unit = normalize(x[None] - x[:, None], dim=2)
    return torch.bmm(unit, unit.transpose(1, 2))
