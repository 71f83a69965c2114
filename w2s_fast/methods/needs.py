"""What losses read besides weak logits and labels: a zero-shot prior, made where one is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from w2s_fast import losses
from w2s_fast.core.errors import MissingText
from w2s_fast.methods.references import zero_shot_prior
from w2s_fast.methods.task import Task

if TYPE_CHECKING:
    from w2s_fast.methods.arms import Arm


def check_prior(task: Task, arms: Sequence[Arm]) -> None:
    """Refuse a loss that reads a prior where there is no text (`MissingText`)."""
    for arm in arms:
        if task.text is None and "prior" in losses.make(arm.method.loss).needs:
            raise MissingText(
                f"{arm.method.name}: its loss reads the zero-shot prior, which needs text features, and {task.strong} "
                f"gives none ({task.text_note}); take a loss without a prior, such as kd"
            )


def prior_for(task: Task, arms: Sequence[Arm]) -> Tensor | None:
    """log softmax(logit_scale cos) f[N, k] where the loss of an arm reads it."""
    wanted = any("prior" in losses.make(arm.method.loss).needs for arm in arms)
    return zero_shot_prior(task) if wanted else None
