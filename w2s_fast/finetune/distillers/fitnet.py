"""Distillation of feature maps by mean squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, mse_loss

from w2s_fast.core.fields import Limits

if TYPE_CHECKING:
    from w2s_fast.backbones.cifar.staged import Stages

HINT = 2


@dataclass(frozen=True, kw_only=True)
class FitNet:
    """Romero et al. 2015, arXiv 1412.6550, in one stage, as both code bases have it.

    variant: `stages` is ggjy's (commit c020783): the stem and the first three stages, each projected by a plain 1x1
    convolution; maps of unlike sides are pooled to the smaller, where the released code fails. `hint` is mdistiller's
    (a08d46f) and CRD's single middle layer with batch norm and ReLU, whose weight is 100 there.
    """

    variant: str = "stages"
    limits: ClassVar[Limits] = {"variant": ("stages", "hint")}

    def bind(self, student: Stages, teacher: Stages) -> FitNetModule:
        """The projectors from the student's channels to the teacher's."""
        last = min(len(student.post), len(teacher.post)) - 1
        levels = [min(HINT, last)] if self.variant == "hint" else list(range(min(4, last + 1)))
        return FitNetModule(student, teacher, levels, active=self.variant == "hint")


class FitNetModule(nn.Module):
    def __init__(self, student: Stages, teacher: Stages, levels: list[int], *, active: bool) -> None:
        super().__init__()
        self.levels = levels
        self.project = nn.ModuleList()
        for level in levels:
            channels, out = student.post[level].shape[1], teacher.post[level].shape[1]
            layer = nn.Conv2d(channels, out, 1, bias=False)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            self.project.append(nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU()) if active else layer)

    def value(self, student: Stages, teacher: Stages) -> Tensor:
        """The sum over levels of the mean squared error over all elements."""
        total = student.pooled.new_zeros((), dtype=student.pooled.float().dtype)
        for level, project in zip(self.levels, self.project, strict=True):
            s, t = project(student.post[level]), teacher.post[level].detach()
            side = min(s.shape[-1], t.shape[-1])
            s, t = (x if x.shape[-1] == side else adaptive_avg_pool2d(x, side) for x in (s, t))
            total = total + mse_loss(s.float(), t.float())
        return total
