"""The value that a step descends: ground truth, and a loss of logits or a distiller of features, both weighted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from w2s_fast import losses
from w2s_fast.backbones.cifar.staged import Stages
from w2s_fast.core.errors import UsageError
from w2s_fast.core.specs import parse
from w2s_fast.finetune.distillers import is_distiller, make_distiller
from w2s_fast.finetune.teachers import Teacher
from w2s_fast.finetune.training import Training
from w2s_fast.finetune.views import Rows, View, Views
from w2s_fast.losses.loss import Loss
from w2s_fast.losses.supervision import Batch


@dataclass(eq=False)
class Objective:
    """`gt` CE(labels) + `loss_weight` of the loss, as a sum over rows: parts of a batch add up to the whole."""

    training: Training
    labels: Tensor | None
    teacher: Teacher | None
    epochs: int
    loss: Loss | None = None
    distiller: Any = None
    memory: dict[str, Tensor] | None = None
    pending: tuple[Tensor, Batch] | None = None

    @property
    def module(self) -> nn.Module | None:
        """What of it is trained along."""
        return self.distiller

    def value(self, seen: Stages, view: View, rows: Rows, epoch: int, *, distil: bool, divisor: int) -> Tensor:
        """The objective's part for these rows, over `divisor` rows in all."""
        z = seen.logits.float()
        share = len(rows) / divisor
        total = z.new_zeros(())
        labels, partners = self._labels(view, rows, z.device)
        if self.training.gt > 0:
            total = total + self.training.gt * share * self._truth(z, view, labels, partners)
        weight = self.training.loss_weight * self._warm(epoch)
        if not distil or weight == 0 or self.teacher is None or (self.loss is None and self.distiller is None):
            return total
        if self.distiller is not None:
            return total + weight * share * self.distiller.value(seen, self.teacher.stages(view))
        assert self.loss is not None
        weak = self.teacher.logits(view, rows, epoch)
        batch = Batch(
            weak=weak, t=self._time(epoch, z), labels=self._hard(labels, partners, view), memory=self.memory or {}
        )
        total = total + weight * self.loss.value(z, batch).sum() / divisor
        if self.memory:
            self.pending = (z.detach(), batch)
        return total

    def _truth(self, z: Tensor, view: View, labels: Tensor | None, partners: Tensor | None) -> Tensor:
        assert labels is not None
        smoothing = self.training.smoothing
        if partners is None or view.share is None:
            return cross_entropy(z, labels, label_smoothing=smoothing)
        share = torch.from_numpy(view.share.astype(np.float32)).to(z.device)
        first, second = (cross_entropy(z, y, label_smoothing=smoothing, reduction="none") for y in (labels, partners))
        return (share * first + (1 - share) * second).mean()

    def _labels(self, view: View, rows: Rows, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        if self.labels is None:
            return None, None
        found = self.labels[torch.from_numpy(rows)].to(device)
        partners = None if view.partner is None else self.labels[torch.from_numpy(view.partner)].to(device)
        return found, partners

    def _hard(self, labels: Tensor | None, partners: Tensor | None, view: View) -> Tensor | None:
        """The ground-truth class for a loss that needs one: of a mixed image that of the larger share."""
        if labels is None or self.training.gt == 0:
            return None
        if partners is None or view.share is None:
            return labels
        return torch.where(torch.from_numpy(view.share >= 0.5).to(labels.device), labels, partners)

    def _warm(self, epoch: int) -> float:
        return min(1.0, (epoch + 1) / self.training.loss_warmup) if self.training.loss_warmup else 1.0

    def _time(self, epoch: int, z: Tensor) -> Tensor:
        return torch.full((1, 1), part_of(epoch, self.epochs, self.loss), dtype=torch.float32, device=z.device)

    def right(self, seen: Stages, rows: Rows) -> Tensor:
        """How many of the rows the network gets right, as a tensor; 0 without labels."""
        if self.labels is None:
            return seen.logits.new_zeros(())
        found = self.labels[torch.from_numpy(rows)].to(seen.logits.device)
        return (seen.logits.argmax(1) == found).sum()

    def after_step(self) -> None:
        """Let a loss with memory write it."""
        if self.pending is not None and self.loss is not None and self.memory:
            z, batch = self.pending
            self.loss.step(self.memory, {}, z, batch)
        self.pending = None


def part_of(epoch: int, epochs: int, loss: Loss | None) -> float:
    """The part of training that a loss's ramp sees in an epoch (from 0), in whole epochs as published code has it.

    There the ramp of a rate r ends at epoch int(r E), which is before r E: from then on it is full.
    """
    rate = next((getattr(loss, name) for name in ("ramp", "warmup") if hasattr(loss, name)), 0.0)
    part = epoch / epochs
    return max(part, float(rate)) if epoch >= int(rate * epochs) else part


def make_objective(
    training: Training,
    *,
    labels: Tensor | None,
    teacher: Teacher | None,
    epochs: int,
    student_stages: Any,
    views: Views,
    k: int,
    device: torch.device,
    seed: int,
) -> Objective:
    """The objective of a training. Errors: `UsageError` for a loss without what it needs, `SpecError` for its name."""
    spec = parse(training.loss)
    made = Objective(training=training, labels=labels, teacher=teacher, epochs=epochs)
    if training.gt > 0 and labels is None:
        raise UsageError(f"gt={training.gt} needs ground-truth labels; give gt=0 for label-free training")
    if spec.name == "none":
        return made
    if teacher is None:
        raise UsageError(f"loss {training.loss} needs a teacher; give --teacher MODEL, or --loss none")
    if is_distiller(spec):
        rows = np.arange(min(2, views.n))
        view = views.batch(rows, seed=seed, epoch=0)
        with torch.no_grad():
            made.distiller = make_distiller(spec, student_stages(view.x), teacher.stages(view)).to(device)
        return made
    loss = losses.make(spec)
    if "labels" in loss.needs and training.gt == 0:
        raise UsageError(
            f"loss {spec.name} needs ground truth, and gt=0 is label-free; take {spec.name}(target='weak'), or gt=1"
        )
    if "prior" in loss.needs or "teachers" in loss.needs:
        raise UsageError(f"loss {spec.name} needs {', '.join(sorted(loss.needs))}, which whole networks do not have")
    made.loss = loss
    made.memory = loss.memory((), k, 1, dtype=torch.float32, device=device)
    if any(value.requires_grad for value in made.memory.values()):
        raise UsageError(f"loss {spec.name} learns a weight for each teacher, and a network has one; take kd")
    return made
