"""The weak teacher of a network: it runs along on every view, or its logits on K views of each image are a bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from w2s_fast.backbones.cifar.staged import Stages
from w2s_fast.core.errors import TrainError, UsageError
from w2s_fast.finetune.images import Pixels
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
    """A network in evaluation mode.

    columns: i[k], its outputs in the order of the student's classes. adapt: from the student's inputs to its own.
    """

    module: nn.Module
    columns: Tensor | None = None
    adapt: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        self.module.eval().requires_grad_(False)
        object.__setattr__(self, "_stages", stages_of(self.module))

    def view_of(self, seed: int, epoch: int) -> tuple[int, int]:
        return seed, epoch

    def logits(self, view: View, rows: Rows, epoch: int) -> Tensor:
        return self.stages(view).logits

    def stages(self, view: View) -> Stages:
        with torch.no_grad():
            x = view.x if self.adapt is None else self.adapt(view.x)
            seen: Stages = self._stages(x)  # type: ignore[attr-defined]
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


def columns_of(teacher: Sequence[str], student: Sequence[str], *, name: str) -> Tensor | None:
    """The teacher's output of each of the student's classes, joined by name; None where they are the same in order.

    `UsageError` names a class that one of them lacks.
    """
    if tuple(teacher) == tuple(student):
        return None
    lacks, more = sorted(set(student) - set(teacher)), sorted(set(teacher) - set(student))
    if lacks or more:
        one = f"does not know the class {lacks[0]!r}" if lacks else f"knows the class {more[0]!r}, which the data lack"
        raise UsageError(f"teacher {name} {one}; train one on this data: w2s-fast weak --data ...")
    return torch.tensor([list(teacher).index(one) for one in student])


def adapted(own: dict[str, Any], pixels: Pixels, side: int) -> Callable[[Tensor], Tensor] | None:
    """From the inputs of a student to those of a network with another preprocessing; None where they are the same."""
    theirs = Pixels.of(lambda image: image, own)
    size = int(own.get("size") or own.get("crop_size") or side) if not isinstance(own.get("size"), list) else side
    if (theirs.mean, theirs.std) == (pixels.mean, pixels.std) and size == side:
        return None

    def adapt(x: Tensor) -> Tensor:
        shape = (3, 1, 1)
        unit = x * x.new_tensor(pixels.std).view(shape) + x.new_tensor(pixels.mean).view(shape)
        if size != side:
            unit = interpolate(unit, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        return (unit - x.new_tensor(theirs.mean).view(shape)) / x.new_tensor(theirs.std).view(shape)

    return adapt
