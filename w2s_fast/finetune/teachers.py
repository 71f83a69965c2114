"""The weak teacher of a network: it runs along on every view, or its logits on K views of each image are a bank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from w2s_fast.backbones.cifar.staged import Stages
from w2s_fast.core.errors import TrainError
from w2s_fast.finetune.stages import stages_of
from w2s_fast.finetune.views import Rows, View, Views

OnBank = Callable[[int, int], None]


class Teacher(Protocol):
    """What supervises a network."""

    def view_of(self, seed: int, epoch: int) -> tuple[int, int]:
        """The (seed, epoch) whose views are trained on in this epoch of the run with this seed."""
        ...

    def logits(self, view: View, rows: Rows, epoch: int) -> Tensor:
        """Raw logits f[b, k] on the view, without gradient."""
        ...

    def stages(self, view: View) -> Stages:
        """Feature maps too; `TrainError` where they are not had."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveTeacher:
    """A network in evaluation mode; `columns` i[k] are its outputs in the order of the student's classes."""

    module: nn.Module
    columns: Tensor | None = None

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)
        object.__setattr__(self, "_stages", stages_of(self.module))

    def view_of(self, seed: int, epoch: int) -> tuple[int, int]:
        return seed, epoch

    def logits(self, view: View, rows: Rows, epoch: int) -> Tensor:
        return self.stages(view).logits

    def stages(self, view: View) -> Stages:
        with torch.no_grad():
            seen: Stages = self._stages(view.x)  # type: ignore[attr-defined]
            if self.columns is None:
                return seen
            logits = seen.logits.index_select(1, self.columns.to(seen.logits.device))
        return Stages(post=seen.post, pre=seen.pre, pooled=seen.pooled, logits=logits)


@dataclass(frozen=True, kw_only=True, eq=False)
class TeacherBank:
    """Logits f[views, n, k] on views 0..views-1 of a seed of the bank's own, which all runs read in turn.

    A run then sees `views` augmentations of each image instead of one an epoch, in an order of its own.
    """

    table: Tensor
    seed: int

    def view_of(self, seed: int, epoch: int) -> tuple[int, int]:
        return self.seed, epoch % len(self.table)

    def logits(self, view: View, rows: Rows, epoch: int) -> Tensor:
        found = self.table[epoch % len(self.table)].index_select(0, torch.from_numpy(rows))
        return found.to(view.x.device).float()

    def stages(self, view: View) -> Stages:
        raise TrainError(
            "a teacher bank holds logits, and this distiller reads feature maps; let the teacher run along"
        )


def make_bank(
    teacher: LiveTeacher, views: Views, count: int, *, seed: int, size: int = 256, progress: OnBank | None = None
) -> TeacherBank:
    """The teacher's logits on `count` views of each image, float32: every view is computed once."""
    parts: list[Tensor] = []
    done, total = 0, count * views.n
    for number in range(count):
        rows_of: list[NDArray[np.int64]] = np.split(np.arange(views.n), np.arange(size, views.n, size))
        for rows in rows_of:
            view = views.batch(rows, seed=seed, epoch=number)
            parts.append(teacher.logits(view, rows, number).float().cpu())
            done += len(rows)
            if progress is not None:
                progress(done, total)
    table = torch.cat(parts)
    return TeacherBank(table=table.view(count, views.n, table.shape[1]), seed=seed)


def as_teacher(found: Any) -> Teacher | None:
    """A teacher as it is, or a network that runs along."""
    return LiveTeacher(module=found) if isinstance(found, nn.Module) else found
