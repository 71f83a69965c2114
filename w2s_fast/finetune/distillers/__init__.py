"""Distillers that read feature maps: `fitnet`, `rkd`, `reviewkd`. Losses of logits are those of w2s_fast/losses.

Each is a module (its projectors are trained along) with `value(student, teacher) -> scalar`; `Stages` as the networks
show them (stages.py). Shapes are derived from one pass over a blank image, so that every pair of networks runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from w2s_fast.core.errors import SpecError
from w2s_fast.core.specs import Spec, parse

if TYPE_CHECKING:
    from torch import Tensor, nn

    from w2s_fast.backbones.cifar.staged import Stages

    class Distiller(nn.Module):
        """What a distiller offers."""

        def value(self, student: Stages, teacher: Stages) -> Tensor: ...


DISTILLERS: dict[str, str] = {"fitnet": "fitnet:FitNet", "rkd": "rkd:Rkd", "reviewkd": "reviewkd:ReviewKd"}
"""Name -> "file:class" of its frozen options in this folder, whose `bind` makes the module."""


def is_distiller(loss: str | Spec) -> bool:
    """Whether a spec names a distiller of features rather than a loss of logits."""
    return parse(loss).name in DISTILLERS


def make_distiller(spec: str | Spec, student: Stages, teacher: Stages) -> Distiller:
    """The module of a distiller for networks whose stages on some images are these; `SpecError` where it cannot be."""
    from w2s_fast.core.fields import build

    spec = parse(spec)
    module, _, cls = DISTILLERS[spec.name].partition(":")
    options: Any = build(getattr(import_module(f"{__name__}.{module}"), cls), spec, what="distiller")
    if spec.name != "rkd" and (not student.post or not teacher.post):
        whose = "student" if not student.post else "teacher"
        raise SpecError(f"{spec.name} reads feature maps, and the {whose} shows none; take rkd, or a loss of logits")
    return options.bind(student, teacher)
