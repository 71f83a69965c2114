"""Train a weak supervisor: a whole network on ground-truth labels, from tensors, with explicit randomness."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch.nn.functional import cross_entropy, pad

from w2s_fast.core.errors import DataError, TrainError, UsageError, nearest
from w2s_fast.core.schedule import SCHEDULES

if TYPE_CHECKING:
    from torch import Tensor, nn

Optimizer = Literal["adam", "sgd"]
Schedule = Literal["constant", "linear", "cosine"]
Augment = Literal["none", "flip", "flip_crop"]
Progress = Callable[[int, int, float], None]
"""Called after each step with the steps done, the steps in all, and the loss of the last batch."""


@dataclass(frozen=True, kw_only=True)
class WeakRecipe:
    """How a supervisor is trained.

    Batches hold `batch_size` images, fewer on a data set so small that a pass would have under `min_batches` steps.
    Length: `steps`, or else `epochs` passes but at least `min_steps` steps. `warmup` is the fraction of steps over
    which the rate rises linearly from 0; then it stays (`constant`) or falls to 0 (`linear`, `cosine`).
    `weight_decay` (decoupled) spares biases and norms. `augment`: `flip` mirrors half of the images, `flip_crop`
    also shifts them by up to an eighth of their side. Raises UsageError for values outside of these.
    """

    batch_size: int
    lr: float
    steps: int | None = None
    epochs: int | None = None
    min_steps: int = 0
    min_batches: int = 1
    optimizer: Optimizer = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "linear"
    warmup: float = 0.1
    augment: Augment = "none"

    def __post_init__(self) -> None:
        for name, known in (("optimizer", Optimizer), ("schedule", Schedule), ("augment", Augment)):
            value: str = getattr(self, name)
            if value not in get_args(known):
                raise UsageError(f"weak recipe: {name} cannot be {value!r}{nearest(value, get_args(known))}")
        if (self.steps is None) == (self.epochs is None):
            raise UsageError("weak recipe: give either steps or epochs")
        if min(self.batch_size, self.steps or 1, self.epochs or 1) < 1 or not self.lr > 0:
            raise UsageError("weak recipe: batch_size, steps, epochs and lr must be positive")

    def batch_of(self, n: int) -> int:
        """Images per step on `n` images; at least 16 where there are so many, since batch norm wants company."""
        return min(self.batch_size, max(16, n // self.min_batches))

    def total_steps(self, n: int) -> int:
        """Optimiser steps on `n` images."""
        if self.steps is not None:
            return self.steps
        return max(self.min_steps, (self.epochs or 0) * math.ceil(n / self.batch_of(n)))

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of step 0 <= `step` < `steps`; the first step of a warm-up has rate 0."""
        schedule = SCHEDULES[self.schedule](warmup=self.warmup)
        return self.lr * float(schedule.factor(np.array([step]), steps)[0])


DRAWN_RECIPE = WeakRecipe(batch_size=32, lr=3e-3, steps=1600, schedule="cosine", warmup=0.05)
"""For `DrawnCNN` on a few images per class: trained far beyond zero training error, so that its errors on new images
look like noise. (An underfitted teacher errs systematically, students imitate that, and fall below it.)"""

FINETUNE_RECIPE = WeakRecipe(
    batch_size=512, lr=1e-3, epochs=3, min_steps=100, min_batches=16, schedule="linear", warmup=0.1
)
"""For pre-trained timm / torchvision networks with a new head: the weak models of the CPL paper (3 epochs at batch
512, Adam, rate 1e-3, warm-up 0.1, linear decay); small data sets get batches of a sixteenth, and at least 100 steps."""


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Within the block torch's own generators start from `seed`; afterwards they are as they were before.

    Modules draw their initial weights, and dropout its masks, from torch's global generators only. This lends them a
    seeded state without leaving a trace: `with seeded(3): model = DrawnCNN(40)`.
    """
    d = torch.device(device)
    devices = [d.index or 0] if d.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def fit_supervisor(
    model: nn.Module,
    images: Tensor | Callable[[Tensor], Tensor],
    labels: Tensor,
    *,
    recipe: WeakRecipe,
    seed: int,
    device: torch.device | str = "cpu",
    autocast: bool = False,
    progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Train `model` in place with cross-entropy on the labels, and leave it in evaluation mode on `device`.

    Arguments:
        model: a module from images f[b, 3, h, w] to logits f[b, k]; parameters without grad stay as they are.
        images: uint8 [n, 3, h, w] (taken to -1..1), or float [n, 3, h, w] as prepared for the model, or a callable
            from row numbers i[b] to such a float batch.
        labels: i[n] in 0..k-1.
        seed: decides batch order, augmentation and dropout. Initial weights are the caller's: build the model inside
            `seeded(seed)`. On one CPU with one number of threads the same seed gives the same weights.
        autocast: compute in bfloat16 where torch deems it safe.

    Returns curves with one value per pass over the data: `loss` and `accuracy` (of the training batches, as seen
    during the pass), and `lr` (of its last step).

    Raises DataError for labels that do not fit the images or the model, TrainError when the loss is not finite.
    """
    device = torch.device(device)
    n = len(labels)
    if n == 0:
        raise DataError("weak supervisor: no images to train on")
    if isinstance(images, torch.Tensor) and len(images) != n:
        raise DataError(f"weak supervisor: {n} labels for {len(images)} images")
    if int(labels.min()) < 0:
        raise DataError(f"weak supervisor: row {int(labels.argmin())} has no label ({int(labels.min())})")
    steps = recipe.total_steps(n)
    curves: dict[str, list[float]] = {"loss": [], "accuracy": [], "lr": []}
    model.to(device).to(memory_format=torch.channels_last).train()  # convolutions run nearly twice as fast on a CPU
    optimizer = _optimizer(model, recipe)
    step, epoch = 0, 0
    with seeded(seed, device):
        while step < steps:
            rng = np.random.default_rng([seed, epoch])
            total, right, seen, lr = 0.0, 0, 0, 0.0
            for rows in _batches(rng.permutation(n), recipe.batch_of(n))[: steps - step]:
                lr = recipe.lr_at(step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                x = augmented(_prepared(images, rows).to(device, non_blocking=True), recipe.augment, rng)
                x = x.contiguous(memory_format=torch.channels_last)
                y = labels[rows].to(device, torch.int64, non_blocking=True)
                with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                    logits = model(x)
                if step == 0 and logits.shape[1] <= int(labels.max()):
                    raise DataError(f"weak supervisor: label {int(labels.max())}, but {logits.shape[1]} outputs")
                loss = cross_entropy(logits.float(), y)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                step += 1
                value = loss.item()
                if not math.isfinite(value):
                    raise TrainError(f"weak supervisor: the loss is {value} at step {step}; lower lr ({recipe.lr})")
                total += value * len(rows)
                right += int((logits.argmax(1) == y).sum())
                seen += len(rows)
                if progress is not None:
                    progress(step, steps, value)
            for name, value in (("loss", total / seen), ("accuracy", right / seen), ("lr", lr)):
                curves[name].append(value)
            epoch += 1
    model.to(memory_format=torch.contiguous_format).eval()
    return curves


def augmented(x: Tensor, augment: str, rng: np.random.Generator) -> Tensor:
    """Mirrored and shifted copies of a batch f[b, 3, h, w], as `WeakRecipe.augment` says; reads `rng` only."""
    if augment == "none":
        return x
    mirror = torch.from_numpy(rng.random(len(x)) < 0.5).to(x.device)
    x = torch.where(mirror[:, None, None, None], x.flip(3), x)
    if augment == "flip":
        return x
    h, w = x.shape[2:]
    down, right = (torch.from_numpy(rng.integers(0, 2 * (s // 8) + 1, len(x))).to(x.device) for s in (h, w))
    wide = pad(x, (w // 8, w // 8, h // 8, h // 8), mode="replicate")
    rows = down[:, None] + torch.arange(h, device=x.device)
    columns = right[:, None] + torch.arange(w, device=x.device)
    item = torch.arange(len(x), device=x.device)
    return wide.permute(0, 2, 3, 1)[item[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _prepared(images: Tensor | Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    if not isinstance(images, torch.Tensor):
        return images(rows)
    x = images[rows]
    return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x


def _batches(order: np.ndarray, size: int) -> list[Tensor]:
    """Consecutive batches; a last batch of one row, which batch norm cannot take, joins the one before it."""
    batches = list(torch.from_numpy(order).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _optimizer(model: nn.Module, recipe: WeakRecipe) -> torch.optim.Optimizer:
    free = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in free if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in free if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.lr)
