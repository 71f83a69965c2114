"""How a whole network is trained: one frozen value, and the optimiser and rates that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from w2s_fast.core.errors import UsageError, nearest
from w2s_fast.core.schedule import make_schedule

if TYPE_CHECKING:
    from torch import nn

OPTIMIZERS = ("adam", "sgd", "nesterov")
CHOICES = {
    "optimizer": OPTIMIZERS,
    "rates": ("step", "epoch"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "until": ("end", "teacher"),
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything about a fit but its data, networks and seed.

    batch_size: images per step, fewer on a data set so small that a pass would have under `min_batches` steps.
    epochs or steps: the length; `min_steps` is its least. lr, optimizer (`adam` decays weights decoupled, as AdamW),
    momentum, weight_decay; decay_all: also of biases and norms; layer_decay: the rate falls by this factor a layer
    from the head down (timm's groups). schedule: core's, over `rates` = steps, or epochs as timm and mdistiller do.
    augment: see augment/. loss: of the losses, or a feature distiller (`fitnet`, `rkd`, `reviewkd`), or `none`.
    loss_weight and gt: weights of that loss and of the cross-entropy to ground truth (0: label-free), with
    `smoothing` of labels; loss_warmup: epochs over which loss_weight grows to itself. until: `teacher` switches the
    loss off once the student is as good on hold-val.
    accumulate: parts that a batch is computed in. ema: decay of averaged weights (0: none), which are then evaluated.
    precision: `auto` is bfloat16 on a GPU that has it, else float32. Raises UsageError for values outside of these.
    """

    batch_size: int = 64
    lr: float = 0.05
    epochs: int | None = None
    steps: int | None = None
    min_steps: int = 0
    min_batches: int = 1
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_all: bool = False
    layer_decay: float = 1.0
    schedule: str = "linear(warmup=0.1)"
    rates: str = "step"
    augment: str = "none"
    loss: str = "none"
    loss_weight: float = 1.0
    loss_warmup: int = 0
    gt: float = 1.0
    smoothing: float = 0.0
    until: str = "end"
    accumulate: int = 1
    ema: float = 0.0
    clip: float = 0.0
    precision: str = "auto"
    checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise UsageError(f"training: {name} cannot be {value!r}{nearest(str(value), known)}")
        if (self.steps is None) == (self.epochs is None):
            raise UsageError("training: give either steps or epochs")
        length = self.epochs if self.steps is None else self.steps
        if min(self.batch_size, length or 0, self.accumulate) < 1 or not self.lr > 0:
            raise UsageError("training: batch_size, steps, epochs, accumulate and lr must be positive")
        if not 0 <= self.ema < 1 or not 0 <= self.smoothing < 1 or not 0 < self.layer_decay <= 1:
            raise UsageError("training: ema and smoothing lie in [0, 1), layer_decay in (0, 1]")
        if min(self.gt, self.loss_weight) < 0 or (self.loss == "none" and self.gt == 0):
            raise UsageError("training: without ground truth (gt 0) there must be a loss that a teacher supervises")
        make_schedule(self.schedule)

    def batch_of(self, n: int) -> int:
        """Images per step on `n` images; at least 16 where there are so many, since batch norm wants company."""
        return min(self.batch_size, max(16, n // self.min_batches))

    def steps_per_epoch(self, n: int) -> int:
        """Steps of one pass over n images (a last batch of one joins the one before)."""
        size = self.batch_of(n)
        full, rest = divmod(n, size)
        return max(1, full + (rest > 1))

    def total_steps(self, n: int) -> int:
        """Optimiser steps on `n` images."""
        if self.steps is not None:
            return self.steps
        return max(self.min_steps, (self.epochs or 0) * self.steps_per_epoch(n))

    def total_epochs(self, n: int) -> int:
        """Passes over n images, the last one perhaps in part."""
        return math.ceil(self.total_steps(n) / self.steps_per_epoch(n))

    def rate_factors(self, n: int) -> np.ndarray:
        """The factor on lr at each step, f64[steps]."""
        schedule, steps, per = make_schedule(self.schedule), self.total_steps(n), self.steps_per_epoch(n)
        if self.rates == "step":
            return schedule.factor(np.arange(steps), steps)
        epochs = self.total_epochs(n)
        return schedule.factor(np.arange(epochs), epochs).repeat(per)[:steps]


def known_fields() -> tuple[str, ...]:
    """Names of a training's fields."""
    return tuple(f.name for f in fields(Training))


def make_optimizer(model: nn.Module, extra: nn.Module | None, training: Training) -> torch.optim.Optimizer:
    """The optimiser over the parameters of a network and of its distiller that are free; `base_lr` in each group.

    Published code builds it from the network alone under layer decay, so that a projector is never trained.
    """
    if training.layer_decay < 1:
        groups = _layers(model, training)
    else:
        free = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in free if training.decay_all or p.ndim >= 2], "weight_decay": training.weight_decay},
            {"params": [p for p in free if not training.decay_all and p.ndim < 2], "weight_decay": 0.0},
        ]
    added = [] if extra is None else [p for p in extra.parameters() if p.requires_grad]
    groups += [{"params": added, "weight_decay": training.weight_decay}]
    for group in groups:
        group["lr"] = group["base_lr"] = training.lr * group.pop("lr_scale", 1.0)
    groups = [group for group in groups if group["params"]]
    if training.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=training.lr)
    nesterov = training.optimizer == "nesterov"
    return torch.optim.SGD(groups, lr=training.lr, momentum=training.momentum, nesterov=nesterov)


def _layers(model: nn.Module, training: Training) -> list[dict[str, Any]]:
    from timm.optim import param_groups_layer_decay

    if not hasattr(model, "group_matcher"):
        raise UsageError(
            f"layer_decay={training.layer_decay}: {type(model).__name__} does not say which layer a weight is of; "
            f"take a timm network, or layer_decay=1"
        )
    spared = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()  # type: ignore[operator]
    return param_groups_layer_decay(
        model, training.weight_decay, no_weight_decay_list=tuple(spared), layer_decay=training.layer_decay
    )
