"""What losses read besides weak logits: a zero-shot prior, which is made here, and true labels, to be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from w2s_fast import losses
from w2s_fast.core.errors import MissingText, UsageError
from w2s_fast.losses import CallableLoss
from w2s_fast.losses.dkd import Dkd
from w2s_fast.methods.references import zero_shot_prior
from w2s_fast.methods.task import Task

if TYPE_CHECKING:
    from w2s_fast.methods.fit import Arm


def check_needs(task: Task, arms: Sequence[Arm]) -> None:
    """Refuse a prior without text (`MissingText`), and the truth where nobody asked for it (`UsageError`).

    A weak-to-strong run reads labels only with w_gt > 0, on supervision `gt`, or in a function that says so itself.
    """
    for arm in arms:
        loss = losses.make(arm.method.loss)
        if task.text is None and "prior" in loss.needs:
            raise MissingText(
                f"{arm.method.name}: its loss reads the zero-shot prior, which needs text features, and {task.strong} "
                f"gives none ({task.text_note}); take a loss without a prior, such as kd"
            )
        asked = arm.supervision == "gt" or arm.settings.w_gt > 0 or isinstance(loss, CallableLoss)
        if "labels" in loss.needs and not asked:
            instead = ", or take the weak label: dkd(target='weak')" if isinstance(loss, Dkd) else ""
            raise UsageError(
                f"{arm.method.name}: its loss reads true labels, which a student of a weak model never sees; ask for "
                f"them openly (--set w_gt=1, or --supervision gt){instead}"
            )


def prior_for(task: Task, arms: Sequence[Arm]) -> Tensor | None:
    """log softmax(logit_scale cos) f[N, k] where the loss of an arm reads it."""
    wanted = any("prior" in losses.make(arm.method.loss).needs for arm in arms)
    return zero_shot_prior(task) if wanted else None
